"""State worker: `python -m wm_robot_ros.state_api.worker REQUEST` runs long work on a state, at low priority.

The request is JSON, and so is each line of the answer: `{"progress": …, "doing": …}` during the work, and at the end
`{"result": …}` or `{"error": …}`. To cancel the work, end the process: a state is saved completely or not at all.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wm_robot.agent.saved_lifetime import keep, state_of, steps_of
from wm_robot.errors import SnapshotError, SpecError, WmRobotError
from wm_robot.evaluation.acceptance import SETTLED, mean_error, parted, tried
from wm_robot.evaluation.adaptation import HORIZON
from wm_robot.io.base_file import find_base
from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.backend import ModelBackend, Prediction
from wm_robot.model.base import Base, load_base
from wm_robot.recording.recorded_experience import recorded
from wm_robot.robots import load_spec
from wm_robot.sharing.assimilate import Stretch
from wm_robot.spec import RobotSpec
from wm_robot.store.store import Store
from wm_robot.types import Episode, Step

LOWEST = 19
SAY_EVERY = 0.2
"""Time between two lines of progress, in s."""


class Watched:
    """Model backend that measures the error of each one-step prediction, and counts the steps."""

    def __init__(self, lives: ModelBackend[np.ndarray], base: Base, lived: Callable[[], None]):
        """Args:
        on_step: Called after each step.
        """
        self._lives, self._lived, self._unit = lives, lived, base.model.change_std.numpy()
        self._nll: list[float] = []
        self._error: list[float] = []

    def birth(self, *, hold: np.ndarray, truth: np.ndarray | None = None) -> ArrayState:
        return self._lives.birth(hold=hold, truth=truth)

    def predict(self, state: ArrayState, obs: np.ndarray, action: np.ndarray) -> Prediction[np.ndarray]:
        return self._lives.predict(state, obs, action)

    def write(self, state: ArrayState, step: Step[np.ndarray]) -> tuple[Prediction[np.ndarray], ArrayState]:
        expected, after = self._lives.write(state, step)
        if step.valid.all():
            apart = step.next_obs - expected.mean
            nll = apart**2 / np.exp(expected.log_variance) + expected.log_variance + np.log(2 * np.pi)
            self._nll.append(float(0.5 * nll.mean()))
            self._error.append(float(((apart / self._unit) ** 2).mean()))
        self._lived()
        return expected, after

    def figures(self) -> dict[str, float]:
        """Compute the means over the valid steps."""
        return {"surprise": float(np.mean(self._nll)), "step_error": float(np.mean(self._error))}


class Teller:
    """Progress report on stdout."""

    def __init__(self, total: int):
        self._total, self._done, self._due, self._parent = max(total, 1), 0, 0.0, os.getppid()
        self.doing = ""

    def step(self) -> None:
        self._done += 1
        if time.monotonic() < self._due:
            return
        if os.getppid() != self._parent:
            # The agent that waits for the result has ended.
            raise SystemExit(1)
        self._due = time.monotonic() + SAY_EVERY
        say(progress=min(self._done / self._total, 1.0), doing=self.doing)


def say(**values: Any) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def evaluate(
    base: Base,
    spec: RobotSpec,
    folder: Path,
    *,
    store: str,
    references: list[str],
    recordings: list[str],
    robot: str,
) -> dict[str, Any]:
    """Compute the prediction errors of saved states on recordings, with each state updated along them."""
    place = Store(store)
    heads = [place.find(reference) for reference in references]
    stretches = _long_enough(recorded([Path(path) for path in recordings], spec, robot))
    steps = sum(stretch.steps for stretch in stretches)
    teller, rows = Teller(steps * len(heads)), []
    for head in heads:
        state = state_of(place, head, base, spec)
        teller.doing = f"state {head[:12]}"
        watched = Watched(steps_of(folder, base), base, teller.step)
        ahead = mean_error(base.model, watched, state, stretches)
        rows.append(watched.figures() | {"ahead_error": ahead})
    return {"snapshots": heads, "steps": steps, "metrics": rows}


def assimilate(
    base: Base,
    spec: RobotSpec,
    folder: Path,
    *,
    store: str,
    reference: str,
    branch: str,
    recordings: list[str],
    robot: str,
    own: list[str],
    own_robot: str,
) -> dict[str, Any]:
    """Update a copy of a state with the recordings of another robot, and save it as a branch if it improves."""
    place = Store(store)
    if branch and branch in place.branches():
        raise SnapshotError(
            f"branch '{branch}' exists already in {store}. Name another branch for the result"
        )
    head = place.find(reference)
    state = state_of(place, head, base, spec)
    theirs = recorded([Path(path) for path in recordings], spec, robot)
    mine = recorded([Path(path) for path in own], spec, own_robot)
    (_, mine_kept), (taken, theirs_kept) = (
        parted([Stretch.of(each) for each in episodes]) for episodes in (mine, theirs)
    )
    lived, held_out = (sum(each.steps for each in part) for part in (taken, [*mine_kept, *theirs_kept]))
    teller = Teller(lived + 2 * held_out)
    teller.doing = f"{lived} steps, and {held_out} held out"
    lives = Watched(steps_of(folder, base), base, teller.step)
    after, verdict = tried(base.model, lives, state, mine, theirs)
    saved = ""
    if branch and verdict.accepted:
        note = "assimilated " + ", ".join(Path(path).name for path in recordings)
        saved = keep(place, branch, after, base, spec, [head], note, verdict.figures())
    return {
        "accepted": verdict.accepted,
        "told": verdict.told(),
        "steps": lived,
        "metrics": verdict.figures(),
        "snapshot": saved,
    }


def _long_enough(episodes: Sequence[Episode]) -> list[Stretch]:
    """Select the episodes that have steps left after the excluded first part.

    Raises:
        SpecError: If no episode is long enough.
    """
    least = SETTLED + HORIZON + 1
    found = [Stretch.of(each) for each in episodes if len(each) >= least]
    if not found:
        raise SpecError(f"no episode in the recordings has {least} steps. Record for longer")
    return found


WORK: dict[str, Callable[..., dict[str, Any]]] = {"assimilate": assimilate, "evaluate": evaluate}


def main() -> None:
    """Run the request; exit with code 2 for an error that the user can fix."""
    os.nice(LOWEST)
    torch.set_num_threads(1)
    request = json.loads(sys.argv[1])
    work = WORK[request.pop("work")]
    try:
        spec = load_spec(request.pop("spec"))
        folder = find_base(request.pop("base"))
        base = load_base(folder)
        base.check_spec(spec)
        say(result=work(base, spec, folder, **request))
    except (WmRobotError, OSError) as error:
        say(error=f"{type(error).__name__}: {error}")
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
