"""Command comparison: what an agent would have commanded, against what was applied."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from wm_robot.spec import RobotSpec


@runtime_checkable
class CommandGate(Protocol):
    """Limits of a robot, which follow what is applied."""

    def find_violations(self, command: np.ndarray, obs: np.ndarray, stamp: int) -> Sequence[str]:
        """Name the rules that a command in answer to an observation violates; nothing is changed.

        Args:
            stamp: Of the observation, in ns.
        """

    def follow(self, applied: np.ndarray, obs: np.ndarray, stamp: int) -> None:
        """Take in the action that was applied in answer to an observation."""


class CommandComparison:
    """Comparison of commands with applied actions, step by step."""

    def __init__(self, spec: RobotSpec, gate: CommandGate | None = None):
        self._range, self._names, self._gate = spec.action_high - spec.action_low, spec.action_names, gate
        self._differences: list[np.ndarray] = []
        self._violations = Counter[str]()
        self._num_limited = 0

    def add_step(
        self,
        command: Float[np.ndarray, "A"] | None,
        obs: Float[np.ndarray, "O"],
        stamp: int,
        applied: Float[np.ndarray, "A"],
    ) -> None:
        """Add a step.

        Args:
            command: Answer to `obs`; None if there was none.
            stamp: Of `obs`, in ns.
            applied: Action that was applied after `obs`.
        """
        if command is not None:
            self._differences.append(np.abs(command - applied).astype(np.float64))
            if self._gate is not None:
                found = self._gate.find_violations(command, obs, stamp)
                self._violations.update(found)
                self._num_limited += bool(found)
        if self._gate is not None:
            self._gate.follow(applied, obs, stamp)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: distances as shares of each action's range, and violations by rule."""
        if not self._differences:
            return {"count": 0}
        apart = np.stack(self._differences)
        shares = apart / self._range
        return {
            "count": len(apart),
            "distance": {
                "mean": float(shares.mean()),
                "p95": float(np.quantile(shares.max(1), 0.95)),
                "largest": float(shares.max()),
            },
            "by_actuator": dict(zip(self._names, apart.mean(0).tolist(), strict=True)),
            "violations": dict(sorted(self._violations.items())) if self._gate is not None else None,
            "limited_share": self._num_limited / len(apart) if self._gate is not None else None,
        }
