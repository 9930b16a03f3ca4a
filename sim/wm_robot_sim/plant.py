"""Plant: the compiled MuJoCo model of a robot, and how a world changes its parameters."""

import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import mujoco
import numpy as np

from wm_robot.errors import SpecError
from wm_robot.robots.model_check import attach_model
from wm_robot.robots.model_files import find_model_file
from wm_robot.robots.robot_model import RobotModel, compute_file_digest
from wm_robot.spec import RobotSpec
from wm_robot_sim.base_motion import BaseMotion
from wm_robot_sim.declared_dynamics import (
    MissingQuantity,
    check_declared_dynamics,
    check_world,
    find_missing_quantities,
)
from wm_robot_sim.effects.attachments import (
    ATTACHED_KINDS,
    THERMAL,
    check_attached,
    name_force_sensor,
    remove_pendulum,
)
from wm_robot_sim.effects.effect import check_kinds
from wm_robot_sim.effects.model_effects import change_model, reset_effects
from wm_robot_sim.effects.scale import EffectScale
from wm_robot_sim.effects.signal_effects import change_signals
from wm_robot_sim.injected_faults import inject_faults
from wm_robot_sim.model_compiler import compile_model
from wm_robot_sim.model_quantities import PAYLOAD_RADIUS, change_quantity, reset_quantities
from wm_robot_sim.model_reader import list_names, read_model
from wm_robot_sim.randomized_parameters import RandomizedParameters, resolve_parameters
from wm_robot_sim.sensor_elements import PREFIX
from wm_robot_sim.sensor_readings import SensorReadings
from wm_robot_sim.signal_changes import SIGNAL_QUANTITIES, SignalChanges, compute_signal_changes
from wm_robot_sim.standins.transmission import name_spring
from wm_robot_sim.world_ranges import WorldRanges
from wm_robot_sim.worlds import World

if TYPE_CHECKING:
    from wm_robot_sim.standins.standin_parts import StandInParts


def describe_model(spec: RobotSpec) -> RobotModel:
    """Read the model file of a spec, with the digests of all files that it consists of."""
    path = find_model_file(spec)
    # MuJoCo keeps meshes by the name and the time of their file, and that time is in whole seconds.
    mujoco.mj_clearCache(mujoco.mj_getCache())
    sources = {name: compute_file_digest(path.parent / name) for name in list_sources(path)}
    return read_model(compile_model(spec), sources)


def list_sources(path: Path) -> list[str]:
    """List the files of a model that decide how it moves, relative to its folder: includes, meshes and height fields.

    Textures are left out.
    """
    files, model = [path, *_list_includes(path)], mujoco.MjSpec.from_file(str(path))
    folder = path.parent / (model.meshdir or "")
    assets = [(folder / each.file) for each in (*model.meshes, *model.hfields) if each.file]
    found = {os.path.relpath(file, path.parent) for file in (*files, *assets) if file.is_file()}
    return sorted(Path(name).as_posix() for name in found)


def _list_includes(path: Path) -> list[Path]:
    """List the files that an MJCF file includes, and those that they include; names are relative to the first."""
    found, open_files = [], [path]
    while open_files:
        for element in ElementTree.parse(open_files.pop()).iter("include"):
            file = path.parent / element.get("file", "")
            if file.is_file() and file not in found:
                found.append(file)
                open_files.append(file)
    return found


@dataclass(frozen=True)
class Plant:
    """Nominal model of a robot, with the indices of the spec's joints and actuators."""

    spec: RobotSpec
    model: mujoco.MjModel
    attachments: tuple[str, ...] = ()
    """Kinds of undeclared effects that the model has parts for, which the spec does not know."""
    parts: "StandInParts | None" = None
    """Differences of a stand-in, whose elements the model has; its numbers are changed here."""

    def __post_init__(self) -> None:
        if self.parts:
            self.parts.change_model(self)
        elif not self.attachments:
            attach_model(self.spec, read_model(self.model))
        per_step = self.spec.dt / self.model.opt.timestep
        if abs(per_step - round(per_step)) > 1e-6:
            raise SpecError(
                f"robot '{self.spec.name}' has {per_step:.3f} physics steps in a control period; "
                "it must be a whole number. Set world.timestep"
            )
        check_declared_dynamics(self)
        _ = self.sensor_readings.effort_columns
        _ = self.randomized

    @cached_property
    def substeps(self) -> int:
        """Physics steps in a control period."""
        return round(self.spec.dt / self.model.opt.timestep)

    @cached_property
    def joint_ids(self) -> np.ndarray:
        return self._find_ids(mujoco.mjtObj.mjOBJ_JOINT, self.spec.joint_names)

    @cached_property
    def actuator_ids(self) -> np.ndarray:
        return self._find_ids(mujoco.mjtObj.mjOBJ_ACTUATOR, self.spec.action_names)

    @cached_property
    def dof_ids(self) -> np.ndarray:
        return self.model.jnt_dofadr[self.joint_ids]

    @cached_property
    def qpos_ids(self) -> np.ndarray:
        return self.model.jnt_qposadr[self.joint_ids]

    @cached_property
    def base_motion(self) -> BaseMotion | None:
        """Floating base; None where the base is fixed."""
        return BaseMotion(self.spec.base, self.model) if self.spec.base else None

    @cached_property
    def sensor_readings(self) -> SensorReadings:
        """Readings of the sensors beyond the joints, and of joint efforts."""
        return SensorReadings(self.spec, self.model)

    @cached_property
    def body_ids(self) -> np.ndarray:
        """Body of the link that each joint moves."""
        return self.model.jnt_bodyid[self.joint_ids]

    @cached_property
    def joint_index(self) -> np.ndarray:
        """Number of the joint that each actuator moves, `A`."""
        return np.array([self.spec.joint_names.index(each.joint) for each in self.spec.actuators])

    @cached_property
    def missing_quantities(self) -> tuple[MissingQuantity, ...]:
        """What motors and joints of the model lack, so that factors of a world have no effect."""
        return find_missing_quantities(self)

    @cached_property
    def effect_scale(self) -> EffectScale:
        """Forces and lengths that are ordinary for the robot."""
        return EffectScale(self.spec, self.model, self.joint_ids)

    def attach(self, kinds: Collection[str]) -> "Plant":
        """Return the plant with the parts that undeclared effects of some kinds need; itself if they need none.

        Raises:
            SpecError: If a kind needs a part that the robot's model lacks.
        """
        check_kinds(self.spec, kinds)
        attached = tuple(kind for kind in ATTACHED_KINDS if kind in kinds)
        if not attached:
            return self
        last = self.model.body(self.effect_scale.last_body).name
        add_parts = self.parts.add_to_spec if self.parts else None
        model = compile_model(self.spec, attachments=attached, last_body=last, add_parts=add_parts)
        return Plant(self.spec, model, attached, self.parts)

    @cached_property
    def force_columns(self) -> np.ndarray:
        """Columns of the sensor data with the forces of motors on joints, `J`; empty unless an effect needs them."""
        if THERMAL not in self.attachments:
            return np.zeros(0, int)
        return np.array([self.model.sensor(name_force_sensor(name)).adr[0] for name in self.spec.joint_names])

    @cached_property
    def own_qpos_ids(self) -> np.ndarray:
        """Positions in `qpos` of what the robot's model has without attachments and stand-in."""
        names = list_names(self.model, mujoco.mjtObj.mjOBJ_JOINT)
        is_own = [not name.startswith(PREFIX) for name in names]
        return np.flatnonzero(np.repeat(is_own, np.diff([*self.model.jnt_qposadr, self.model.nq])))

    @cached_property
    def spring_ids(self) -> np.ndarray:
        """Positions in `qpos` of the springs behind motors, in an elastic stand-in; else empty."""
        transmission = self.parts.transmission if self.parts else None
        joints = transmission.joints if transmission else ()
        return np.array([self.model.joint(name_spring(name)).qposadr[0] for name in joints], int)

    @cached_property
    def spring_columns(self) -> np.ndarray:
        """Numbers of the joints that they are behind."""
        transmission = self.parts.transmission if self.parts else None
        return transmission.columns if transmission else np.zeros(0, int)

    @cached_property
    def randomized(self) -> RandomizedParameters:
        """Parameters that `randomize:` declares."""
        return resolve_parameters(self.spec, self.model)

    @cached_property
    def longest_delay(self) -> tuple[int, str]:
        """Longest delay of a command, in physics steps, and the key that declares it."""
        shared = int(self._count_steps(WorldRanges.from_spec(self.spec).delay[1])), "world.delay"
        own = [
            (round(each.high / self.model.opt.timestep), f"randomize '{each.declared.key}'")
            for each in self.randomized.parameters
            if each.quantity == "actuator/delay"
        ]
        return max([shared, *own], key=lambda each: each[0])

    @property
    def added_delay(self) -> int:
        """Delay of a command that a stand-in adds to that of the world, in physics steps."""
        return round(self.parts.delay / self.model.opt.timestep) if self.parts else 0

    def _count_steps(self, nominal_steps: np.ndarray | int) -> np.ndarray | int:
        """Return how many physics steps last as long as some of the nominal model, in which worlds count."""
        if not self.parts:
            return nominal_steps
        return self.parts.count_steps(np.asarray(nominal_steps), self.model.opt.timestep)

    @cached_property
    def payload_body_id(self) -> int | None:
        name = WorldRanges.from_spec(self.spec).payload_body
        return int(self._find_ids(mujoco.mjtObj.mjOBJ_BODY, (name,))[0]) if name else None

    def _find_ids(self, kind: mujoco.mjtObj, names: tuple[str, ...]) -> np.ndarray:
        # Not mj_name2id: what has no name in the model is named by its number.
        known = list_names(self.model, kind)
        if missing := [name for name in names if name not in known]:
            raise SpecError(
                f"robot '{self.spec.name}' names '{missing[0]}'; {self.spec.model} does not contain it"
            )
        ids = [known.index(name) for name in names]
        return np.array(ids)

    def apply_world(self, world: World, model: mujoco.MjModel, scratch: mujoco.MjData) -> None:
        """Set the parameters of a world in `model`, a copy of the nominal model.

        The sign of a reversed motor is not part of the model: `BatchSim` mirrors its commands.

        Raises:
            SpecError: If the model cannot show a parameter of the world.
        """
        check_world(self, world)
        kinds = [effect.kind for effect in world.effects]
        check_kinds(self.spec, kinds)
        check_attached(self, kinds)
        nominal, motors, dofs, bodies = self.model, self.actuator_ids, self.dof_ids, self.body_ids
        changed = [each for each in self.randomized.parameters if each.quantity not in SIGNAL_QUANTITIES]
        reset_effects(model, nominal)
        reset_quantities(model, nominal, [each.declared.quantity for each in changed])
        strength = np.abs(world.gain)
        # An affine gain has three parameters.
        model.actuator_gainprm[motors, :3] = nominal.actuator_gainprm[motors, :3] * strength[:, None]
        model.actuator_biasprm[motors] = nominal.actuator_biasprm[motors] * strength[:, None]
        model.actuator_forcerange[motors] = nominal.actuator_forcerange[motors] * world.torque[:, None]
        model.dof_frictionloss[dofs] = nominal.dof_frictionloss[dofs] * world.friction
        model.dof_damping[dofs] = nominal.dof_damping[dofs] * world.damping
        model.body_mass[:] = nominal.body_mass
        model.body_inertia[:] = nominal.body_inertia
        model.body_mass[bodies] *= world.mass
        model.body_inertia[bodies] *= world.mass[:, None]
        if self.payload_body_id is not None:
            model.body_mass[self.payload_body_id] += world.payload
            model.body_inertia[self.payload_body_id] += 0.4 * world.payload * PAYLOAD_RADIUS**2
        model.opt.gravity[:] = _tilt_gravity(nominal.opt.gravity, world.tilt)
        for each in changed:
            change_quantity(model, each.quantity, each.number, world.parameters[each.name])
        remove_pendulum(self, model)
        for effect in world.effects:
            change_model(self, model, effect)
        mujoco.mj_setConst(model, scratch)

    def compute_friction_factor(self, world: World) -> np.ndarray:
        """Return the factor of a world on the dry friction of each joint, `J`."""
        factor = world.friction.copy()
        for each in self.randomized.parameters:
            if each.quantity == "joint/frictionloss":
                factor[self.joint_ids == each.number] *= world.parameters[each.name]
        return factor

    def limit_pose(self, pose: np.ndarray, model: mujoco.MjModel) -> np.ndarray:
        """Return a pose within the ranges of the joints, where a world has changed them."""
        nominal, ranges = self.model.jnt_range[self.joint_ids], model.jnt_range[self.joint_ids]
        is_changed = (nominal != ranges).any(1)
        return np.where(is_changed, np.clip(pose, *ranges.T), pose) if is_changed.any() else pose

    def compute_signal_changes(self, world: World) -> SignalChanges:
        """Return what a world changes in commands and readings; the model does not contain it."""
        changes = compute_signal_changes(self.randomized, world, self.spec, self.model.opt.timestep)
        if self.parts:
            # Those of `randomize:` are in seconds.
            shared = int(self._count_steps(world.delay)), int(self._count_steps(world.sensor_delay))
            changes = replace(
                changes,
                delay=changes.delay + shared[0] - world.delay,
                sensor_delay=changes.sensor_delay + shared[1] - world.sensor_delay,
            )
        for effect in world.effects:
            changes = change_signals(self, changes, effect)
        return inject_faults(self.spec, changes, world.injected)


def _tilt_gravity(gravity: np.ndarray, tilt: np.ndarray) -> np.ndarray:
    size = np.linalg.norm(gravity)
    if size == 0:
        return gravity
    direction = gravity / size + np.array([tilt[0], tilt[1], 0.0])
    return size * direction / np.linalg.norm(direction)
