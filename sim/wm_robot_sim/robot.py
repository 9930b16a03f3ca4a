"""One robot in MuJoCo, behind the same calls as a real one."""

import numpy as np

from wm_robot.safety.gate import Gate
from wm_robot.safety.gated_robot import GatedRobot
from wm_robot.spec import RobotSpec
from wm_robot.types import Observation
from wm_robot_sim.batch import BatchSim
from wm_robot_sim.worlds import World, WorldDistribution


class SimRobot:
    """A simulated robot: `read` it, `write` to it, and its world may `change` without notice.

    Its clock is simulated: it moves on by a control period with each `write`, and never by itself. As on a real
    robot, all that is written goes through the gate.
    """

    def __init__(self, spec: RobotSpec, world: World | None = None, *, seed: int):
        self.spec = spec
        self._batch = BatchSim(spec, [world or WorldDistribution(spec).nominal()], seed=seed)
        self._motors = _Motors(self._batch)
        self._gated = GatedRobot(self._motors, clock=lambda: self._motors.time)

    @property
    def gate(self) -> Gate:
        """What all that is written goes through."""
        return self._gated.gate

    @property
    def world(self) -> World:
        """The world in force."""
        return self._batch.worlds[0]

    @property
    def hold(self) -> np.ndarray:
        """The action in force, `A`."""
        return self._motors.hold

    def read(self) -> Observation:
        """What the sensors gave last. Asking twice gives the same reading."""
        return self._gated.read()

    def write(self, action: np.ndarray) -> np.ndarray:
        """Apply an action for one control period.

        Returns:
            What reached the motors, `A`: the action as far as the gate let it through.
        """
        return self._gated.write(action)

    def change(self, world: World) -> None:
        """Swap the world under the robot, in motion."""
        self._batch.set_worlds([0], [world])

    def reset(self) -> Observation:
        """Put the robot at rest in a random comfortable pose. Its clock runs on."""
        self._batch.reset()
        return self.read()

    def tip(self) -> np.ndarray:
        """True gripper position, `3`, in m."""
        return self._batch.tip()[0]

    def qpos(self) -> np.ndarray:
        """True position of everything in the model, `nq`, for a camera."""
        return self._batch.qpos()[0]


class _Motors:
    """The simulated motors, which only the gate drives."""

    def __init__(self, batch: BatchSim):
        self.spec, self._batch = batch.spec, batch

    @property
    def time(self) -> float:
        """Simulated, in s."""
        return self._batch.steps * self.spec.dt

    @property
    def hold(self) -> np.ndarray:
        return self._batch.hold[0]

    def read(self) -> Observation:
        return Observation(stamp=self.time, values=self._batch.obs[0].copy())

    def drive(self, action: np.ndarray) -> np.ndarray:
        _, applied = self._batch.step(action[None])
        return applied[0]
