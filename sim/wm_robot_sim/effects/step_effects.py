"""Step effects: effects with a force or a hidden state of their own, computed at every physics step."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from wm_robot.math.kinematics import compute_tip_position
from wm_robot_sim.effects.effect import Effect
from wm_robot_sim.effects.model_effects import SLIDING, STICTION
from wm_robot_sim.worlds import sample_log_uniform

if TYPE_CHECKING:
    from wm_robot_sim.plant import Plant

NUM_WAVES = 12
"""Waves in the force field of a joint."""
FORGETTING = (0.1, 2.0)
"""Time in which a passive element forgets where it was stretched, in s."""
MAX_LOAD, MAX_LOSS = 4.0, 0.8
"""Largest load of a motor, in those of an ordinary force, and the largest share of its force that it loses."""


@dataclass(frozen=True)
class Motion:
    """Motion of `R` robots before a physics step."""

    position: Float[np.ndarray, "R J"]
    """In rad (m)."""
    velocity: Float[np.ndarray, "R J"]
    """In rad/s (m/s)."""
    command: Float[np.ndarray, "R A"]
    """Commands that reach the motors."""
    motor_force: Float[np.ndarray, "R J"]
    """Force of the motors on each joint in the step before, in N m (N); zeros unless an effect asks for it."""
    number: int
    """Number of the physics step since the start of the simulation."""


class StepEffect(ABC):
    """Effects of one kind on `R` robots."""

    hidden_size = 0
    """Numbers of hidden state of a robot."""

    def __init__(self, plant: "Plant", effects: Sequence[Effect]):
        self.plant, self.scale = plant, plant.effect_scale
        self.timestep = plant.model.opt.timestep
        self.strength: Float[np.ndarray, "R 1"] = np.array([[effect.strength] for effect in effects])

    def start(self, motion: Motion) -> Float[np.ndarray, "R H"]:
        """Return the hidden state of robots at rest."""
        return np.zeros((len(motion.position), self.hidden_size))

    def change_command(
        self, motion: Motion, hidden: Float[np.ndarray, "R H"]
    ) -> Float[np.ndarray, "R A"] | None:
        """Return the commands that motors get, and step the hidden state in place; None: commands do not change."""
        return None

    @abstractmethod
    def compute_force(
        self, motion: Motion, hidden: Float[np.ndarray, "R H"]
    ) -> Float[np.ndarray, "R J"] | None:
        """Return the force on each joint, in N m (N), and step the hidden state in place; None: no force."""


class ForceField(StepEffect):
    """Smooth random force of position, velocity and command.

    Source: random Fourier features, Rahimi and Recht (2007), Random Features for Large-Scale Kernel Machines.
    """

    def __init__(self, plant: "Plant", effects: Sequence[Effect]):
        super().__init__(plant, effects)
        joints, motors = len(plant.spec.joints), plant.spec.action_dim
        drawn = [effect.make_generator() for effect in effects]
        inputs = 2 * joints + motors
        # About one wave over the range of the inputs that matter, which are a few of all.
        self._frequency = np.stack(
            [
                rng.standard_normal((NUM_WAVES, inputs)) * (rng.random((NUM_WAVES, inputs)) < 0.4)
                for rng in drawn
            ]
        )
        self._phase = np.stack([rng.uniform(-np.pi, np.pi, NUM_WAVES) for rng in drawn])
        self._size = np.stack([rng.standard_normal((joints, NUM_WAVES)) for rng in drawn]) * np.sqrt(
            2 / NUM_WAVES
        )
        self._middle = (plant.spec.action_low.astype(np.float64) + plant.spec.action_high) / 2
        self._half = (plant.spec.action_high.astype(np.float64) - plant.spec.action_low) / 2

    def compute_force(self, motion: Motion, hidden: np.ndarray) -> np.ndarray:
        scaled = (
            2 * (motion.position - self.scale.middle) / self.scale.half_range,
            motion.velocity / self.scale.speed,
            2 * (motion.command - self._middle) / self._half,
        )
        inputs = np.concatenate(scaled, -1)
        waves = np.cos(np.einsum("rwi,ri->rw", self._frequency, inputs) + self._phase)
        return self.strength * 0.5 * self.scale.force * np.einsum("rjw,rw->rj", self._size, waves)


class PassiveElement(StepEffect):
    """Spring behind a damper on each joint. Its hidden state is where the damper is.

    Source: the Maxwell element, J. C. Maxwell (1867), On the Dynamical Theory of Gases.
    """

    def __init__(self, plant: "Plant", effects: Sequence[Effect]):
        super().__init__(plant, effects)
        self.hidden_size = len(plant.spec.joints)
        drawn = [effect.make_generator() for effect in effects]
        size = np.stack([rng.uniform(0.3, 1.0, self.hidden_size) for rng in drawn])
        self._stiffness = self.strength * 2 * size * self.scale.force / self.scale.half_range
        self._time = np.stack([sample_log_uniform(rng, FORGETTING, self.hidden_size) for rng in drawn])

    def start(self, motion: Motion) -> np.ndarray:
        return motion.position.copy()

    def compute_force(self, motion: Motion, hidden: np.ndarray) -> np.ndarray:
        stretch = motion.position - hidden
        hidden += stretch * (1 - np.exp(-self.timestep / self._time))
        return -self._stiffness * stretch


class Tether(StepEffect):
    """Elastic cord from the gripper to a point in space, slack where it is short."""

    def __init__(self, plant: "Plant", effects: Sequence[Effect]):
        super().__init__(plant, effects)
        spec = plant.spec
        self._columns = [spec.joint_names.index(each.joint) for each in spec.chain]
        home = compute_tip_position(spec.home_position[self._columns], spec.chain, spec.tip)
        self._anchor, self._slack = np.zeros((len(effects), 3)), np.zeros((len(effects), 1))
        for row, effect in enumerate(effects):
            rng = effect.make_generator()
            direction = rng.standard_normal(3)
            distance = self.scale.reach * rng.uniform(0.3, 1.0)
            self._anchor[row] = home + distance * direction / np.linalg.norm(direction)
            self._slack[row] = distance * rng.uniform(0.5, 1.0)

    def compute_force(self, motion: Motion, hidden: np.ndarray) -> np.ndarray:
        spec, positions = self.plant.spec, motion.position[:, self._columns]
        tip = compute_tip_position(positions, spec.chain, spec.tip)
        pull = self._anchor - tip
        length = np.linalg.norm(pull, axis=-1, keepdims=True)
        stretch = np.maximum(0.0, length - self._slack) / self.scale.reach
        # An ordinary force at the gripper is that of the strongest joint at full reach.
        force = (
            self.strength
            * self.scale.force.max()
            / self.scale.reach
            * stretch
            * pull
            / np.maximum(length, 1e-9)
        )
        found = np.zeros_like(motion.position)
        step = 1e-5
        for number, column in enumerate(self._columns):
            moved = positions.copy()
            moved[:, number] += step
            along = (compute_tip_position(moved, spec.chain, spec.tip) - tip) / step
            found[:, column] = (along * force).sum(-1)
        return found


class StickSlip(StepEffect):
    """Part of friction that speed takes away; the model has the friction at rest.

    Source: Stribeck (1902); the curve of Armstrong-Hélouvry et al. (1994), Automatica 30(7).
    """

    def compute_force(self, motion: Motion, hidden: np.ndarray) -> np.ndarray:
        speed = motion.velocity / (0.03 * self.scale.speed)
        drop = (STICTION - SLIDING) * self.scale.force * (1 - np.exp(-(speed**2)))
        return self.strength * drop * np.tanh(10 * speed)


class JointCable(StepEffect):
    """Cable over two joints that pulls where it is tight."""

    def __init__(self, plant: "Plant", effects: Sequence[Effect]):
        super().__init__(plant, effects)
        moved = np.flatnonzero(self.scale.has_motor)
        self._pull = np.zeros((len(effects), len(plant.spec.joints)))
        self._slack = np.zeros((len(effects), 1))
        for row, effect in enumerate(effects):
            rng = effect.make_generator()
            pair = rng.permutation(moved)[:2]
            self._pull[row, pair] = rng.choice([-1, 1], len(pair)) / self.scale.half_range[pair]
            self._slack[row] = rng.uniform(-0.3, 0.3)

    def compute_force(self, motion: Motion, hidden: np.ndarray) -> np.ndarray:
        length = (self._pull * (motion.position - self.scale.middle)).sum(-1, keepdims=True)
        tension = 2 * self.strength * np.maximum(0.0, length - self._slack)
        return -tension * np.sign(self._pull) * self.scale.force


class Backlash(StepEffect):
    """Play between each motor and its joint: a servo's set-point follows the command with play, and a motor crosses
    the gap before it transmits its force. The hidden state is the set-point, or the place in the gap.
    """

    def __init__(self, plant: "Plant", effects: Sequence[Effect]):
        super().__init__(plant, effects)
        self.hidden_size = plant.spec.action_dim
        self._is_servo = np.array([actuator.is_servo for actuator in plant.spec.actuators])
        drawn = np.stack([effect.make_generator().uniform(0.5, 1.5, self.hidden_size) for effect in effects])
        span = plant.spec.action_high.astype(np.float64) - plant.spec.action_low
        self._play = self.strength * drawn * 0.015 * span
        """Half of the play of a servo, in its unit."""
        self._crossing = self.strength * drawn * 0.04
        """Time in which half of the largest command crosses half of the gap, in s."""
        self._half_command = span / 4

    def start(self, motion: Motion) -> np.ndarray:
        return np.where(self._is_servo, motion.command, 0.0)

    def change_command(self, motion: Motion, hidden: np.ndarray) -> np.ndarray:
        set_point = np.clip(hidden, motion.command - self._play, motion.command + self._play)
        step = motion.command / self._half_command * self.timestep / np.maximum(self._crossing, self.timestep)
        place = np.clip(hidden + step, -1.0, 1.0)
        transmits = (np.abs(place) >= 1.0) & (place * motion.command > 0)
        hidden[:] = np.where(self._is_servo, set_point, place)
        return np.where(self._is_servo, set_point, np.where(transmits, motion.command, 0.0))

    def compute_force(self, motion: Motion, hidden: np.ndarray) -> None:
        return None


class ThermalDerating(StepEffect):
    """Motors that weaken as they get warm. The hidden state is the temperature of the motors of each joint, 1 where
    an ordinary force holds it.
    """

    def __init__(self, plant: "Plant", effects: Sequence[Effect]):
        super().__init__(plant, effects)
        self.hidden_size = len(plant.spec.joints)
        drawn = [effect.make_generator() for effect in effects]
        self._time = np.stack([rng.uniform(1.0, 4.0, self.hidden_size) for rng in drawn])
        """Time in which a motor gets warm, in s: a real one takes minutes."""

    def compute_force(self, motion: Motion, hidden: np.ndarray) -> np.ndarray:
        ordinary = np.where(self.scale.has_motor, self.scale.force, np.inf)
        load = np.minimum((motion.motor_force / ordinary) ** 2, MAX_LOAD)
        hidden += (load - hidden) * (1 - np.exp(-self.timestep / self._time))
        lost = 1 - 1 / (1 + self.strength * hidden)
        return -np.minimum(lost, MAX_LOSS) * motion.motor_force


class Gusts(StepEffect):
    """Gusts: forces on all joints that begin at random times and last for a moment."""

    PERIOD, LENGTH = 0.5, 0.15
    """One gust begins at a random moment of each period; its length, in s."""

    def __init__(self, plant: "Plant", effects: Sequence[Effect]):
        super().__init__(plant, effects)
        self._effects = effects
        self._period, self._length = (round(each / self.timestep) for each in (self.PERIOD, self.LENGTH))
        self._drawn_at, self._start = -1, np.zeros((len(effects), 1))
        self._force = np.zeros((len(effects), len(plant.spec.joints)))

    def compute_force(self, motion: Motion, hidden: np.ndarray) -> np.ndarray:
        number, step = divmod(motion.number, self._period)
        if number != self._drawn_at:
            self._drawn_at = number
            for row, effect in enumerate(self._effects):
                rng = np.random.default_rng([effect.seed, number])
                self._start[row] = rng.integers(0, self._period - self._length + 1)
                self._force[row] = rng.standard_normal(self._force.shape[1]) * self.scale.force
        blows = (self._start <= step) & (step < self._start + self._length)
        return self.strength * blows * self._force


STEP_EFFECTS: Mapping[str, type[StepEffect]] = {
    "force_field": ForceField,
    "passive_element": PassiveElement,
    "tether": Tether,
    "backlash": Backlash,
    "stick_slip": StickSlip,
    "thermal_derating": ThermalDerating,
    "joint_cable": JointCable,
    "gusts": Gusts,
}
"""Kind of effect → what computes it at every physics step."""
