"""One robot in MuJoCo, behind the same calls as a real one."""

import numpy as np

from wm_robot.spec import RobotSpec
from wm_robot.types import Observation
from wm_robot_sim.batch import BatchSim
from wm_robot_sim.worlds import World, WorldDistribution


class SimRobot:
    """A simulated robot: `read` it, `write` to it, and its world may `change` without notice.

    Its clock is simulated: it moves on by a control period with each `write`, and never by itself.
    """

    def __init__(self, spec: RobotSpec, world: World | None = None, *, seed: int):
        self.spec = spec
        self.batch = BatchSim(spec, [world or WorldDistribution(spec).nominal()], seed=seed)

    @property
    def world(self) -> World:
        """The world in force."""
        return self.batch.worlds[0]

    @property
    def hold(self) -> np.ndarray:
        """The action in force, `A`."""
        return self.batch.hold[0]

    def read(self) -> Observation:
        """What the sensors gave last. Asking twice gives the same reading."""
        return Observation(stamp=self.batch.steps * self.spec.dt, values=self.batch.obs[0].copy())

    def write(self, action: np.ndarray) -> np.ndarray:
        """Apply an action for one control period.

        Returns:
            What reached the motors, `A`: the action within range and rate limit.

        Raises:
            UnsafeActionError: If a number is not finite; the robot has not moved then.
        """
        _, applied = self.batch.step(np.asarray(action, np.float32)[None])
        return applied[0]

    def change(self, world: World) -> None:
        """Swap the world under the robot, in motion."""
        self.batch.set_worlds([0], [world])

    def reset(self) -> Observation:
        """Put the robot at rest in a random comfortable pose. Its clock runs on."""
        self.batch.reset()
        return self.read()

    def tip(self) -> np.ndarray:
        """True gripper position, `3`, in m."""
        return self.batch.tip()[0]

    def qpos(self) -> np.ndarray:
        """True position of everything in the model, `nq`, for a camera."""
        return self.batch.qpos()[0]
