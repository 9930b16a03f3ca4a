"""An agent node that follows its goal, and predicts a gyroscope from the velocity of the joint that turns it."""

import sys
from types import SimpleNamespace

import numpy as np

from wm_robot.adaptation.reading_checks import ReadingChecks
from wm_robot_ros.nodes.agent_node import main

DEVIATION = 0.05
"""Of the predicted reading, in rad/s."""


class GyroscopeAgent:
    """Knows the hinge with a gyroscope, and nothing else."""

    def __init__(self, config, spec):
        self.spec, self.agent = spec, self
        self.counters = {"num_steps": 0, "num_valid": 0, "num_invalid": 0}
        self.lineage = None
        self._frozen = ReadingChecks(spec)
        self._channel = spec.observation_names.index("imu/angular_velocity.y")
        self._velocity = spec.observation_names.index("swing/velocity")

    def begin(self, last_action, restore=None):
        self._frozen.reset()

    def find_faults(self, obs):
        return self._frozen.find_faults(obs)

    def act(self, obs, goal, *, applied=None):
        assert np.isfinite(obs[self.spec.layout.is_required]).all()
        return np.float32(goal)

    def observe(
        self, obs, applied, next_obs, *, valid=True, intervention=False, skip_optional=False, is_new=None
    ):
        mean, deviation = np.zeros_like(next_obs), np.ones_like(next_obs)
        mean[self._channel], deviation[self._channel] = next_obs[self._velocity], DEVIATION
        masked, step = self._frozen.mask(next_obs), self.counters["num_steps"]
        self._frozen.update(step, next_obs, mean, deviation, is_new=is_new, is_predicted=valid)
        self.counters["num_valid" if valid else "num_invalid"] += 1
        self.counters["num_steps"] += valid
        error = (masked - mean) / deviation
        return SimpleNamespace(
            nll=0.5, mean=mean, deviation=deviation, error=error, compute_nll=lambda channels: 0.5
        )

    def predict_plan(self):
        return None

    def report(self):
        return {}

    def close(self):
        pass


if __name__ == "__main__":
    sys.exit(main(GyroscopeAgent))
