"""Simulated robot: one MuJoCo robot with the interface of a real one."""

from collections.abc import Collection

import numpy as np

from wm_robot.safety.gate import Gate
from wm_robot.safety.gated_robot import GatedRobot
from wm_robot.spec import RobotSpec
from wm_robot.types import Observation
from wm_robot_sim.arrived_readings import ArrivedReading, ArrivedReadings
from wm_robot_sim.batch import BatchSim
from wm_robot_sim.standins.standin import StandIn
from wm_robot_sim.worlds import DomainRandomization, World


class SimRobot:
    """Simulated robot with a changeable world. It implements the `Robot` protocol.

    Its clock is simulated: each `write` advances it by one control period, and nothing else does.
    Every action passes the safety gate, as on a real robot.
    """

    def __init__(
        self,
        spec: RobotSpec,
        world: World | None = None,
        *,
        seed: int,
        effect_kinds: Collection[str] = (),
        standin: StandIn | None = None,
    ):
        """Args:
        effect_kinds: Kinds of undeclared effects that later worlds may have; see `BatchSim`.
        standin: Stand-in that the robot is; None: the nominal model.
        """
        self.spec = spec
        worlds = [world or DomainRandomization(spec).make_nominal_world()]
        self._batch = BatchSim(spec, worlds, seed=seed, effect_kinds=effect_kinds, standin=standin)
        self._arrived = ArrivedReadings(self._batch, seed=seed)
        self._motors = _SimMotors(self._batch)
        self._gated = GatedRobot(self._motors, clock=lambda: self._motors.time)

    @property
    def gate(self) -> Gate:
        """Safety gate that every written action passes."""
        return self._gated.gate

    @property
    def world(self) -> World:
        """World in force."""
        return self._batch.worlds[0]

    @property
    def standin(self) -> StandIn | None:
        """Stand-in that the robot is; None: the nominal model."""
        return self._batch.standin

    @property
    def last_action(self) -> np.ndarray:
        """Last applied action, `A`."""
        return self._motors.last_action

    def read(self) -> Observation:
        """Return the last sensor reading. Two reads without a `write` are equal."""
        return self._gated.read()

    def take_readings(self) -> list[ArrivedReading]:
        """Return what sensors and floating base sent in the last control period; call it once for each."""
        return self._arrived.take()

    def write(self, action: np.ndarray) -> np.ndarray:
        """Apply an action for one control period.

        Returns:
            Applied action, `A`: the action after the limits of the gate.
        """
        return self._gated.write(action)

    def set_world(self, world: World) -> None:
        """Change the world while the robot moves."""
        self._batch.set_worlds([0], [world])

    def reset(self) -> Observation:
        """Reset the robot to rest in a random reachable pose. Its clock continues."""
        self._batch.reset()
        return self.read()

    def compute_true_obs(self) -> np.ndarray:
        """Observation of now without noise, bias and delay, `O`."""
        return self._batch.compute_true_obs()[0]

    def find_contacts(self) -> list[tuple[str, str]]:
        """Find the pairs of bodies that touch; see `BatchSim.find_contacts`."""
        return self._batch.find_contacts(0)

    def compute_gripper_position(self) -> np.ndarray:
        """Gripper position at the true joint positions, `3`, in m."""
        return self._batch.compute_gripper_position()[0]

    def qpos(self) -> np.ndarray:
        """True generalised positions of the robot's own model, `nq`, for a camera."""
        return self._batch.qpos()[0]


class _SimMotors:
    """Simulated motors, driven by the gate only."""

    def __init__(self, batch: BatchSim):
        self.spec, self._batch = batch.spec, batch

    @property
    def time(self) -> float:
        """Simulated time, in s."""
        return self._batch.steps * self.spec.dt

    @property
    def last_action(self) -> np.ndarray:
        return self._batch.last_action[0]

    def read(self) -> Observation:
        return Observation(stamp=self.time, values=self._batch.obs[0].copy())

    def drive(self, action: np.ndarray) -> np.ndarray:
        _, applied = self._batch.step(action[None])
        return applied[0]
