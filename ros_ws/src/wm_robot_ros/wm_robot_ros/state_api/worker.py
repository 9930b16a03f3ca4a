"""State worker: `python -m wm_robot_ros.state_api.worker REQUEST` runs long work on a state, at low priority.

The request is JSON, and so is each line of the answer: `{"progress": …, "current_work": …}` during the work, and at
the end `{"result": …}` or `{"error": …}`. To cancel the work, end the process: a state is saved completely or not at
all.
"""

import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wm_robot.agent.saved_lifetime import load_lifetime_state, load_model_backend, save_lifetime_state
from wm_robot.errors import SnapshotError, WmRobotError
from wm_robot.evaluation.acceptance import (
    compute_mean_error,
    select_long_stretches,
    split_held_out,
    try_assimilation,
)
from wm_robot.io.base_file import find_base
from wm_robot.memory.state_arrays import ArrayState
from wm_robot.model.backend import ModelBackend, Prediction
from wm_robot.model.base import Base, load_base
from wm_robot.recording.recorded_experience import load_recordings
from wm_robot.robots import load_spec
from wm_robot.sharing.assimilate import RecordedSteps
from wm_robot.spec import RobotSpec
from wm_robot.store.store import Store
from wm_robot.types import Step

WORKER_NICENESS = 19
VALIDATE_COMMAND = (sys.executable, "-m", "wm_robot_cli", "validate")
EXIT_REFUSED = 3
"""Exit code of `wm-robot validate` for a verdict `failed`."""
PROGRESS_INTERVAL = 0.2
"""Time between two lines of progress, in s."""


class MonitoredBackend:
    """Model backend that measures the error of each one-step prediction, and counts the steps."""

    def __init__(self, backend: ModelBackend[np.ndarray], base: Base, on_step: Callable[[], None]):
        """Args:
        on_step: Called after each step.
        """
        self._backend, self._on_step, self._unit = backend, on_step, base.model.change_std.numpy()
        self._nll: list[float] = []
        self._error: list[float] = []

    def initial_state(self, *, initial_action: np.ndarray, truth: np.ndarray | None = None) -> ArrayState:
        return self._backend.initial_state(initial_action=initial_action, truth=truth)

    def predict(self, state: ArrayState, obs: np.ndarray, action: np.ndarray) -> Prediction[np.ndarray]:
        return self._backend.predict(state, obs, action)

    def update(self, state: ArrayState, step: Step[np.ndarray]) -> tuple[Prediction[np.ndarray], ArrayState]:
        expected, after = self._backend.update(state, step)
        if step.valid.all():
            apart = step.next_obs - expected.mean
            nll = apart**2 / np.exp(expected.log_variance) + expected.log_variance + np.log(2 * np.pi)
            # Where a sensor had no reading, the prediction itself is in its place.
            known = ... if step.measured is None else step.measured > 0
            self._nll.append(float(0.5 * nll[known].mean()))
            self._error.append(float(((apart / self._unit) ** 2)[known].mean()))
        self._on_step()
        return expected, after

    def compute_errors(self) -> dict[str, float]:
        """Compute the means over the valid steps."""
        return {"surprise": float(np.mean(self._nll)), "step_error": float(np.mean(self._error))}


class WorkerProgress:
    """Progress report on stdout."""

    def __init__(self, num_steps: int):
        self._total, self._num_done, self._next_line, self._parent = max(num_steps, 1), 0, 0.0, os.getppid()
        self.current_work = ""

    def count_step(self) -> None:
        self._num_done += 1
        if time.monotonic() < self._next_line:
            return
        if os.getppid() != self._parent:
            # The agent that waits for the result has ended.
            raise SystemExit(1)
        self._next_line = time.monotonic() + PROGRESS_INTERVAL
        write_line(progress=min(self._num_done / self._total, 1.0), current_work=self.current_work)


def write_line(**values: Any) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def evaluate_states(
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
    heads = [place.resolve(reference) for reference in references]
    episodes = load_recordings([Path(path) for path in recordings], spec, robot)
    stretches = select_long_stretches([RecordedSteps.from_episode(each, spec) for each in episodes])
    steps = sum(stretch.num_steps for stretch in stretches)
    teller, rows = WorkerProgress(steps * len(heads)), []
    for head in heads:
        state = load_lifetime_state(place, head, base, spec)
        teller.current_work = f"state {head[:12]}"
        watched = MonitoredBackend(load_model_backend(folder, base), base, teller.count_step)
        ahead = compute_mean_error(base.model, watched, state, stretches)
        rows.append(watched.compute_errors() | {"ahead_error": ahead})
    return {"snapshots": heads, "steps": steps, "metrics": rows}


def assimilate_and_save(
    base: Base,
    spec: RobotSpec,
    folder: Path,
    *,
    store: str,
    reference: str,
    branch: str,
    recordings: list[str],
    robot: str,
    own_recordings: list[str],
    own_robot: str,
) -> dict[str, Any]:
    """Update a copy of a state with the recordings of another robot, and save it as a branch if it improves."""
    place = Store(store)
    if branch and branch in place.read_branches():
        raise SnapshotError(
            f"branch '{branch}' exists already in {store}. Name another branch for the result"
        )
    head = place.resolve(reference)
    state = load_lifetime_state(place, head, base, spec)
    theirs = load_recordings([Path(path) for path in recordings], spec, robot)
    mine = load_recordings([Path(path) for path in own_recordings], spec, own_robot)
    (_, mine_kept), (taken, theirs_kept) = (
        split_held_out([RecordedSteps.from_episode(each, spec) for each in episodes])
        for episodes in (mine, theirs)
    )
    lived, held_out = (sum(each.num_steps for each in part) for part in (taken, [*mine_kept, *theirs_kept]))
    teller = WorkerProgress(lived + 2 * held_out)
    teller.current_work = f"{lived} steps, and {held_out} held out"
    lives = MonitoredBackend(load_model_backend(folder, base), base, teller.count_step)
    after, verdict = try_assimilation(base.model, lives, state, mine, theirs, spec)
    saved = ""
    if branch and verdict.is_accepted:
        names = [Path(path).name for path in recordings]
        note, origin = "assimilated " + ", ".join(names), {"assimilated": names}
        saved = save_lifetime_state(place, branch, after, base, spec, [head], note, verdict.to_dict(), origin)
    return {
        "accepted": verdict.is_accepted,
        "description": verdict.to_sentence(),
        "steps": lived,
        "metrics": verdict.to_dict(),
        "snapshot": saved,
    }


def validate_state(
    base: Base,
    spec: RobotSpec,
    folder: Path,
    *,
    store: str,
    reference: str,
    is_quick: bool,
    model: str,
    task: str,
) -> dict[str, Any]:
    """Validate a saved state by `wm-robot validate`, in a process that ends with this one's group.

    Args:
        model: Name of the robot, or path of its spec.
    """
    head = Store(store).resolve(reference)
    command = [*VALIDATE_COMMAND, str(folder), "--state", f"{store}@{head}"]
    command += ["--robot", model, "--task", task, "--json", *(["--quick"] if is_quick else [])]
    said = ""
    # A file, because a pipe that is not read would hold the process up.
    with tempfile.TemporaryFile("w+") as output:
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr
            for line in process.stderr:
                said = line.strip() or said
                if found := re.search(r"(\d+) %", line):
                    write_line(progress=int(found[1]) / 100, current_work=line.strip())
        output.seek(0)
        results = output.read().splitlines()
    if not results or process.returncode not in (0, EXIT_REFUSED):
        raise SnapshotError(f"wm-robot validate ended with code {process.returncode}: {said}")
    found_values = json.loads(results[-1])
    metrics = {"passed": float(found_values["passed"]), "score": found_values["score"]}
    for check in found_values["checks"]:
        metrics[f"{check['name']}/passed"] = {"passed": 1.0, "failed": 0.0}.get(check["status"])
        metrics |= {f"{check['name']}/{name}": value for name, value in check["figures"].items()}
    return {
        "snapshot": head,
        "passed": bool(found_values["passed"]),
        "verdict": found_values["verdict"],
        "metrics": {name: math.nan if value is None else value for name, value in metrics.items()},
    }


WORK_FUNCTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "assimilate": assimilate_and_save,
    "evaluate": evaluate_states,
    "validate": validate_state,
}


def main() -> None:
    """Run the request; exit with code 2 for an error that the user can fix."""
    os.nice(WORKER_NICENESS)
    torch.set_num_threads(1)
    request = json.loads(sys.argv[1])
    work = WORK_FUNCTIONS[request.pop("work")]
    try:
        spec = load_spec(request.pop("spec"))
        folder = find_base(request.pop("base"))
        base = load_base(folder)
        base.check_spec(spec)
        write_line(result=work(base, spec, folder, **request))
    except (WmRobotError, OSError) as error:
        write_line(error=f"{type(error).__name__}: {error}")
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
