"""Live report: surprise, open-loop error, coverage and commands of an agent in shadow mode, from live topics.

It is the report of `wm-robot validate --replay`, whose deviations are those that the agent publishes.
"""

from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from wm_robot.evaluation.validation.agent_meter import AgentMeter
from wm_robot.evaluation.validation.open_loop_models import AgentPredictions
from wm_robot.safety.logged_gate import LoggedGate
from wm_robot.spec import RobotSpec
from wm_robot.streams.transition_assembler import MAX_PENDING_COMMANDS, StampedTransition

if TYPE_CHECKING:
    from wm_robot.agent.agent import Agent, PredictionError


class LiveReport:
    """Report on the transitions that an agent takes."""

    def __init__(self, agent: "Agent", spec: RobotSpec):
        self._agent, self._spec = agent, spec
        self._commands: deque[tuple[int, np.ndarray]] = deque(maxlen=MAX_PENDING_COMMANDS)
        """Stamps of observations, in ns, with the commands that answer them."""
        self._meter: AgentMeter | None = None
        self._last_obs: np.ndarray | None = None
        self.num_steps = 0
        """Number of transitions since the start of the report."""

    def restart(self) -> None:
        """Start the report anew with the next transition."""
        self._meter, self._last_obs, self.num_steps = None, None, 0

    def add_command(self, stamp: int, command: np.ndarray) -> None:
        """Add what the agent would command in answer to the observation of a stamp, in ns."""
        self._commands.append((stamp, command))

    def add_transition(self, transition: StampedTransition, surprise: "PredictionError") -> None:
        """Add a transition that the agent has just observed."""
        if self._meter is None:
            gate = LoggedGate(self._spec, transition.applied)
            self._meter = AgentMeter(self._agent, AgentPredictions(self._agent), self._spec, gate=gate)
        continues = self._last_obs is None or transition.obs is self._last_obs
        self._meter.add_step(
            transition.applied,
            transition.next_obs,
            surprise,
            valid=transition.valid,
            continues=continues,
        )
        command = next((each for stamp, each in self._commands if stamp == transition.start), None)
        self._meter.commands.add_step(command, transition.obs, transition.start, transition.applied)
        self._last_obs = transition.next_obs
        self.num_steps += 1

    def compute_due(self) -> None:
        """Compute the open-loop predictions whose outcomes are known."""
        if self._meter is not None:
            self._meter.open_loop.compute_due()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; empty before the first transition."""
        if self._meter is None:
            return {}
        self.compute_due()
        return self._meter.make_report().to_dict()


def flatten_report(report: dict[str, Any]) -> dict[str, float]:
    """Return the numbers of a report by a name, such as `open_loop/joints/position/8/ratio`."""
    found = {f"surprise/{name}": value for name, value in report.get("surprise", {}).items()}
    for each in report.get("open_loop", ()):
        place = f"open_loop/{each['group']}/{each['horizon']}"
        for name in ("error", "ratio", "coverage"):
            found[f"{place}/{name}"] = each[name]
    commands = report.get("commands", {})
    found |= {f"commands/distance/{name}": value for name, value in commands.get("distance", {}).items()}
    found |= {
        f"commands/violations/{rule}": count for rule, count in (commands.get("violations") or {}).items()
    }
    for name in ("num_valid", "num_excluded"):
        if name in report:
            found[name] = report[name]
    return {name: float("nan") if value is None else float(value) for name, value in found.items()}
