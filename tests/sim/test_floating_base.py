"""A robot whose base floats, from its model to its observations and checks."""

import json

import mujoco
import numpy as np
import pytest

pytestmark = pytest.mark.sim

from tests.sim.floating_robots import CRAWLER, SWIMMER
from wm_robot.errors import SpecError
from wm_robot.robots import load_spec
from wm_robot.robots.model_check import attach_model
from wm_robot.spec import RobotSpec
from wm_robot.tasks import make_reward
from wm_robot_cli.main import main
from wm_robot_sim.batch import BatchSim
from wm_robot_sim.plant import describe_model
from wm_robot_sim.rollouts import collect_trajectories
from wm_robot_sim.worlds import DomainRandomization


def create(folder, name, model, *words):
    """Write the spec of a robot; return it and what the command said."""
    (folder / f"{name}.xml").write_text(model)
    main(["new", name, "--mjcf", str(folder / f"{name}.xml"), "--out", str(folder), "--json", *words])
    return load_spec(folder / f"{name}.yaml")


@pytest.fixture(scope="module")
def crawler(tmp_path_factory) -> RobotSpec:
    return create(tmp_path_factory.mktemp("crawler"), "crawler", CRAWLER)


def make_sim(spec, count=1):
    return BatchSim(spec, [DomainRandomization(spec).make_nominal_world()] * count, seed=0)


def test_a_new_spec_has_the_floating_base_of_its_model_and_passes_its_checks(tmp_path, capsys):
    spec = create(tmp_path, "crawler", CRAWLER)
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {each["check"]: each["result"] for each in said["checks"]} == dict.fromkeys(
        (each["check"] for each in said["checks"]), "passed"
    )
    assert spec.base.body == "trunk" and spec.base.height == pytest.approx(0.166, abs=0.002)
    assert len(spec.joints) == 4 and spec.obs_dim == 8 + 13 and spec.layout.rotations == (9,)
    assert spec.world["payload_body"] == "trunk" and list(spec.tasks) == ["upright"] and not spec.tip_name


def test_a_base_that_falls_has_no_stance_and_that_is_no_failure(tmp_path, capsys):
    create(tmp_path, "high", CRAWLER.replace("0 0 0.166", "0 0 0.5"))
    said = json.loads(capsys.readouterr().out.splitlines()[-1])["checks"][0]
    assert said["result"] == "not run" and said["measured"].startswith("no stance: the base falls")


def test_a_swimmer_needs_no_ground_and_a_robot_in_the_air_is_reported(tmp_path, capsys):
    spec = create(tmp_path, "swimmer", SWIMMER)
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert not [sentence for sentence in said["to_check"] if "falls" in sentence]
    assert {each["result"] for each in said["checks"]} == {"passed"}
    assert spec.base.rotation == pytest.approx((np.cos(0.15), 0, np.sin(0.15), 0), abs=1e-5)
    assert "height" not in spec.tasks["upright"].parameters
    create(tmp_path, "air", CRAWLER.replace('<geom name="ground" type="plane" size="0 0 1"/>', ""))
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [sentence for sentence in said["to_check"] if "falls for ever" in sentence]


def test_the_observation_is_what_mujoco_says_of_the_base(crawler):
    sim, rng = make_sim(crawler, 3), np.random.default_rng(0)
    for _ in range(25):
        obs, _ = sim.step(rng.uniform(-0.9, 0.9, (3, 4)))
    model = sim.plant.model
    state, body = sim.save()["physical"], sim.plant.base_motion.body_id
    for row in range(3):
        data, velocity = mujoco.MjData(model), np.zeros(6)
        mujoco.mj_setState(model, data, state[row], int(mujoco.mjtState.mjSTATE_FULLPHYSICS))
        mujoco.mj_forward(model, data)
        mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_XBODY, body, velocity, 1)
        columns = data.xmat[body].reshape(3, 3)[:, :2].T.ravel()
        said = np.concatenate([data.xpos[body, 2:], columns, velocity[3:], velocity[:3]])
        np.testing.assert_allclose(obs[row, 8:], said, atol=0.05)


def test_readings_with_noise_are_rotations(crawler):
    columns = make_sim(crawler, 4).obs[:, crawler.layout.find_channels("rotation")].reshape(4, 2, 3)
    np.testing.assert_allclose(columns @ columns.transpose(0, 2, 1), np.tile(np.eye(2), (4, 1, 1)), atol=1e-5)


def test_robots_start_at_home_with_any_heading_and_out_of_the_ground(crawler):
    sim = make_sim(crawler, 16)
    qpos = sim.qpos()
    assert (qpos[:, 2] >= crawler.base.height - 1e-9).all() and qpos[:, 2].max() < crawler.base.height + 0.1
    headings = 2 * np.arctan2(qpos[:, 6], qpos[:, 3])
    assert np.ptp(headings) > 2
    for _ in range(3):
        obs, _ = sim.step(np.zeros((16, 4)))
    assert np.abs(obs[:, crawler.layout.find_channels("linear_velocity")]).max() < 1.0


def test_the_reward_of_an_upright_base_is_its_tilt_from_home(crawler, tmp_path):
    reward = make_reward(crawler, crawler.find_task("upright"))
    obs = np.zeros((3, crawler.obs_dim))
    angle = np.array([0.0, 0.4, np.pi])
    obs[:, 8] = crawler.base.height
    # A rotation about x after one about z: the tilt is the first.
    obs[:, 9:15] = np.stack(
        [0 * angle, np.cos(angle), np.sin(angle), -1 + 0 * angle, 0 * angle, 0 * angle], -1
    )
    found = reward(obs, np.zeros((3, 4)), obs, np.zeros((3, 0)))
    np.testing.assert_allclose(found, np.cos(angle), atol=1e-6)
    swimmer = create(tmp_path, "swimmer", SWIMMER)
    home = swimmer.base.make_home_channels()
    at_home = np.concatenate([np.zeros(2), home])
    reward = make_reward(swimmer, swimmer.find_task("upright"))
    assert reward(at_home, np.zeros(1), at_home, np.zeros(0)) == pytest.approx(1, abs=1e-6)


def test_the_velocity_of_a_base_can_be_tracked(crawler):
    values = crawler.to_dict() | {
        "tasks": {
            "walk": {
                "reward": "track_velocity",
                "goal": 6,
                "parameters": {"joints": {"linear_x": "base", "angular_z": "base"}},
            }
        }
    }
    spec = RobotSpec.from_dict(values)
    obs = np.zeros(spec.obs_dim)
    obs[spec.observation_names.index("base/linear_velocity_x")] = 0.5
    obs[spec.observation_names.index("base/angular_velocity_z")] = 0.2
    goal = np.array([0.1, 9, 9, 9, 9, 0.5])
    assert make_reward(spec, spec.find_task("walk"))(obs, np.zeros(4), obs, goal) == pytest.approx(
        -0.5, abs=1e-4
    )


def test_trajectories_have_the_base_and_stay_finite(crawler):
    batch = collect_trajectories(crawler, num_trajectories=2, num_steps=64, seed=0)
    assert batch.obs.shape == (2, 65, 21) and np.isfinite(batch.obs).all()


def test_a_base_that_the_model_has_otherwise_contradicts_it(crawler):
    model = describe_model(crawler)
    values = crawler.to_dict()
    fixed = RobotSpec.from_dict({k: v for k, v in values.items() if k != "base"}, folder=crawler.folder)
    with pytest.raises(
        SpecError, match="the base is fixed in the spec, and the floating body 'trunk' in the"
    ):
        attach_model(fixed, model)
    other = RobotSpec.from_dict(
        values | {"base": {**values["base"], "body": "front_left"}}, folder=crawler.folder
    )
    with pytest.raises(SpecError, match="the floating body 'front_left' in the spec"):
        attach_model(other, model)


def test_the_tip_of_a_floating_base_is_in_the_frame_of_the_base(tmp_path):
    spec = create(tmp_path, "crawler", CRAWLER, "--tip", "front_left")
    assert [link.joint for link in spec.chain] == ["front_left"]
    assert spec.chain[0].origin == pytest.approx((0.12, 0.08, 0.0))


def test_only_a_floating_base_is_in_the_digest_and_its_home_is_not(crawler):
    values = crawler.to_dict()
    moved = RobotSpec.from_dict(values | {"base": {**values["base"], "height": 0.5}})
    assert moved.compute_digest() == crawler.compute_digest()
    faster = RobotSpec.from_dict(values | {"base": {**values["base"], "linear_velocity": 50.0}})
    assert faster.compute_digest() != crawler.compute_digest()


def test_two_floating_bases_are_not_one_robot(tmp_path, capsys):
    tied = CRAWLER.replace(
        "</worldbody>",
        '<body name="rider" pos="0 0 0.6"><freejoint/><geom size="0.03" mass="0.1"/></body></worldbody>'
        '<equality><connect body1="trunk" body2="rider" anchor="0 0 0"/></equality>',
    ).replace('qpos="0 0 0.166 1 0 0 0  0 0 0 0"', 'qpos="0 0 0.166 1 0 0 0  0 0 0 0  0 0 0.6 1 0 0 0"')
    (tmp_path / "two.xml").write_text(tied)
    with pytest.raises(SystemExit):
        main(["new", "two", "--mjcf", str(tmp_path / "two.xml"), "--out", str(tmp_path)])
    said = capsys.readouterr().err
    assert "the floating bodies 'trunk', 'rider'" in said and not (tmp_path / "two.yaml").exists()
