"""Sensors in simulation: what they read, how late, how often, how exactly, and that nothing else changes."""

import copy

import mujoco
import numpy as np
import pytest

from tests.sim.robots import wander
from tests.sim.sensing_robots import SENSORS, make_crawler, make_sensor
from wm_robot.errors import SpecError
from wm_robot.spec import RobotSpec
from wm_robot_sim.batch import BatchSim
from wm_robot_sim.model_compiler import compile_model
from wm_robot_sim.plant import Plant, describe_model
from wm_robot_sim.robot import SimRobot
from wm_robot_sim.rollouts import collect_trajectories
from wm_robot_sim.worlds import DomainRandomization

pytestmark = pytest.mark.sim

ALL = [make_sensor(name) for name in SENSORS]
EFFORTS = {"interfaces": ["position", "velocity", "effort"]}
PER = 5
"""Physics steps in a control period."""


def make_sim(spec, count=1, **options):
    nominal = DomainRandomization(spec).make_nominal_world()
    return BatchSim(spec, [nominal] * count, seed=3, **options)


def read(spec, obs, name):
    """Readings of a sensor, or of one group of channels."""
    layout = spec.layout
    return obs[..., layout.find_sensor(name) if name in layout.sensor_names else layout.find_channels(name)]


def simulate(sim, actions):
    """Sensor data of a robot at each physics step, by MuJoCo alone."""
    model, data = sim._models[0], mujoco.MjData(sim._models[0])
    mujoco.mj_setState(model, data, sim.save()["physical"][0], int(mujoco.mjtState.mjSTATE_FULLPHYSICS))
    found = []
    for action in actions:
        data.ctrl[sim.plant.actuator_ids] = action
        for _ in range(PER):
            mujoco.mj_step(model, data)
            found.append(data.sensordata.copy())
    return np.array(found)


def cast_beam(model, data, site, angle):
    """Distance from a site in a direction about its z axis."""
    matrix, geom = data.site(site).xmat.reshape(3, 3), np.zeros(1, np.int32)
    direction = matrix @ [np.cos(angle), np.sin(angle), 0]
    body = model.site(site).bodyid[0]
    far = mujoco.mj_ray(model, data, data.site(site).xpos, direction, None, 1, body, geom)
    return far if far >= 0 else np.inf


def sum_contacts(model, data, body):
    """Sum of the normal forces in the contacts of a body."""
    total, force = 0.0, np.zeros(6)
    for number, contact in enumerate(data.contact):
        if model.body(body).id in model.geom_bodyid[contact.geom]:
            mujoco.mj_contactForce(model, data, number, force)
            total += force[0]
    return total


def test_every_kind_reads_what_mujoco_computes(tmp_path):
    spec = make_crawler(tmp_path, *ALL, **EFFORTS)
    sim = make_sim(spec)
    for action in wander(spec, sim.last_action, 60)[0]:
        sim.step(action[None])
    true, model = sim.compute_true_obs()[0], sim._models[0]
    data, velocity, acceleration = mujoco.MjData(model), np.zeros(6), np.zeros(6)
    mujoco.mj_setState(model, data, sim.save()["physical"][0], int(mujoco.mjtState.mjSTATE_FULLPHYSICS))
    data.ctrl[sim.plant.actuator_ids] = sim.last_action[0]
    mujoco.mj_forward(model, data)
    mujoco.mj_rnePostConstraint(model, data)
    site, body = mujoco.mjtObj.mjOBJ_SITE, mujoco.mjtObj.mjOBJ_XBODY
    mujoco.mj_objectVelocity(model, data, site, model.site("head").id, velocity, 1)
    mujoco.mj_objectAcceleration(model, data, site, model.site("head").id, acceleration, 1)
    columns = data.site("head").xmat.reshape(3, 3)[:, :2].T.ravel()
    expected = {
        "imu": np.concatenate([columns, velocity[:3], acceleration[3:]]),
        "speed": np.concatenate([velocity[3:], velocity[:3]]),
        "battery": [24],
        "heat": [30],
        "features": [0, 0],
        "middle": data.subtree_com[model.body("trunk").id],
        "leg": [data.joint("front_left").qpos[0]],
        "leg_contact": [sum_contacts(model, data, "front_right")],
    }
    mujoco.mj_objectVelocity(model, data, body, model.body("trunk").id, velocity, 1)
    trunk, mark = data.body("trunk"), data.body("back_left")
    expected["odom"] = np.concatenate(
        [trunk.xpos[2:], trunk.xmat.reshape(3, 3)[:, :2].T.ravel(), velocity[3:], velocity[:3]]
    )
    expected["mark"] = np.concatenate([mark.xpos, mark.xmat.reshape(3, 3)[:, :2].T.ravel()])
    edges = np.linspace(-1, 2, 13)
    beams = [min(cast_beam(model, data, "front", a), 1.3) for a in (edges[1:] + edges[:-1]) / 2]
    expected["lidar"] = np.reshape(beams, (4, 3)).min(1)
    expected["ahead"] = [min(cast_beam(model, data, "front", 0), 5)]
    for name, values in expected.items():
        np.testing.assert_allclose(read(spec, true, name), values, rtol=1e-4, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(read(spec, true, "effort"), data.qfrc_actuator[sim.plant.dof_ids], rtol=1e-5)
    assert read(spec, true, "leg_contact") > 0.1 and np.abs(read(spec, true, "effort")).max() > 0.5
    assert 0 < read(spec, true, "lidar").min() < 1.2 and read(spec, true, "lidar").max() == np.float32(1.3)
    assert np.abs(read(spec, true, "imu/linear_acceleration")).max() > 5
    np.testing.assert_allclose(true[spec.layout.find_sensor("base")], read(spec, true, "odom"), atol=1e-5)


def test_a_wrench_is_the_weight_that_its_frame_carries(tmp_path):
    (tmp_path / "lamp.xml").write_text(
        """<mujoco><worldbody><body name="pole" pos="0 0 1"><joint name="lift" type="slide" axis="0 0 1"/>
        <geom size="0.02" mass="1"/><body name="lamp" pos="0.2 0 0" euler="0 90 0"><geom size="0.05" mass="2"
        pos="0 0 0.1"/></body></body></worldbody><actuator><position name="lift" joint="lift" kp="5000" kv="300"/>
        </actuator></mujoco>"""
    )
    spec = RobotSpec.from_dict(
        {
            "name": "lamp",
            "rate": 50,
            "model": "lamp.xml",
            "interfaces": ["position", "velocity", "effort"],
            "joints": [{"name": "lift", "kind": "slide", "position": [-1, 1], "velocity": 1, "effort": 50}],
            "actuators": [{"name": "lift", "joint": "lift", "kind": "position", "range": [-1, 1], "rate": 1}],
            "sensors": [{"name": "mount", "kind": "wrench", "frame": "lamp", "limits": 50}],
        },
        folder=tmp_path,
    )
    sim = make_sim(spec)
    for _ in range(100):
        obs, _ = sim.step(sim.last_action)
    # The frame of the lamp is turned: its -x axis points up. Its mass is 0.1 m along its z axis.
    np.testing.assert_allclose(read(spec, obs[0], "mount/force"), [-19.62, 0, 0], atol=0.01)
    np.testing.assert_allclose(read(spec, obs[0], "mount/torque"), [0, -1.962, 0], atol=0.01)
    assert read(spec, obs[0], "effort")[0] == pytest.approx(3 * 9.81, abs=0.01)


def test_contacts_count_in_the_shape_of_a_site_only(tmp_path):
    spec = make_crawler(tmp_path, make_sensor("foot_contact"), make_sensor("leg_contact", frame="front_left"))
    sim = make_sim(spec)
    sizes = []
    for action in wander(spec, sim.last_action, 80)[0]:
        obs, _ = sim.step(action[None])
        sizes.append(read(spec, obs[0], "foot_contact").tolist() + read(spec, obs[0], "leg_contact").tolist())
    foot, leg = np.array(sizes).T
    assert foot.max() > 1 and (foot <= leg + 1e-4).all()


@pytest.mark.parametrize(
    ("rate", "delay"),
    [
        (0, 0),
        (0, 0.01),
        (0, 0.047),
        (50, 0),
        (50, 0.005),
        (500, 0),
        (200, 0.013),
        (10, 0),
        (7, 0.09),
        (3, 0.5),
    ],
)
def test_a_reading_is_the_newest_that_has_arrived(tmp_path, rate, delay):
    sensor = make_sensor("imu", rate=rate, delay=delay, fields=["angular_velocity"])
    spec = make_crawler(tmp_path, sensor)
    sim = make_sim(spec)
    before = read(spec, sim.obs[0], "imu").copy()
    obs, applied = make_sim(spec).rollout(wander(spec, sim.last_action, 40))
    values = simulate(sim, applied[0])[:, sim.plant.sensor_readings.columns]
    expected, step_time = [], 0.004
    for step in range(1, 41):
        now = 0.02 * step
        taken = [n / rate for n in range(500) if n / rate + delay <= now + 1e-9] if rate else [now - delay]
        newest = taken[-1] if taken else -1.0
        # What arrives at once is that of the last physics step.
        arrived = int(np.ceil((newest + delay) / 0.02 - 1e-6))
        number = min(int(np.floor(newest / step_time + 1e-6)), arrived * PER - 1)
        expected.append(values[number] if number >= 0 else before)
    np.testing.assert_allclose(read(spec, obs[0], "imu"), expected, atol=1e-6)


def test_a_slow_sensor_holds_its_last_reading_with_its_noise(tmp_path):
    spec = make_crawler(tmp_path, make_sensor("imu", rate=10, noise=0.1), make_sensor("heat", noise=1))
    obs, _ = (sim := make_sim(spec)).rollout(wander(spec, sim.last_action, 200))
    changes = (np.diff(read(spec, obs[0], "imu"), axis=0) != 0).all(1)
    assert np.flatnonzero(changes).tolist() == list(range(3, 199, 5))
    assert (np.diff(read(spec, obs[0], "heat"), axis=0) != 0).all()


def test_a_lost_reading_leaves_the_last_one_and_nothing_else_changes(tmp_path):
    sensors = [make_sensor("imu", noise=0.1), make_sensor("leg", rate=250), make_sensor("odom", rate=10)]
    spec = make_crawler(tmp_path, *sensors)
    lossy = make_crawler(tmp_path, *({**each, "loss": 0.3} for each in sensors))
    assert lossy.compute_digest() == spec.compute_digest()
    whole, _ = (sim := make_sim(spec, 2)).rollout(actions := wander(spec, sim.last_action, 400))
    together = make_sim(lossy, 2)
    found, _ = together.rollout(actions)
    apart = make_sim(lossy, 2)
    pieces = [apart.rollout(actions[:, step : step + 100])[0] for step in range(0, 400, 100)]
    np.testing.assert_array_equal(np.concatenate(pieces, 1), found)
    np.testing.assert_array_equal(apart.is_lost, together.is_lost)
    own = slice(0, spec.layout.find_sensor("imu").start)
    np.testing.assert_array_equal(found[..., own], whole[..., own])
    for name, chance in (("imu", 0.3), ("leg", 0.3**5)):
        one, other = read(lossy, found, name), read(spec, whole, name)
        lost = (one != other).any(-1)
        assert lost.mean() == pytest.approx(chance, abs=0.05)
        row, step = np.argwhere(lost[:, 1:])[0]
        np.testing.assert_array_equal(one[row, step + 1], one[row, step])
    assert (read(lossy, found, "imu")[0] != read(lossy, found, "imu")[1]).any()
    slow = (np.diff(read(lossy, found, "odom")[0], axis=0) != 0).any(1).sum()
    assert 40 < slow < 70, "of 80 readings"
    with pytest.raises(SpecError, match="sensor 'imu' has loss 1; it must be from 0 to below 1"):
        make_crawler(tmp_path, make_sensor("imu", loss=1.0))


def test_noise_is_as_large_as_declared_and_of_its_own(tmp_path):
    quiet = make_crawler(tmp_path, make_sensor("heat"), make_sensor("battery"))
    noise = {"angular_velocity": 0.2, "linear_acceleration": 3.0, "orientation": 0.01}
    loud = make_crawler(
        tmp_path,
        make_sensor("heat", noise=0.5),
        make_sensor("battery", noise=0.01),
        make_sensor("imu", noise=noise),
    )
    calm = make_crawler(tmp_path, make_sensor("imu"))
    runs = {}
    for name, spec in (("quiet", quiet), ("loud", loud), ("calm", calm)):
        sim = make_sim(spec, 2)
        runs[name] = sim.rollout(np.repeat(sim.last_action[:, None], 400, 1))[0]
    own = slice(0, quiet.layout.find_sensor("heat").start)
    np.testing.assert_array_equal(runs["quiet"][..., own], runs["loud"][..., own])
    assert (read(quiet, runs["quiet"], "heat") == 30).all()
    heat = read(loud, runs["loud"], "heat")
    assert heat.mean() == pytest.approx(30, abs=0.1) and heat.std() == pytest.approx(0.5, rel=0.1)
    assert read(loud, runs["loud"], "battery").std() == pytest.approx(0.01, rel=0.1)
    assert abs(np.corrcoef(heat[0, :, 0], heat[1, :, 0])[0, 1]) < 0.2
    error = read(loud, runs["loud"], "imu") - read(calm, runs["calm"], "imu")
    np.testing.assert_allclose(error[..., 6:].std((0, 1)), [0.2] * 3 + [3.0] * 3, rtol=0.15)
    columns = read(loud, runs["loud"], "imu/orientation").reshape(-1, 2, 3)
    np.testing.assert_allclose(
        columns @ columns.transpose(0, 2, 1), np.tile(np.eye(2), (800, 1, 1)), atol=1e-5
    )
    assert 0.002 < error[..., :6].std() < 0.02


def test_readings_are_multiples_of_the_resolution(tmp_path):
    spec = make_crawler(
        tmp_path, make_sensor("heat", noise=2, resolution=0.25), make_sensor("ahead", resolution=0.1)
    )
    obs, _ = (sim := make_sim(spec)).rollout(wander(spec, sim.last_action, 50))
    for name, step in (("heat", 0.25), ("ahead", 0.1)):
        steps = read(spec, obs, name) / step
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-4)
    assert len(np.unique(read(spec, obs, "heat"))) > 5


def test_a_distance_never_leaves_its_limits(tmp_path):
    spec = make_crawler(tmp_path, make_sensor("ahead", limits=0.4, noise=0.3), make_sensor("lidar", noise=5))
    obs, _ = (sim := make_sim(spec, 8)).rollout(wander(spec, sim.last_action, 30))
    for name, limit in (("ahead", 0.4), ("lidar", 1.3)):
        readings = read(spec, obs, name)
        assert readings.min() == 0 and readings.max() == np.float32(limit)


MIXED = [
    make_sensor("imu", rate=333, noise=0.1),
    make_sensor("odom", rate=5, delay=0.07, noise=0.1),
    make_sensor("lidar", rate=12, delay=0.013, noise=0.1),
    make_sensor("heat", noise=1, resolution=0.5),
]


def test_a_batch_of_one_equals_a_row_of_many(tmp_path):
    spec = make_crawler(tmp_path, *MIXED, **EFFORTS)
    many, one = make_sim(spec, 4), make_sim(spec, first_row=2)
    np.testing.assert_array_equal(one.obs[0], many.obs[2])
    actions = wander(spec, many.last_action, 70)
    np.testing.assert_array_equal(one.rollout(actions[2:3])[0][0], many.rollout(actions)[0][2])


def test_a_rollout_equals_its_steps(tmp_path):
    spec = make_crawler(tmp_path, *MIXED, **EFFORTS)
    whole, stepped = make_sim(spec, 2), make_sim(spec, 2)
    actions = wander(spec, whole.last_action, 80)
    obs, _ = whole.rollout(actions)
    for step in range(80):
        np.testing.assert_allclose(stepped.step(actions[:, step])[0], obs[:, step], rtol=1e-4, atol=1e-4)


def test_saved_and_restored_equals_never_stopped(tmp_path):
    spec = make_crawler(tmp_path, *MIXED, **EFFORTS)
    never, resumed = make_sim(spec, 3), make_sim(spec, 3)
    actions = wander(spec, never.last_action, 100)
    never.rollout(actions[:, :37])
    resumed.rollout(actions[:, 50:59])
    resumed.restore(copy.deepcopy(never.save()))
    np.testing.assert_array_equal(resumed.rollout(actions[:, 37:])[0], never.rollout(actions[:, 37:])[0])
    np.testing.assert_array_equal(resumed.reset(), never.reset())


def test_a_reset_row_reads_where_it_is_and_the_others_go_on(tmp_path):
    spec = make_crawler(tmp_path, *MIXED, make_sensor("mark", delay=0.3))
    one, two = make_sim(spec, 2), make_sim(spec, 2)
    actions = wander(spec, one.last_action, 30)
    for sim in (one, two):
        sim.rollout(actions[:, :20])
    two.reset([1])
    np.testing.assert_array_equal(one.obs[0], two.obs[0])
    start = read(spec, two.obs[1], "mark").copy()
    np.testing.assert_allclose(start, read(spec, two.compute_true_obs()[1], "mark"), atol=1e-6)
    obs, _ = two.rollout(actions[:, 20:])
    np.testing.assert_array_equal(one.rollout(actions[:, 20:])[0][0], obs[0])
    np.testing.assert_allclose(read(spec, obs[1, :10], "mark"), np.tile(start, (10, 1)), atol=1e-6)


def test_sensors_change_nothing_that_a_robot_without_them_has(tmp_path):
    plain = make_crawler(tmp_path)
    sensing = make_crawler(tmp_path, *ALL)
    runs = []
    for spec in (plain, sensing):
        sim = make_sim(spec, 2)
        runs.append(sim.rollout(wander(spec, sim.last_action, 50)))
        runs[-1] += (sim.save()["physical"],)
    np.testing.assert_array_equal(runs[0][0], runs[1][0][..., : plain.obs_dim])
    np.testing.assert_array_equal(runs[0][2], runs[1][2])
    assert describe_model(plain) == describe_model(sensing)


def test_the_effort_sensors_have_their_noise_and_delay(tmp_path):
    quiet = make_crawler(tmp_path, **EFFORTS)
    loud = make_crawler(tmp_path, **EFFORTS, world={"effort_noise": 0.05, "sensor_delay": 2})
    sims = [make_sim(spec) for spec in (quiet, loud)]
    actions = wander(quiet, sims[0].last_action, 200)
    efforts = simulate(sims[0], sims[0]._limit_action(actions)[0])[:, sims[0]._efforts]
    read_quiet, read_loud = (read(sim.spec, sim.rollout(actions)[0][0], "effort") for sim in sims)
    np.testing.assert_allclose(read_quiet, efforts[PER - 1 :: PER], atol=1e-3)
    np.testing.assert_allclose((read_loud - efforts[PER - 3 :: PER]).std(), 0.05 * 4, rtol=0.1)


def test_a_robot_and_trajectories_have_all_channels(tmp_path):
    spec = make_crawler(tmp_path, *MIXED, **EFFORTS)
    robot = SimRobot(spec, seed=0)
    robot.write(robot.last_action)
    assert robot.read().values.shape == (spec.obs_dim,) and np.isfinite(robot.read().values).all()
    batch = collect_trajectories(spec, num_trajectories=2, num_steps=32, seed=0)
    assert batch.obs.shape == (2, 33, spec.obs_dim) and np.isfinite(batch.obs).all()


@pytest.mark.parametrize(
    ("sensor", "sentence"),
    [
        (make_sensor("imu", frame="hat"), "sensor 'imu' has the frame 'hat' in the spec, and the model has no site"),
        (make_sensor("leg", source="arm"), "sensor 'leg' has the source 'arm' in the spec, and the model has no sen"),
        (make_sensor("leg", source="middle"), "'leg' has 1 values in the spec, and its source 'middle' has 3 in the"),
    ],
)  # fmt: skip
def test_what_the_model_lacks_is_refused(tmp_path, sensor, sentence):
    spec = make_crawler(tmp_path, sensor)
    with pytest.raises(SpecError, match=f"^robot 'crawler' contradicts its model crawler.xml: .*{sentence}"):
        Plant(spec, compile_model(spec))
