"""Declared dynamics: finds the ranges and worlds that a robot's model cannot show.

A factor on a quantity that is zero changes nothing: the robot would be trained on worlds that are all equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import mujoco
import numpy as np

from wm_robot.errors import SpecError
from wm_robot_sim.model_quantities import (
    SCALED_GAINS,
    find_unreachable_limits,
    has_gravity,
    is_disabled,
    quote_names,
    refuse_findings,
)
from wm_robot_sim.reachable_poses import compute_gripper_positions
from wm_robot_sim.world_ranges import WorldRanges
from wm_robot_sim.worlds import World

if TYPE_CHECKING:
    from wm_robot_sim.plant import Plant

FAULTS_OF_FACTOR = {"gain": ("weak", "reversed", "dead"), "torque": ("limited",), "friction": ("sticky",)}
UNCHANGED = (1.0, 1.0)
"""Range of a factor that changes nothing."""


@dataclass(frozen=True)
class MissingQuantity:
    """Elements of a model that lack what a factor of a world acts on."""

    factor: str
    """Field of `World`."""
    is_missing: np.ndarray
    """Which motors (for `gain` and `torque`) or joints lack it, bool."""
    element: str
    """`actuator` or `joint`."""
    lack: str
    remedy: str

    def describe_elements(self, names: Sequence[str]) -> str:
        """Return the lack and the elements, as part of a sentence."""
        lacking = [name for name, missing in zip(names, self.is_missing, strict=True) if missing]
        return f"{self.lack} for {self.element}{'s' * (len(lacking) > 1)} {quote_names(lacking)}"


def find_missing_quantities(plant: "Plant") -> tuple[MissingQuantity, ...]:
    """Return what the motors and joints of a model lack, for each factor of a world."""
    model, motors, dofs, bodies = plant.model, plant.actuator_ids, plant.dof_ids, plant.body_ids
    is_scaled = np.isin(model.actuator_gaintype[motors], [int(kind) for kind in SCALED_GAINS])
    has_gain = model.actuator_gainprm[motors, :3].any(1)
    has_limit = model.actuator_forcelimited[motors].astype(bool)
    no_friction = is_disabled(model, mujoco.mjtDisableBit.mjDSBL_FRICTIONLOSS)
    no_damper = is_disabled(model, mujoco.mjtDisableBit.mjDSBL_DAMPER)
    shares_body = np.array([(bodies == body).sum() > 1 for body in bodies])
    actuators: tuple[tuple[str, np.ndarray, str, str], ...] = (
        ("gain", ~(is_scaled & has_gain), "no gain that a factor scales", "Give it a fixed gain"),
        ("torque", ~has_limit, "no forcerange", "Give it one"),
        (
            "torque",
            has_limit & find_unreachable_limits(model, motors),
            "a forcerange that gain times ctrlrange never reaches",
            "Make it smaller",
        ),
    )
    joints: tuple[tuple[str, np.ndarray, str, str], ...] = (
        ("friction", (model.dof_frictionloss[dofs] == 0) | no_friction, "no frictionloss", "Give it one"),
        ("damping", (model.dof_damping[dofs] == 0) | no_damper, "no damping", "Give it some"),
        ("mass", model.body_mass[bodies] == 0, "no link mass", "Give it some"),
        ("mass", shares_body, "one link, with one mass,", "Give each joint its own link"),
    )
    return tuple(
        MissingQuantity(factor, is_missing, element, lack, remedy)
        for element, entries in (("actuator", actuators), ("joint", joints))
        for factor, is_missing, lack, remedy in entries
    )


def check_declared_dynamics(plant: "Plant") -> None:
    """Reject the ranges of a spec that its model cannot show, all in one message.

    Raises:
        SpecError: If a range has no effect on the model.
    """
    ranges = WorldRanges.from_spec(plant.spec)
    found = [
        *_find_payload_contradictions(plant, ranges),
        *_find_factor_contradictions(plant, ranges),
        *_find_sensor_contradictions(plant, ranges),
        *_find_pose_contradictions(plant, ranges),
    ]
    if ranges.tilt and not has_gravity(plant.model):
        found.append(
            f"world.tilt is {ranges.tilt}, and the model has no gravity. Give it gravity, or remove world.tilt"
        )
    refuse_findings(plant.spec, found)


def check_world(plant: "Plant", world: World) -> None:
    """Reject a world that the model cannot show.

    Raises:
        SpecError: If a parameter of the world has no effect on the model.
    """
    world.check_sizes(plant.spec)
    plant.randomized.check_names(world.parameters, plant.spec.name)
    for missing in plant.missing_quantities:
        factors = getattr(world, missing.factor)
        without_effect = missing.is_missing & (factors != 1)
        if without_effect.any():
            first = int(without_effect.argmax())
            name = _get_names(plant, missing.element)[first]
            raise SpecError(
                f"world.{missing.factor} of {missing.element} '{name}' is {factors[first]:g}, and "
                f"{plant.spec.model} has {missing.lack} for it. {missing.remedy} there, or leave the factor at 1"
            )
    if world.payload and plant.payload_body_id is None:
        raise SpecError(
            f"world.payload is {world.payload}, and robot '{plant.spec.name}' has no body that carries it. "
            "Set world.payload_body in its spec"
        )
    if world.tilt.any() and not has_gravity(plant.model):
        raise SpecError(f"world.tilt is {world.tilt}, and {plant.spec.model} has no gravity. Leave it at 0")


def _find_payload_contradictions(plant: "Plant", ranges: WorldRanges) -> list[str]:
    model = plant.model
    carriers = [model.body(body).name for body in range(1, model.nbody) if model.body_weldid[body]]
    known = quote_names([name for name in carriers if name])
    if ranges.payload_body and ranges.payload_body not in carriers:
        return [
            f"world.payload_body is '{ranges.payload_body}', and the model has no moving body of that name. "
            f"Set it to one of {known}"
        ]
    if ranges.payload[1] > 0 and not ranges.payload_body:
        return [
            f"world.payload is {ranges.payload}, and no body carries it. "
            f"Set world.payload_body to one of {known}"
        ]
    return []


def _find_factor_contradictions(plant: "Plant", ranges: WorldRanges) -> list[str]:
    found = []
    for missing in plant.missing_quantities:
        elements = missing.describe_elements(_get_names(plant, missing.element))
        for name, value in _list_values(plant, ranges, missing):
            found.append(
                f"{name} is {value}, and the model has {elements}. {missing.remedy} there, or remove {name}"
            )
    if "reversed" in ranges.faults:
        found += [
            f"world.faults.reversed reverses every motor, and actuator '{each.name}' has range {each.range}, "
            "of one sign. Remove world.faults.reversed"
            for each in plant.spec.actuators
            if not each.is_servo and not each.range[0] < 0 < each.range[1]
        ]
    return found


def _list_values(plant: "Plant", ranges: WorldRanges, missing: MissingQuantity) -> list[tuple[str, object]]:
    """Return the declared ranges and faults that change a missing quantity, with their names."""
    found: list[tuple[str, object]] = []
    factor = getattr(ranges, missing.factor)
    if missing.is_missing.any() and tuple(factor) != UNCHANGED:
        found.append((f"world.{missing.factor}", factor))
    # A fault of a motor reaches only the joint that it moves.
    of_motor = missing.is_missing if missing.element == "actuator" else missing.is_missing[plant.joint_index]
    if of_motor.any():
        kinds = FAULTS_OF_FACTOR.get(missing.factor, ())
        found += [(f"world.faults.{kind}", ranges.faults[kind]) for kind in kinds if kind in ranges.faults]
    return found


def _find_sensor_contradictions(plant: "Plant", ranges: WorldRanges) -> list[str]:
    found = []
    interfaces = {
        "bias": "position",
        "position_noise": "position",
        "velocity_noise": "velocity",
        "effort_noise": "effort",
    }
    for name, interface in interfaces.items():
        value = getattr(ranges, name)
        if value and interface not in plant.spec.interfaces:
            found.append(
                f"world.{name} is {value}, and the robot does not observe {interface}: interfaces is "
                f"{list(plant.spec.interfaces)}. Add '{interface}', or remove world.{name}"
            )
    if ranges.sensor_delay >= plant.substeps:
        found.append(
            f"world.sensor_delay is {ranges.sensor_delay} physics steps, and a control period has "
            f"{plant.substeps}. Set it below that"
        )
    return found


def _find_pose_contradictions(plant: "Plant", ranges: WorldRanges) -> list[str]:
    spec = plant.spec
    if not spec.chain or ranges.clearance == -np.inf:
        return []
    center = np.array(ranges.pose_center or spec.pose_limits.mean(1))
    height = float(compute_gripper_positions(spec, center[None])[0, 2])
    if height >= ranges.clearance:
        return []
    name = "world.pose_center" if ranges.pose_center else "the middle of all ranges"
    return [
        f"world.clearance is {ranges.clearance} m, and at {name} the gripper is {height:.3f} m high. "
        "Set world.pose_center to a pose above that, or a smaller clearance"
    ]


def _get_names(plant: "Plant", element: str) -> tuple[str, ...]:
    return plant.spec.action_names if element == "actuator" else plant.spec.joint_names
