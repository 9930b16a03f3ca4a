"""Robot checks: five checks of a spec in simulation, each with a sentence about what was measured."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import mujoco
import numpy as np
from jaxtyping import Float

from wm_robot.math.rotations import compute_matrix
from wm_robot.spec import RobotSpec, make_home_obs
from wm_robot.spec.sensors import DISTANCE_KINDS
from wm_robot_sim.batch import BatchSim
from wm_robot_sim.model_compiler import compile_model
from wm_robot_sim.model_reader import list_names
from wm_robot_sim.plant import Plant
from wm_robot_sim.sensor_readings import SensorReadings
from wm_robot_sim.worlds import DomainRandomization

PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"
HOLD_SECONDS, LIMIT_SECONDS, DIRECTION_SECONDS = 2.0, 3.0, 0.5
LARGEST_DRIFT = {"hinge": 0.2, "slide": 0.05}
"""Kind of a joint → drift from home that is allowed, in rad (m): a servo without integral part sags."""
LARGEST_FINAL_SPEED = {"hinge": 0.2, "slide": 0.05}
"""Kind of a joint → speed that is allowed after two seconds, in rad/s (m/s)."""
STEP_SIZE = {"hinge": 0.2, "slide": 0.05}
"""Kind of a joint → change of a servo's command that must move it, in rad (m)."""
SMALLEST_MOTION = 1e-5
"""Change of a joint's position that counts as motion, in rad (m)."""
OVERSHOOT, OVERSHOOT_SHARE = 0.02, 0.05
"""Allowed distance beyond a range: a length in rad (m), and a share of the range. Stops in simulation are soft."""
OBS_TOLERANCE = 1e-3
OBS_PERIODS, SPEED_PERIODS = 20, 100
LARGEST_DROP, LARGEST_DROP_SHARE, LARGEST_TILT = 0.03, 0.3, 30.0
"""Motion of a floating base that is no fall: a drop in m and as a share of its height, and a tilt in degrees."""
DISTURBANCE = 0.002
"""Distance of the start from home in the first check, in rad (m)."""
HOLD_FREQUENCY = 6.0
"""Natural frequency of the controller that holds a robot with motors, in rad/s."""


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """Result of a check."""

    check: str
    result: str
    """`passed`, `failed` or `not run`."""
    measured: str


def run_robot_checks(spec: RobotSpec) -> list[CheckResult]:
    """Run the five checks of a robot in its nominal world, with noiseless sensors."""
    return [
        CheckResult(check=name, result=result, measured=measured)
        for name, (result, measured) in (
            ("holds still at home", _check_hold(spec)),
            ("actuators move their joints", _check_directions(spec)),
            ("limits hold", _check_limits(spec)),
            ("observation agrees", _check_observation(spec)),
            ("faster than real time", _check_speed(spec)),
        )
    ]


def _check_hold(spec: RobotSpec) -> tuple[str, str]:
    """Check that servos, or a controller of the motors, hold home for two seconds."""
    # Off home a little: a pole that stands exactly upright would never fall.
    sim = _make_robots(spec, 1, disturbance=DISTURBANCE)
    efforts = np.array([each.kind == "effort" for each in spec.actuators])
    controller = _HoldController(sim.plant) if efforts.any() else None
    if controller and (weak := controller.find_weak_motor()):
        return NOT_RUN, f"no stance: {weak}"
    for _ in range(round(HOLD_SECONDS * spec.rate)):
        action = spec.home_action[None]
        if controller:
            position, velocity = _read_joints(sim)
            action = np.where(efforts, controller.compute_action(position, velocity), action)
        sim.step(action)
        if _has_diverged(sim):
            return FAILED, "the simulation diverges at home. Set a smaller world.timestep"
    _, velocity = _read_joints(sim)
    kinds = [joint.kind for joint in spec.joints]
    drift, speed = np.abs(spec.layout.subtract(sim.obs, make_home_obs(spec))), np.abs(velocity)
    drift = drift[0, : len(spec.joints)].astype(float)
    most, fastest = (
        np.array([table[kind] for kind in kinds]) for table in (LARGEST_DRIFT, LARGEST_FINAL_SPEED)
    )
    moved = {each.joint for each in spec.actuators}
    is_loose = np.array([name not in moved for name in spec.joint_names])
    if fall := _describe_fall(sim):
        return NOT_RUN, f"no stance: {fall}"
    if (fallen := np.where(is_loose, drift / most, 0.0)).max() > 1:
        worst = int(fallen.argmax())
        return NOT_RUN, (
            f"no stance: '{spec.joint_names[worst]}' has no motor, and moves {drift[worst]:.3g} {_unit(kinds[worst])}"
        )
    excess = np.where(is_loose, 0.0, np.maximum(drift / most, speed / fastest))
    worst = int(excess.argmax())
    unit = _unit(kinds[worst])
    said = (
        f"{'servos hold' if controller is None else 'a simple controller holds'} home for {HOLD_SECONDS:g} s; "
        f"'{spec.joint_names[worst]}' drifts {drift[worst]:.3g} {unit}, and has {speed[worst]:.2g} {unit}/s "
        "at the end"
    )
    if excess[worst] <= 1:
        return PASSED, said
    if spec.base and controller:
        return NOT_RUN, f"no stance: {said}. The controller knows nothing of the load on the feet"
    return FAILED, (
        f"{said}; at most {most[worst]:g} {unit} and {fastest[worst]:g} {unit}/s are allowed. Look for contacts at "
        "home, weak gains, or another home"
    )


def _read_joints(sim: BatchSim) -> tuple[np.ndarray, np.ndarray]:
    """Read the true joint positions and velocities of the first robot, whatever it observes."""
    plant, state = sim.plant, sim.save()["physical"][0]
    return state[1 + plant.qpos_ids], state[1 + plant.model.nq + plant.dof_ids]


def _describe_fall(sim: BatchSim) -> str:
    """Describe how far a floating base is from home, if that is a fall; empty otherwise."""
    spec = sim.spec
    if spec.base is None:
        return ""
    layout, obs = spec.layout, sim.obs[0].astype(float)
    lower = spec.base.height - float(obs[layout.find_channels("height")][0])
    matrix = compute_matrix(obs[layout.find_channels("rotation")]).reshape(3, 3).T
    # The vertical, in the frame of the base.
    angle = np.degrees(np.arccos(np.clip(matrix[2] @ spec.base.home_rotation[2], -1, 1)))
    if lower > max(LARGEST_DROP, LARGEST_DROP_SHARE * abs(spec.base.height)) or angle > LARGEST_TILT:
        return (
            f"the base falls; after {HOLD_SECONDS:g} s it is {lower:.2g} m lower and tilted by {angle:.0f}°"
        )
    return ""


class _HoldController:
    """Controller that holds a robot at home with its motors: gravity compensation, a spring and a damper."""

    def __init__(self, plant: Plant):
        self._plant, self._data = plant, mujoco.MjData(plant.model)
        model, spec = plant.model, plant.spec
        motors = plant.actuator_ids
        self._home = spec.home_position
        if plant.base_motion:
            ids = plant.base_motion.qpos_ids
            self._data.qpos[ids] = plant.base_motion.make_home_pose(self._data.qpos[ids])
        gain = model.actuator_gainprm[motors, 0] * model.actuator_gear[motors, 0]
        self._gain = np.where(np.abs(gain) > 1e-12, gain, np.inf)
        self._share = 1 / np.bincount(plant.joint_index, minlength=len(spec.joints))[plant.joint_index]
        self._load = self._compute_effort(self._home, np.zeros(len(spec.joints)))

    def find_weak_motor(self) -> str:
        """Return a sentence about a motor that cannot carry its joint at home; empty if all can."""
        spec = self._plant.spec
        wanted = self._to_action(self._load)
        for number, actuator in enumerate(spec.actuators):
            low, high = actuator.range
            if actuator.kind == "effort" and not low - 1e-6 <= wanted[number] <= high + 1e-6:
                return (
                    f"to carry the robot at home, motor '{actuator.name}' needs the command {wanted[number]:.3g}; "
                    f"its range is [{low:g}, {high:g}]"
                )
        return ""

    def compute_action(self, position: np.ndarray, velocity: np.ndarray) -> Float[np.ndarray, "1 A"]:
        return self._to_action(self._compute_effort(position, velocity))[None]

    def _to_action(self, effort: np.ndarray) -> np.ndarray:
        action: np.ndarray = effort[self._plant.joint_index] * self._share / self._gain
        return action

    def _compute_effort(self, position: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        model, data, plant = self._plant.model, self._data, self._plant
        data.qpos[plant.qpos_ids], data.qvel[plant.dof_ids] = position, velocity
        mujoco.mj_forward(model, data)
        inertia = np.zeros((model.nv, model.nv))
        mujoco.mj_fullM(model, data, inertia)
        wanted = HOLD_FREQUENCY**2 * (self._home - position) - 2 * HOLD_FREQUENCY * velocity
        acceleration = np.zeros(model.nv)
        acceleration[plant.dof_ids] = wanted
        effort: np.ndarray = (inertia @ acceleration + data.qfrc_bias - data.qfrc_passive)[plant.dof_ids]
        return effort


def _check_directions(spec: RobotSpec) -> tuple[str, str]:
    """Check that each actuator alone, set higher, moves its joint in the direction of its gain."""
    count = spec.action_dim
    sim = _make_robots(spec, count + 1)
    steps, expected = _choose_steps(sim.plant)
    actions = np.tile(spec.home_action, (count + 1, 1)).astype(float)
    actions[np.arange(count), np.arange(count)] += steps
    positions = [sim.obs.astype(float)[:, : len(spec.joints)]]
    for _ in range(max(2, round(DIRECTION_SECONDS * spec.rate))):
        sim.step(actions)
        positions.append(sim.true_joint_positions())
    # The last robot keeps home: the difference is the effect of one actuator alone.
    moved = np.array(positions)
    moved = moved - moved[:, -1:]
    wrong = []
    for number, actuator in enumerate(spec.actuators):
        way = moved[:, number, sim.plant.joint_index[number]]
        reached = np.flatnonzero(np.abs(way) > SMALLEST_MOTION)
        if not len(reached):
            wrong.append(f"'{actuator.name}' does not move '{actuator.joint}' in {DIRECTION_SECONDS:g} s")
        elif np.sign(way[reached[0]]) != np.sign(expected[number]):
            wrong.append(f"'{actuator.name}' moves '{actuator.joint}' against its direction")
    if wrong:
        return FAILED, "; ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
    back = [a.name for a, step, sign in zip(spec.actuators, steps, expected, strict=True) if step * sign < 0]
    reversed_motors = f"; a positive command moves {_list_names(back)} backwards, by its gear" if back else ""
    return PASSED, f"{count} of {count}, each alone{reversed_motors}"


def _choose_steps(plant: Plant) -> tuple[np.ndarray, np.ndarray]:
    """Return the change of each actuator's command, towards the roomier side, and the sign of its motion."""
    spec = plant.spec
    steps, signs = np.zeros(spec.action_dim), np.zeros(spec.action_dim)
    for number, actuator in enumerate(spec.actuators):
        home, (low, high) = float(spec.home_action[number]), actuator.range
        joint = plant.joint_index[number]
        below, above = (
            spec.home_position[joint] - spec.pose_limits[joint, 0],
            (spec.pose_limits[joint, 1] - spec.home_position[joint]),
        )
        slope = _compute_slope(plant, number)
        upwards = above >= below if slope > 0 else below >= above
        room = high - home if upwards else home - low
        if room < 1e-9:
            upwards, room = not upwards, (home - low if upwards else high - home)
        size = min(room, STEP_SIZE[spec.joints[joint].kind]) if actuator.is_servo else room
        steps[number] = size if upwards else -size
        signs[number] = np.sign(steps[number]) * slope
    return steps, signs


def _compute_slope(plant: Plant, number: int) -> float:
    """Return the sign in which a larger command of an actuator pushes its joint, by gain, gear and tendon."""
    model, motor = plant.model, plant.actuator_ids[number]
    # A muscle pulls: its gain is negative by convention.
    is_muscle = model.actuator_gaintype[motor] == mujoco.mjtGain.mjGAIN_MUSCLE
    gain = -1.0 if is_muscle else float(model.actuator_gainprm[motor, 0])
    data = mujoco.MjData(model)
    data.qpos[plant.qpos_ids] = plant.spec.home_position
    mujoco.mj_forward(model, data)
    moment = np.zeros((model.nu, model.nv))
    mujoco.mju_sparse2dense(
        moment,
        data.actuator_moment.ravel(),
        data.moment_rownnz,
        data.moment_rowadr,
        data.moment_colind.ravel(),
    )
    return float(np.sign(gain * moment[motor, plant.dof_ids[plant.joint_index[number]]]))


def _check_limits(spec: RobotSpec) -> tuple[str, str]:
    """Check that commands beyond their range are clipped, and that joints stay within their range."""
    sim = _make_robots(spec, 2)
    low, high = spec.action_low.astype(float), spec.action_high.astype(float)
    commands = np.array([high + (high - low), low - (high - low)])
    ends = np.array([joint.position for joint in spec.joints])
    # A joint without range in the model has an assumed one in the spec, and no stop.
    endless = sim.plant.model.jnt_limited[sim.plant.joint_ids] == 0
    allowed = OVERSHOOT + OVERSHOOT_SHARE * (ends[:, 1] - ends[:, 0])
    ends[endless] = -np.inf, np.inf
    beyond_range = []
    for _ in range(round(LIMIT_SECONDS * spec.rate)):
        _, applied = sim.step(commands)
        if (applied < low - 1e-6).any() or (applied > high + 1e-6).any():
            return FAILED, "an applied action is outside its range"
        position = sim.true_joint_positions()
        beyond_range.append(np.maximum(ends[:, 0] - position, position - ends[:, 1]))
        if _has_diverged(sim):
            return FAILED, (
                "the simulation diverges under commands at the ends of their ranges. Set a smaller "
                "world.timestep, or narrower ranges of the actuators"
            )
    # What stays beyond is a fault; what slams into a soft stop comes back from it.
    worst = np.min(beyond_range[-len(beyond_range) // 4 :], axis=0).max(0)
    servos = {each.joint for each in spec.actuators if each.is_servo}
    has_servo = np.array([name in servos for name in spec.joint_names])
    number = int(np.where(has_servo, worst - allowed, -np.inf).argmax())
    if has_servo.any() and worst[number] > allowed[number]:
        unit = _unit(spec.joints[number].kind)
        return FAILED, (
            f"the servo of '{spec.joint_names[number]}' holds it {worst[number]:.2g} {unit} beyond its range "
            f"{list(spec.joints[number].position)}; at most {allowed[number]:.2g} {unit} are allowed. Narrow the "
            "range of the actuator, or make the stop of the joint harder"
        )
    said = "commands are clipped"
    if has_servo.any():
        said += (
            f"; no servo holds its joint more than {max(0.0, worst[has_servo].max()):.2g} beyond its range"
        )
    # The command of a motor is an effort: no limit of the spec keeps its joint in range, only the model's stop.
    pushed = [name for name, is_beyond in zip(spec.joint_names, worst > allowed, strict=True) if is_beyond]
    if pushed:
        said += f"; motors at full effort push {_list_names(pushed)} through the soft stop of the model"
    return PASSED, said


def _has_diverged(sim: BatchSim) -> bool:
    """Whether a simulation has diverged: MuJoCo then starts again, at time zero."""
    state = sim.save()["physical"]
    return not np.isfinite(state).all() or bool((np.abs(state[:, 0] - sim.steps * sim.spec.dt) > 1e-6).any())


def _check_observation(spec: RobotSpec) -> tuple[str, str]:
    """Check the observation against a simulation of the model alone, under the same random commands."""
    sim = _make_robots(spec, 1)
    spec = sim.spec
    rng, model = np.random.default_rng(0), compile_model(spec, visuals=True)
    # As in the batch: a solver that starts from its last result lets contacts diverge within a second.
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_WARMSTART)
    data, physics = mujoco.MjData(model), int(mujoco.mjtState.mjSTATE_FULLPHYSICS)
    mujoco.mj_setState(model, data, np.array(sim.save()["physical"][0]), physics)
    names = list_names(model, mujoco.mjtObj.mjOBJ_JOINT), list_names(model, mujoco.mjtObj.mjOBJ_ACTUATOR)
    joints, motors = (
        [names[0].index(n) for n in spec.joint_names],
        [names[1].index(n) for n in spec.action_names],
    )
    sensors = SensorReadings(spec, model)
    worst, where = 0.0, spec.observation_names[0]
    for _ in range(OBS_PERIODS):
        obs, applied = sim.step(rng.uniform(spec.action_low, spec.action_high)[None])
        data.ctrl[motors] = applied[0]
        mujoco.mj_step(model, data, nstep=round(spec.dt / model.opt.timestep))
        true = {
            "position": data.qpos[model.jnt_qposadr[joints]],
            "velocity": data.qvel[model.jnt_dofadr[joints]],
            "effort": data.sensordata[sensors.effort_columns],
        }
        values = np.concatenate(
            [
                *(true[name] for name in spec.interfaces),
                _read_true_base(sim.plant, model, data),
                sensors.compute_channels(data.sensordata[sensors.columns]) if spec.sensors else np.zeros(0),
            ]
        )
        for sensor in spec.sensors:
            if sensor.kind in DISTANCE_KINDS:
                # Its beams meet what is only seen here, and nothing of that in the batch.
                values[spec.layout.find_sensor(sensor.name)] = obs[0, spec.layout.find_sensor(sensor.name)]
        apart = np.abs(spec.layout.subtract(obs[0], values)) / np.maximum(1.0, np.abs(values))
        if not apart.max() <= worst:
            worst, where = float(apart.max()), spec.observation_names[int(apart.argmax())]
    origin = "qpos, qvel and sensors" if spec.sensors or "effort" in spec.interfaces else "qpos and qvel"
    said = f"{spec.obs_dim} channels are {origin} of the model, within {worst:.1g} over {OBS_PERIODS} periods"
    if worst <= OBS_TOLERANCE:
        return PASSED, said
    return FAILED, f"channel '{where}' is {worst:.3g} off the model's own simulation"


def _read_true_base(plant: Plant, model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
    """Read the channels of a floating base as MuJoCo computes them; none where the base is fixed."""
    if plant.base_motion is None:
        return np.zeros(0)
    body, moved, velocity = plant.base_motion.body_id, mujoco.MjData(model), np.zeros(6)
    moved.qpos[:], moved.qvel[:] = data.qpos, data.qvel
    mujoco.mj_forward(model, moved)
    mujoco.mj_objectVelocity(model, moved, mujoco.mjtObj.mjOBJ_XBODY, body, velocity, 1)
    columns = moved.xmat[body].reshape(3, 3)[:, :2].T.ravel()
    return np.concatenate([moved.xpos[body, 2:], columns, velocity[3:], velocity[:3]])


def _check_speed(spec: RobotSpec) -> tuple[str, str]:
    """Check that one simulated robot is faster than a real one, on this machine."""
    sim = _make_robots(spec, 1)
    started = time.perf_counter()
    for _ in range(SPEED_PERIODS):
        sim.step(spec.home_action[None])
    ratio = SPEED_PERIODS * spec.dt / (time.perf_counter() - started)
    return (PASSED if ratio > 1 else FAILED), f"{ratio:.3g} times real time, one robot on one core"


def _make_robots(spec: RobotSpec, count: int, *, disturbance: float = 0.0) -> BatchSim:
    """Create robots at rest at home, in the nominal world, with noiseless sensors.

    Args:
        disturbance: Distance of each joint from home, in rad (m), away from the nearer end of its range.
    """
    ideal = [replace(each, noise={}, resolution={}, rate=0.0, delay=0.0) for each in spec.sensors]
    spec = replace(spec, sensors=tuple(ideal))
    world = replace(
        DomainRandomization(spec).make_nominal_world(),
        position_noise=0.0,
        velocity_noise=0.0,
        effort_noise=0.0,
        sensor_delay=0,
    )
    sim = BatchSim(spec, [world] * count, seed=0)
    plant, saved = sim.plant, sim.save()
    model, limits = plant.model, spec.pose_limits
    home = spec.home_position
    home = home + np.where(home < limits.mean(1), disturbance, -disturbance)
    saved["physical"][:, 1 + plant.qpos_ids] = home
    if plant.base_motion:
        ids = plant.base_motion.qpos_ids
        saved["physical"][:, 1 + ids] = plant.base_motion.make_home_pose(model.qpos0[ids])
    saved["commands"][:] = spec.home_action
    for row, motor in _list_activations(plant):
        saved["physical"][:, 1 + model.nq + model.nv + row] = spec.home_action[motor]
    saved["obs"][:] = make_home_obs(spec)
    saved["obs"][:, : len(home)] = home
    sim.restore(saved)
    return sim


def _list_activations(plant: Plant) -> Iterator[tuple[int, int]]:
    """Yield the address of the activation of each servo with a filter, and its number in the spec."""
    for number, motor in enumerate(plant.actuator_ids):
        if plant.spec.actuators[number].is_servo and plant.model.actuator_actadr[motor] >= 0:
            yield int(plant.model.actuator_actadr[motor]), number


def _unit(kind: str) -> str:
    return "rad" if kind == "hinge" else "m"


def _list_names(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:3]) + (
        f" and {len(names) - 3} more" if len(names) > 3 else ""
    )
