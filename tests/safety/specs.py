"""Robots to be kept safe, without a simulator."""

from typing import Any

from wm_robot.spec import RobotSpec


def spec_of(joints: int = 3, *, kind: str = "position", rate: float = 50.0, **safety: Any) -> RobotSpec:
    """A chain of joints, each a little different, so that a mixed-up order shows."""
    names = [f"j{number}" for number in range(joints)]
    return RobotSpec.from_dict(
        {
            "name": "chain",
            "rate": rate,
            "model": "none.xml",
            "joints": [
                {"name": name, "position": [-1.0 - 0.1 * k, 1.5 + 0.1 * k], "velocity": 3 + k, "effort": 2.0}
                for k, name in enumerate(names)
            ],
            "actuators": [
                {"name": f"m{k}", "joint": name, "kind": kind, "range": [-1.0 - 0.1 * k, 1.5 + 0.1 * k],
                 "rate": 5 + k}
                for k, name in enumerate(names)
            ],
            "chain": [
                {"joint": name, "origin": [0.0, 0.02 * k, 0.1], "axis": ([0.0, 0.6, 0.8], [1.0, 0.0, 0.0])[k % 2]}
                for k, name in enumerate(names)
            ],
            "tip": [0.05, 0.01, 0.1],
            "safety": safety,
        }
    )  # fmt: skip


def every(kind: str, value: float, joints: int = 3) -> dict[str, float]:
    """One number for each `joint` or `actuator`."""
    letter = {"joint": "j", "actuator": "m"}[kind]
    return {f"{letter}{number}": value for number in range(joints)}
