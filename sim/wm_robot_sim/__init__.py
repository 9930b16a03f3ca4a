"""MuJoCo simulation: randomised worlds, batched rollouts and trajectory collection."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from wm_robot.errors import MissingExtraError
from wm_robot.robots import load_spec
from wm_robot.spec import RobotSpec

if TYPE_CHECKING:
    from wm_robot_sim.robot import SimRobot
    from wm_robot_sim.standins.standin import StandIn
    from wm_robot_sim.worlds import World


def make_robot(
    robot: str | Path | RobotSpec,
    world: "World | None" = None,
    *,
    seed: int,
    standin: "StandIn | None" = None,
) -> "SimRobot":
    """Create a simulated robot.

    Args:
        robot: Name, path or spec.
        world: Initial world. None: the nominal world.
        standin: Stand-in that the robot is. None: the nominal model.

    Raises:
        SpecError: If there is no such robot, or its model lacks what the stand-in changes.
        MissingExtraError: If MuJoCo is not installed.
    """
    if find_spec("mujoco") is None:
        raise MissingExtraError("wm_robot_sim", "sim")
    # Reading a spec needs no MuJoCo; only a robot does.
    from wm_robot_sim.robot import SimRobot

    spec = robot if isinstance(robot, RobotSpec) else load_spec(robot)
    return SimRobot(spec, world, seed=seed, standin=standin)
