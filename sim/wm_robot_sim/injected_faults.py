"""Injected faults: faults of one joint or of the whole robot, given to a simulated robot by kind, place and size."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from wm_robot.errors import SpecError
from wm_robot.spec import RobotSpec
from wm_robot.types import Fault
from wm_robot_sim.effects.effect import Effect
from wm_robot_sim.effects.signal_effects import LAG
from wm_robot_sim.model_compiler import compile_model
from wm_robot_sim.signal_changes import ReadingChanges, SignalChanges
from wm_robot_sim.worlds import World


def add_faults(world: World, spec: RobotSpec, faults: Sequence[Fault]) -> World:
    """Return a world with faults added.

    Raises:
        SpecError: If a kind or a joint is unknown.
    """
    for fault in faults:
        if fault.kind in WORLD_FAULTS:
            world = WORLD_FAULTS[fault.kind](world, spec, fault)
        elif fault.kind in SIGNAL_FAULTS:
            _find_joint(spec, fault)
            world = replace(world, injected=(*world.injected, fault))
        else:
            known = sorted([*WORLD_FAULTS, *SIGNAL_FAULTS])
            raise SpecError(f"fault.kind is {fault.kind!r}; a simulation has {known}")
    return world


def inject_faults(spec: RobotSpec, changes: SignalChanges, faults: Sequence[Fault]) -> SignalChanges:
    """Return signal changes with the faults of cables, encoders and gears added."""
    for fault in faults:
        if fault.kind not in SIGNAL_FAULTS:
            raise SpecError(f"world.injected has {fault.kind!r}; it may have {sorted(SIGNAL_FAULTS)}")
        changes = SIGNAL_FAULTS[fault.kind](spec, changes, fault)
    return changes


def find_motors(spec: RobotSpec, joint: str) -> list[int]:
    """Find the motors that move a joint."""
    return [number for number, each in enumerate(spec.actuators) if each.joint == joint]


def _find_joint(spec: RobotSpec, fault: Fault, name: str | None = None) -> int:
    name = fault.joint if name is None else name
    if name not in spec.joint_names:
        raise SpecError(
            f"fault '{fault.kind}' names joint '{name}'; robot '{spec.name}' has {list(spec.joint_names)}"
        )
    return spec.joint_names.index(name)


def _change_element(values: np.ndarray, index: int | list[int], value: np.ndarray | float) -> np.ndarray:
    changed = values.copy()
    changed[index] = value
    return changed


def _shift_bias(world: World, spec: RobotSpec, fault: Fault) -> World:
    joint = _find_joint(spec, fault)
    return replace(world, bias=_change_element(world.bias, joint, world.bias[joint] + fault.size))


def _weaken_motor(world: World, spec: RobotSpec, fault: Fault) -> World:
    _find_joint(spec, fault)
    motors = find_motors(spec, fault.joint)
    return replace(world, gain=_change_element(world.gain, motors, world.gain[motors] * fault.size))


def _reverse_motor(world: World, spec: RobotSpec, fault: Fault) -> World:
    return _weaken_motor(world, spec, replace(fault, size=-1.0))


def _limit_motor(world: World, spec: RobotSpec, fault: Fault) -> World:
    _find_joint(spec, fault)
    motors = find_motors(spec, fault.joint)
    return replace(world, torque=_change_element(world.torque, motors, world.torque[motors] * fault.size))


def _add_friction(world: World, spec: RobotSpec, fault: Fault) -> World:
    joint = _find_joint(spec, fault)
    return replace(world, friction=_change_element(world.friction, joint, world.friction[joint] * fault.size))


def _add_payload(world: World, spec: RobotSpec, fault: Fault) -> World:
    return replace(world, payload=world.payload + fault.size)


def _tilt_base(world: World, spec: RobotSpec, fault: Fault) -> World:
    slope = np.tan(fault.size) * np.array([np.cos(fault.heading), np.sin(fault.heading)])
    return replace(world, tilt=world.tilt + slope)


def _delay_signals(world: World, spec: RobotSpec, fault: Fault) -> World:
    """Delay commands by a part of a control period, and readings by whole periods: the sum alone can be observed."""
    timestep = compile_model(spec).opt.timestep
    substeps = round(spec.dt / timestep)
    periods, steps = divmod(round(fault.size / timestep), substeps)
    world = replace(world, delay=world.delay + steps)
    if not periods:
        return world
    lag = Effect(kind="sensor_lag", strength=periods * spec.dt / LAG)
    return replace(world, effects=(*world.effects, lag))


def _get_readings(spec: RobotSpec, changes: SignalChanges) -> ReadingChanges:
    return changes.readings or ReadingChanges.make_unchanged(len(spec.joints))


def _shift_servo(spec: RobotSpec, changes: SignalChanges, fault: Fault) -> SignalChanges:
    joint, motors = _find_joint(spec, fault), find_motors(spec, fault.joint)
    servos = [motor for motor in motors if spec.actuators[motor].is_servo]
    return replace(
        changes,
        bias=_change_element(changes.bias, joint, changes.bias[joint] + fault.size),
        offset=_change_element(changes.offset, servos, changes.offset[servos] - fault.size),
    )


def _scale_encoder(spec: RobotSpec, changes: SignalChanges, fault: Fault) -> SignalChanges:
    joint, own = _find_joint(spec, fault), _get_readings(spec, changes)
    scale = _change_element(own.scale, joint, own.scale[joint] * fault.size)
    return replace(changes, readings=replace(own, scale=scale))


def _reverse_encoder(spec: RobotSpec, changes: SignalChanges, fault: Fault) -> SignalChanges:
    return _scale_encoder(spec, changes, replace(fault, size=-1.0))


def _exchange_motors(spec: RobotSpec, changes: SignalChanges, fault: Fault) -> SignalChanges:
    _find_joint(spec, fault, fault.other)
    order = np.arange(spec.action_dim)
    one, other = find_motors(spec, fault.joint)[0], find_motors(spec, fault.other)[0]
    order[[one, other]] = other, one
    return replace(changes, mixing=np.eye(spec.action_dim)[order] @ changes.mixing)


def _exchange_encoders(spec: RobotSpec, changes: SignalChanges, fault: Fault) -> SignalChanges:
    one, other, own = (
        _find_joint(spec, fault),
        _find_joint(spec, fault, fault.other),
        _get_readings(spec, changes),
    )
    source = own.source.copy()
    source[[one, other]] = source[[other, one]]
    return replace(changes, readings=replace(own, source=source))


def _add_play(spec: RobotSpec, changes: SignalChanges, fault: Fault) -> SignalChanges:
    play = changes.play if len(changes.play) else np.zeros(spec.action_dim)
    motors = find_motors(spec, fault.joint)
    return replace(changes, play=_change_element(play, motors, play[motors] + fault.size / 2))


def _stop_encoder(spec: RobotSpec, changes: SignalChanges, fault: Fault) -> SignalChanges:
    joint, own = _find_joint(spec, fault), _get_readings(spec, changes)
    return replace(changes, readings=replace(own, is_stuck=_change_element(own.is_stuck, joint, True)))


def _disturb_encoder(spec: RobotSpec, changes: SignalChanges, fault: Fault) -> SignalChanges:
    joint, own = _find_joint(spec, fault), _get_readings(spec, changes)
    return replace(
        changes, readings=replace(own, noise_std=_change_element(own.noise_std, joint, fault.size))
    )


WORLD_FAULTS: Mapping[str, Callable[[World, RobotSpec, Fault], World]] = {
    "encoder_zero": _shift_bias,
    "reversed_command": _reverse_motor,
    "weak": _weaken_motor,
    "limited": _limit_motor,
    "sticky": _add_friction,
    "payload": _add_payload,
    "mounting": _tilt_base,
    "delay": _delay_signals,
}
"""Kinds that the fields of a world express."""
SIGNAL_FAULTS: Mapping[str, Callable[[RobotSpec, SignalChanges, Fault], SignalChanges]] = {
    "servo_zero": _shift_servo,
    "encoder_scale": _scale_encoder,
    "reversed_reading": _reverse_encoder,
    "exchanged_motors": _exchange_motors,
    "exchanged_encoders": _exchange_encoders,
    "backlash": _add_play,
    "stuck": _stop_encoder,
    "noisy": _disturb_encoder,
}
"""Kinds that change commands or readings outside the model."""
