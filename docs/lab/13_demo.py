"""How the demo ends for seeds 0 to 9, and what a restored state is worth under other changes. See 13-demo.md.

    python docs/lab/13_demo.py            # how seeds 0 to 9 end; some 20 s a seed
    python docs/lab/13_demo.py changes    # second visits alone, under four kinds of change; some 4 s a seed and kind
    python docs/lab/13_demo.py changes "payload alone" --seeds 1

Both run the demo's own visits in one process, as `wm-robot demo --no-ros` does.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from wm_robot.evaluation.outcome import ErrorTrack, SessionOutcome
from wm_robot.evaluation.recovery import MIN_OFF_TARGET_ERROR, START_SECONDS, compute_span_mean
from wm_robot.io.base_file import find_base
from wm_robot.robots import load_spec
from wm_robot_demo.demo_run import make_first_session, make_second_session
from wm_robot_demo.load_session import RobotTrack
from wm_robot_demo.options import DemoOptions
from wm_robot_demo.progress import SessionProgress
from wm_robot_demo.scenario import DemoChange, DemoPlan
from wm_robot_demo.single_process import run_session_in_process

LEARNS, WAKES = 8.0, 1.0
"""Seconds that a robot lives in a changed world before it is saved, and that it is then watched."""
REVERSED = '{"gain": [-1, 1, 1, 1, 1, 1]}'


class Silent:
    """A screen that shows nothing."""

    def say(self, words: str) -> None:
        pass

    def show(self, scene: SessionProgress) -> None:
        pass

    def clear(self) -> None:
        pass


def options(seed: int, out: Path) -> DemoOptions:
    return DemoOptions(
        output_folder=out, base=find_base("arm-ekf"), frozen=find_base("arm-robust"), seed=seed, ros=False
    )


def first_second(tales: list[RobotTrack]) -> tuple[float, float]:
    """Error of the restored and of the newborn arm in their first second, in m."""
    restored, newborn = (compute_span_mean(told.time, told.error, (0.0, 1.0)) for told in tales[-2:])
    return restored, newborn


def show_seeds(seeds: range) -> None:
    """Two tables with one line a seed: the first visit, and the second."""
    spec, first_lines, second_lines, ratios = load_spec("arm"), [], [], []
    for seed in seeds:
        plan = DemoPlan.from_seed(seed)
        with tempfile.TemporaryDirectory() as out:
            asked = options(seed, Path(out))
            tales = [
                *run_session_in_process(
                    make_first_session(asked, spec, plan, None), spec, Silent(), lambda robots: ""
                )
            ]
            tales += run_session_in_process(
                make_second_session(asked, spec, plan), spec, Silent(), lambda robots: ""
            )
        first_lines.append(
            f"| {seed} | {plan.change.payload:.2f} kg, {100 * plan.change.strength:.0f} % | {first(tales)} |"
        )
        second_lines.append(f"| {seed} | {second(tales)} |")
        restored, newborn = first_second(tales)
        ratios.append(restored / newborn)
        print(first_lines[-1], second_lines[-1], sep="\n", flush=True)
    print(
        "\n| seed | change | adaptive: worst | frozen: worst | off its target | back to stay | most apart |"
    )
    print("|---|---|---|---|---|---|---|", *first_lines, sep="\n")
    print("\n| seed | restored ÷ newborn | on the target | surprise of the first second | error after it |")
    print("|---|---|---|---|---|", *second_lines, sep="\n")
    print(
        f"\nRestored ÷ newborn, error of the first second: median {np.median(ratios):.2f}, "
        f"from {min(ratios):.2f} to {max(ratios):.2f}."
    )


def first(tales: list[RobotTrack]) -> str:
    """What the change did, as cells of a table."""
    tracks = [ErrorTrack(name=told.name, time=told.time, error=told.error) for told in tales[:2]]
    outcome = SessionOutcome.from_tracks(tracks, change_time=tales[0].change_time, change_description="")
    learning, frozen = outcome.recoveries
    back = (
        f"{frozen.last_off_target:.1f} s"
        if frozen.has_recovered
        else "no"
        if frozen.was_disturbed
        else "never left"
    )
    return (
        f"{1e3 * learning.worst_error:.0f} mm{', off' if learning.was_disturbed else ''} | "
        f"{1e3 * frozen.worst_error:.0f} mm | {frozen.off_target_time:.1f} of {frozen.observed_time:.1f} s | {back} "
        f"| at {outcome.largest_difference.time - outcome.change_time:.1f} s"
    )


def second(tales: list[RobotTrack]) -> str:
    """What the saved state was worth, as cells of a table."""
    adaptive, *woken = tales[0], *tales[2:]
    before = (adaptive.surprise_time >= START_SECONDS) & (adaptive.surprise_time < adaptive.change_time)
    usual = np.median(adaptive.surprise[before])
    restored, newborn = first_second(tales)
    there = ", ".join(f"{told.time[np.argmax(told.error < MIN_OFF_TARGET_ERROR)]:.2f}" for told in woken)
    times = ", ".join(f"{np.exp(told.surprise[told.surprise_time < 1].mean() - usual):.3g}" for told in woken)
    after = ", ".join(f"{1e3 * compute_span_mean(told.time, told.error, (1.0, 10.0)):.1f}" for told in woken)
    return f"{restored / newborn:.2f} | {there} s | {times} × | {after} mm"


def show_changes(wanted: list[str], seeds: range) -> None:
    """What a state that lived in a changed world is worth in the first second there.

    Args:
        wanted: Kinds of change; all if there are none.
    """
    spec = load_spec("arm")
    kinds = {
        "payload and weak shoulder": lambda change: change.world,
        "payload alone": lambda change: replace(change, strength=1.0).world,
        "weak shoulder alone": lambda change: replace(change, payload=0.0).world,
        "base_yaw reversed": lambda change: REVERSED,
    }
    print("| change | median of restored ÷ newborn, first second | range | error of the two, medians |")
    print("|---|---|---|---|")
    for kind, world_of in kinds.items():
        if wanted and kind not in wanted:
            continue
        seen = np.array([wake(seed, world_of(DemoChange.draw(seed)), spec) for seed in seeds])
        ratios, (restored, newborn) = seen[:, 0] / seen[:, 1], 1e3 * np.median(seen, 0)
        print(
            f"| {kind} | {np.median(ratios):.2f} | {ratios.min():.2f} to {ratios.max():.2f} | "
            f"{restored:.0f}, {newborn:.0f} mm |",
            flush=True,
        )


def wake(seed: int, world: str, spec) -> tuple[float, float]:
    """Live in a world, be saved and wake in it again, beside a newborn."""
    plan = DemoPlan.from_seed(seed)
    with tempfile.TemporaryDirectory() as out:
        asked = options(seed, Path(out))
        first, second = make_first_session(asked, spec, plan, None), make_second_session(asked, spec, plan)
        learning = replace(first.robots[0], world=world, change_time=-1.0)
        run_session_in_process(
            replace(first, length=LEARNS, roles=(learning,)), spec, Silent(), lambda robots: ""
        )
        roles = tuple(replace(role, world=world) for role in second.robots)
        tales = run_session_in_process(
            replace(second, length=WAKES, roles=roles), spec, Silent(), lambda robots: ""
        )
    return first_second(list(tales))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="?", choices=("seeds", "changes"), default="seeds")
    parser.add_argument("kinds", nargs="*")
    parser.add_argument("--seeds", type=int, default=10)
    asked = parser.parse_args()
    if asked.what == "changes":
        show_changes(asked.kinds, range(asked.seeds))
    else:
        show_seeds(range(asked.seeds))
