"""Echo agent node: the real agent node with its topics and checks, and an agent that returns what it senses.

For `wm-robot bench ros`. Without planning and learning, the time of an answer is the cost of ROS.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

import numpy as np
from rclpy.executors import Executor, MultiThreadedExecutor, SingleThreadedExecutor

from wm_robot.agent.builder import AgentConfig, RobotAgent
from wm_robot.errors import MissingExtraError
from wm_robot.spec import RobotSpec
from wm_robot_ros.middleware.node_runtime import make_events_executor, make_executor, run_node
from wm_robot_ros.nodes.agent_node import AgentNode, run_agent


class EqualPrediction(NamedTuple):
    """Prediction that equals the observation."""

    nll: float
    mean: np.ndarray
    deviation: np.ndarray
    error: np.ndarray


class EchoAgent:
    """Agent without a model: its action is the sensed positions."""

    def __init__(self, spec: RobotSpec, *, stall_every: int = 0, stall: float = 0.0):
        """Args:
        stall_every: Answers between two stalls; 0: none.
        stall: Duration of a stall, in s.
        """
        self.counters: Mapping[str, int] = {"num_steps": 0, "num_valid": 0, "num_invalid": 0}
        self.lineage = None
        self.agent, self._spec, self._every, self._stall = self, spec, stall_every, stall
        self._acted = self._stalled = 0
        self._first = self._last = (0.0, 0.0)

    def begin(self, last_action: np.ndarray, restore: str | None = None) -> None:
        self._acted = self._stalled = 0

    def act(self, obs: np.ndarray, goal: np.ndarray, *, applied: np.ndarray | None = None) -> np.ndarray:
        self._acted += 1
        self._last = time.process_time(), time.monotonic()
        if self._acted == 1:
            self._first = self._last
        if self._every and self._acted % self._every == 0:
            self._stalled += 1
            time.sleep(self._stall)
        return obs[: self._spec.action_dim].copy()

    def observe(
        self, obs: np.ndarray, applied: np.ndarray, next_obs: np.ndarray, **told: object
    ) -> EqualPrediction:
        one = np.ones(next_obs.size, np.float32)
        return EqualPrediction(0.0, next_obs, one, np.zeros_like(one))

    def find_faults(self, obs: np.ndarray) -> dict[str, str]:
        return {}

    def predict_plan(self) -> None:
        return None

    def save(self, place: str, *, note: str = "") -> str:
        raise AssertionError("an echo agent has no state to save")

    def report(self) -> dict[str, object]:
        """Return `cpu`, time of this process per second between first and last answer, and `stalled`, its stalls."""
        cpu, wall = (last - first for first, last in zip(self._first, self._last, strict=True))
        return {"cpu": cpu / wall if wall else 0.0, "stalled": self._stalled}

    def close(self) -> None:
        pass


def _make_events_executor() -> Executor:
    executor = make_events_executor()
    if executor is None:
        raise MissingExtraError("rclpy's EventsExecutor", "ros")
    return executor


EXECUTORS: dict[str, Callable[[], Executor]] = {
    "single": SingleThreadedExecutor,
    "events": _make_events_executor,
    "multi": MultiThreadedExecutor,
}
"""Executors that can run the callbacks; our nodes use the second where it is available, and never the last."""


def main() -> None:
    """Answer until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--executor", choices=EXECUTORS)
    parser.add_argument("--stall-every", type=int, default=0)
    parser.add_argument("--stall", type=float, default=0.0)
    own, _ = parser.parse_known_args()

    def make(config: AgentConfig, spec: RobotSpec) -> RobotAgent:
        # It has the methods that the node calls.
        return cast(RobotAgent, EchoAgent(spec, stall_every=own.stall_every, stall=own.stall))

    with run_node(lambda: AgentNode(make)) as (node, stop):
        if own.executor:
            executor = EXECUTORS[own.executor]()
            executor.add_node(node)
        else:
            executor = make_executor(node, use_events=True)
        run_agent(node, executor, stop)
        node.end_driving()
        node.write_report()


if __name__ == "__main__":
    main()
