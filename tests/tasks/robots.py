"""A planar pair of hinges, for what needs a spec and no simulator."""

import numpy as np

from wm_robot.spec import RobotSpec

ACTION = np.zeros(2)
NO_GOAL = np.zeros(0)


def robot(names=("lift", "turn"), **changes) -> RobotSpec:
    """A planar pair whose chain lists the hinges in another order than the joints."""
    limits = {"position": [-3, 3], "velocity": 3, "effort": 3}
    parts = {
        "name": "pair",
        "rate": 50,
        "model": "pair.xml",
        "joints": [{"name": name, **limits} for name in names],
        "actuators": [
            {"name": name, "joint": name, "kind": "position", "range": [-3, 3], "rate": 5} for name in names
        ],
        "chain": [
            {"joint": "turn", "origin": [0, 0, 0], "axis": [0, 0, 1]},
            {"joint": "lift", "origin": [0.5, 0, 0], "axis": [0, 0, 1]},
        ],
        "tip": [0.25, 0, 0],
    }
    return RobotSpec.from_dict({**parts, **changes})


def obs(turn=0.0, lift=0.0, turning=0.0, lifting=0.0):
    return np.array([lift, turn, lifting, turning])


def cart_pole() -> RobotSpec:
    return robot(("slide", "hinge"), chain=[])
