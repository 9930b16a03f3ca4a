"""Runs the demo where ROS 2 is hidden, and writes down what chart, screen and film were given.

In a process of its own, where no type checks of the tests slow each control step down.
"""

import argparse
import json
import sys
from dataclasses import asdict, replace
from importlib import util
from pathlib import Path
from typing import Any

ROS = ("rclpy", "rosbags", "mcap", "std_msgs", "sensor_msgs", "geometry_msgs")


class Hiding:
    """A finder to which ROS 2 is not installed."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in ROS:
            raise ModuleNotFoundError(f"{name} is hidden", name=name)


def hide_ros() -> None:
    find = util.find_spec
    util.find_spec = lambda name, package=None: None if name.partition(".")[0] in ROS else find(name, package)
    sys.meta_path.insert(0, Hiding())


class Recorded:
    """A screen that remembers what it was given."""

    def __init__(self, interrupt_at: float) -> None:
        self.said: list[str] = []
        self.scenes: list[tuple[float, str, list[float | None]]] = []
        self._interrupt_at = interrupt_at

    def write_message(self, words: str) -> None:
        self.said += words.splitlines() or [""]

    def show_progress(self, scene: Any) -> None:
        self.scenes.append((scene.time, scene.sentence, [view.recent_error for view in scene.robots]))
        if scene.time > self._interrupt_at:
            raise KeyboardInterrupt

    def end_progress(self) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--robot", default="arm")
    parser.add_argument("--task", default="")
    parser.add_argument("--base", type=Path, default=None)
    parser.add_argument("--frozen", type=Path, default=None)
    parser.add_argument("--interrupt-at", type=float, default=float("inf"))
    asked = parser.parse_args()
    hide_ros()

    from wm_robot_demo import DemoOptions, run_demo
    from wm_robot_demo.scenario import DemoChange, DemoPlan

    screen, facts = Recorded(asked.interrupt_at), {}
    if asked.short:
        DemoPlan.from_seed = lambda seed, spec, task, quick=False: DemoPlan(
            first_duration=6.0,
            second_duration=1.0,
            change=replace(DemoChange.draw(seed, spec, task), time=2.5),
        )
    watch(facts, draws=not asked.short)
    options = DemoOptions(
        output_folder=asked.out,
        robot=asked.robot,
        task=asked.task,
        base=asked.base,
        frozen=asked.frozen,
        seed=asked.seed,
    )
    code = run_demo(options, screen)
    facts |= {"code": code, "said": screen.said, "scenes": screen.scenes}
    (asked.out / "facts.json").write_text(json.dumps(facts))
    loaded = sorted(set(ROS) & {name.partition(".")[0] for name in sys.modules})
    assert not loaded, f"{loaded} were imported"


def watch(facts: dict[str, Any], *, draws: bool) -> None:
    """Write down what is drawn in the chart of the first visit and in the film."""
    import numpy as np

    from wm_robot.evaluation.report import figures
    from wm_robot_demo import film

    inline, shoot = figures.encode_svg, film.render_film

    def keep_chart(figure: Any, name: str, title: str) -> str:
        if name == "first-visit":
            (axes,) = figure.axes
            bold = [line for line in axes.lines if line.get_linewidth() == 2.2]
            facts["chart"] = [[np.asarray(values).tolist() for values in line.get_data()] for line in bold]
            facts["top"] = axes.get_ylim()[1]
        return inline(figure, name, title)

    def keep_film(folder: Path, spec: Any, scenes: Any, *, outcome: Any, timeout: float) -> Path | None:
        largest = outcome.largest_difference
        facts["film"] = {
            "span": film.compute_film_span(scenes, outcome),
            "largest": asdict(largest) if largest else None,
            "caption": film.make_caption(largest.time, outcome) if largest else "",
            "errors": [float(np.interp(largest.time, s.time, s.error)) for s in scenes] if largest else [],
        }
        return shoot(folder, spec, scenes, outcome=outcome, timeout=timeout) if draws else None

    figures.encode_svg, film.render_film = keep_chart, keep_film


if __name__ == "__main__":
    main()
