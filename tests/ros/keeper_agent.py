"""An agent node whose life counts what it lived, and is kept in a real store."""

import os
import sys
from types import SimpleNamespace

import numpy as np

from wm_robot.agent.builder import AgentLineage
from wm_robot.store.store import parse_reference
from wm_robot.validation_record.session_error import SessionError
from wm_robot_ros.nodes.agent_node import main

BASE = os.environ.get("KEEPER_BASE", "b" * 64)


class Keeper:
    """Acts by holding the sensed position; the surprise of step n is `SURPRISE` to the n."""

    def __init__(self, config, spec):
        self.spec, self.agent = spec, self
        self._rise = float(os.environ.get("SURPRISE", "1.0"))
        self._obs = None
        self.begin(np.zeros(spec.action_dim))

    def begin(self, last_action, restore=None):
        self.steps, self.session, self._origin = 0, 0, []
        if restore is not None:
            self._store, reference = parse_reference(restore)
            digest = self._store.resolve(reference)
            self.steps = int(self._store.load(digest)["step"][0])
            self._origin = [digest]

    @property
    def counters(self):
        return {"num_steps": self.steps, "num_valid": self.session, "num_invalid": 0}

    def act(self, obs, goal, *, applied=None):
        self._obs = obs
        return obs[: self.spec.action_dim].copy()

    def find_faults(self, obs):
        return {}

    def observe(
        self, obs, applied, next_obs, *, valid=True, intervention=False, skip_optional=False, is_new=None
    ):
        self.steps += valid
        self.session += valid
        ones = np.ones_like(obs)
        return SimpleNamespace(
            nll=self._rise**self.session, mean=obs, deviation=2 * ones, error=(next_obs - obs) / 2
        )

    def predict_plan(self):
        if self._obs is None:
            return None
        action = self._obs[: self.spec.action_dim]
        ahead = np.arange(1, 4, dtype=np.float32)[:, None]
        return SimpleNamespace(
            action=np.repeat(action[None], 3, 0),
            mean=self._obs + ahead / 100,
            deviation=ahead + 0 * self._obs,
        )

    def save(self, place, *, note=""):
        store, branch = parse_reference(place)
        self._origin = [self._write(store, branch, self._origin, note)]
        self._store = store
        return self._origin[0]

    def rescue(self, place):
        store, branch = parse_reference(place)
        return self._write(
            store, branch, [store.copy_from(self._store, each, tensors=False) for each in self._origin]
        )

    @property
    def lineage(self):
        return AgentLineage(
            base=BASE,
            store=self._store if self._origin else None,
            snapshot=self._origin[0] if self._origin else "",
            steps=self.steps,
            session_error=SessionError(),
        )

    def _write(self, store, branch, parents, note=""):
        return store.save(
            {"step": np.array([self.steps], np.int64)},
            base_digest=BASE,
            spec_digest=self.spec.compute_digest(),
            branch=branch,
            parents=parents,
            note=note,
        ).digest

    def report(self):
        return {}

    def close(self):
        pass


if __name__ == "__main__":
    sys.exit(main(Keeper))
