"""Effect strength: the strength at which an effect harms frozen weights as much as an undeclared change should.

To set those of a robot again, in the file that ships: `python -m wm_robot_benchmarks.measures.effect_strength arm`.
"""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wm_robot.progress import Progress, ignore_progress
from wm_robot_benchmarks.harness.bench import BASES
from wm_robot_benchmarks.harness.result import Setting, load_bases
from wm_robot_benchmarks.undeclared import FROZEN, make_lives
from wm_robot_cli.worker_processes import in_processes

if TYPE_CHECKING:
    from wm_robot.model.world_model import WorldModel

HARM = 3.5
"""Wanted error of frozen weights after 100 steps, in those of the nominal robot: 2 to 6 count as equal."""
EXPERIENCE = 100
"""Steps of experience."""
LIVES, SEED = 64, 10_000
"""Robots of a measurement, and their seed, which no bench uses."""
HALVINGS = 7
"""Of the ratio of the largest to the least strength that is left."""


def get_strengths(setting: Setting, kinds: Sequence[str]) -> dict[str, float]:
    """Return the strength of each kind that was set for a robot; those without one are found, which takes minutes."""
    from wm_robot.robots import load_spec
    from wm_robot_sim.effects.strengths import load_strengths

    known = load_strengths(load_spec(setting.robot).name)
    missing = [kind for kind in kinds if kind not in known]
    found = find_strengths(setting, missing, ignore_progress) if missing else {}
    return {kind: known.get(kind) or found[kind] for kind in kinds}


def find_strengths(setting: Setting, kinds: Sequence[str], progress: Progress) -> dict[str, float]:
    """Find the strength of each kind by the frozen base of a robot."""
    jobs = [(setting, kind) for kind in kinds]
    return dict(zip(kinds, in_processes(find_strength, jobs, progress), strict=True))


def find_strength(setting: Setting, kind: str, *, progress: Progress = ignore_progress) -> float:
    """Find the strength of a kind by halving: larger strengths harm more, near enough.

    A kind that never harms as much gets the largest strength, and one that always harms more the smallest.
    """
    from wm_robot_sim.effects.effect import EFFECT_KINDS

    model = load_bases(setting, [FROZEN])[FROZEN].model
    nominal = _measure_error(setting, model, "nominal", 0.0)
    low, high = EFFECT_KINDS[kind].strengths
    for number in range(HALVINGS):
        middle = (low * high) ** 0.5
        if _measure_error(setting, model, kind, middle) < HARM * nominal:
            low = middle
        else:
            high = middle
        progress(number + 1, HALVINGS)
    return float(f"{(low * high) ** 0.5:.3g}")


def _measure_error(setting: Setting, model: "WorldModel", row: str, strength: float) -> float:
    from wm_robot.evaluation.adaptation import Variant, compute_error_by_step

    seen = make_lives(setting, row, strength, LIVES, SEED, points=(EXPERIENCE,))
    variant = Variant(name=FROZEN, model=model)
    return float(compute_error_by_step(variant, seen.trajectories, [EXPERIENCE], change_std=seen.unit).mean())


def main() -> None:
    """Set the strengths of robots in the file that ships."""
    from wm_robot.robots import load_spec
    from wm_robot_sim.effects.effect import EFFECT_KINDS, find_lack
    from wm_robot_sim.effects.strengths import FILE

    for robot in sys.argv[1:]:
        spec = load_spec(robot)
        kinds = [kind for kind in EFFECT_KINDS if not find_lack(spec, kind)]
        found = find_strengths(Setting("undeclared", robot, (SEED,), False, BASES), kinds, ignore_progress)
        content = {**json.loads(FILE.read_text(encoding="utf-8")), spec.name: found}
        FILE.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
