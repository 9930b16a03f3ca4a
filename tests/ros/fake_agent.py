"""An agent node whose life is a notebook: it writes down what it was told, and learns nothing."""

import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from wm_robot.errors import SnapshotError
from wm_robot.io.durable import write_file
from wm_robot_ros.nodes.agent_node import main


class Notebook:
    """Acts by holding the sensed position; `NOTEBOOK` names the file that it writes in."""

    def __init__(self, config, spec):
        self.spec, self.agent = spec, self
        self.counters = {"num_steps": 0, "num_valid": 0, "num_invalid": 0}
        self.lineage = None
        self.steps = 0
        self._file = open(os.environ["NOTEBOOK"], "a", buffering=1)
        self._fail = config.seed
        self._saving = False

    def _note(self, **values):
        self._file.write(json.dumps(values) + "\n")

    def begin(self, last_action, restore=None):
        self.steps = 0
        self.counters = dict.fromkeys(self.counters, 0)
        if restore is not None:
            try:
                self.steps = json.loads((Path(restore) / "life.json").read_text())["steps"]
            except OSError as error:
                raise SnapshotError(f"no life in {restore}") from error
        self._note(begin=last_action.tolist(), steps=self.steps)

    def act(self, obs, goal, *, applied=None):
        required = self.spec.layout.is_required
        assert np.isfinite(obs[required]).all() and np.isfinite(goal).all()
        self._note(
            act=obs.tolist(), goal=goal.tolist(), applied=None if applied is None else applied.tolist()
        )
        # The steps of the warm-up have no goal.
        if self._fail and goal.any() and self.counters["num_steps"] >= self._fail:
            raise RuntimeError("the planner fell over")
        time.sleep(float(os.environ.get("THINKS", "0")))
        return obs[: self.spec.action_dim].copy()

    def find_faults(self, obs):
        return {}

    def observe(
        self, obs, applied, next_obs, *, valid=True, intervention=False, skip_optional=False, is_new=None
    ):
        required = self.spec.layout.is_required
        assert all(np.isfinite(x).all() for x in (obs[required], applied, next_obs[required]))
        self._note(
            learn=[obs.tolist(), applied.tolist(), next_obs.tolist()],
            valid=valid,
            intervention=intervention,
            hurry=skip_optional,
            is_new=None if is_new is None else is_new.tolist(),
        )
        self.counters["num_valid" if valid else "num_invalid"] += 1
        self.counters["num_steps"] += valid
        self.steps += valid
        return SimpleNamespace(nll=0.5, mean=next_obs, compute_nll=lambda channels: 0.5)

    def save(self, place, *, note=""):
        assert not self._saving, "two saves at once"
        self._saving = True
        time.sleep(0.3)
        self._saving = False
        write_file(Path(place) / "life.json", json.dumps({"steps": self.steps}).encode())
        return "0" * 64

    def rescue(self, place):
        raise OSError("a notebook is kept in one place")

    def report(self):
        return {}

    def close(self):
        self._file.flush()


if __name__ == "__main__":
    sys.exit(main(Notebook))
