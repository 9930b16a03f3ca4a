"""The `randomize:` section: what it may say, how its values are drawn, and how a world carries them."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.sim.small_robots import make_leg
from wm_robot.errors import ConfigError, SpecError
from wm_robot.robots import load_spec
from wm_robot_sim.batch import BatchSim
from wm_robot_sim.randomization import FIXED_FAULTS, UNITS_OF_QUANTITY
from wm_robot_sim.robot import SimRobot
from wm_robot_sim.world_parameter import parse_world
from wm_robot_sim.worlds import DomainRandomization, World

pytestmark = pytest.mark.sim

FULL = {
    "joint": 'frictionloss="0.1" armature="0.01" stiffness="1"',
    "actuator": 'forcerange="-20 20"',
}
EVERYTHING = {
    "body/*/mass": {"factor": [0.8, 1.2]},
    "joint/*/damping": {"factor": [0.5, 2.0], "log": True},
    "joint/hip/armature": {"factor": [0.5, 2.0]},
    "joint/knee/frictionloss": {"factor": [0.5, 3.0]},
    "joint/toe/stiffness": {"factor": [0.0, 2.0]},
    "joint/hip/range": {"shift": [-0.1, 0.1]},
    "joint/knee/range": {"shrink": [0.0, 0.2]},
    "actuator/hip/gain": {"factor": [0.7, 1.4], "log": True},
    "actuator/*/force_limit": {"factor": [0.5, 1.0]},
    "actuator/knee/delay": {"seconds": [0.0, 0.04]},
    "actuator/hip/scale": {"factor": [0.9, 1.1]},
    "actuator/toe/offset": {"shift": [-0.01, 0.01]},
    "option/gravity": {"shift": [[-0.5, 0.5], [0.0, 0.0], [-1.0, 0.0]]},
    "payload/foot/mass": {"kg": [0.0, 0.3], "chance": 0.7},
    "sensor/knee/position_bias": {"shift": [-0.02, 0.02]},
    "sensor/delay": {"seconds": [0.0, 0.016]},
}


@pytest.fixture
def leg(tmp_path):
    return make_leg(tmp_path, **FULL, randomize=EVERYTHING)


def factor(low=0.5, high=2.0, **more):
    return {"factor": [low, high], **more}


def draw(spec, count, *, seed=0):
    distribution, rng = DomainRandomization(spec), np.random.default_rng(seed)
    return [distribution.sample(rng) for _ in range(count)]


def test_a_pattern_names_each_element_and_gravity_each_axis_that_varies(leg):
    names = DomainRandomization(leg).parameter_names
    own = names[names.index("tilt_y") + 1 :]
    assert list(own) == sorted(own)
    assert {"body/thigh/mass", "body/shin/mass", "body/foot/mass", "option/gravity/x"} <= set(own)
    assert "option/gravity/y" not in own and "joint/knee/range/shrink" in own


def test_the_nominal_vector_is_zero_and_every_number_has_a_name(leg):
    distribution = DomainRandomization(leg)
    vector = distribution.make_nominal_world().to_vector()
    assert not vector.any() and vector.dtype == np.float32
    assert len(set(distribution.parameter_names)) == len(vector)


def test_a_usual_deviation_of_a_parameter_is_one(leg):
    distribution = DomainRandomization(leg)
    names = distribution.parameter_names
    first = names.index("tilt_y") + 1
    vectors = np.array([world.to_vector() for world in draw(leg, 2000)])[:, first:]
    np.testing.assert_allclose(np.sqrt(np.square(vectors).mean(0)), 1.0, atol=0.05)


def test_values_stay_in_their_ranges_and_reach_both_ends(leg):
    worlds = draw(leg, 1000)
    for parameter in DomainRandomization(leg).randomized.parameters:
        values = np.array([world.parameters[parameter.name] for world in worlds])
        drawn = values[values != parameter.nominal] if parameter.declared.chance < 1 else values
        width = parameter.high - parameter.low
        assert parameter.low <= drawn.min() < parameter.low + 0.02 * width
        assert parameter.high - 0.02 * width < drawn.max() <= parameter.high


def test_a_factor_is_log_uniform_only_where_it_says_so(leg):
    worlds = draw(leg, 4000)
    damping = np.array([world.parameters["joint/knee/damping"] for world in worlds])
    mass = np.array([world.parameters["body/shin/mass"] for world in worlds])
    quarters = np.array([0.25, 0.5, 0.75])
    np.testing.assert_allclose(np.quantile(damping, quarters), 0.5 * 4.0**quarters, rtol=0.05)
    np.testing.assert_allclose(np.quantile(mass, quarters), 0.8 + 0.4 * quarters, rtol=0.02)


def test_elements_of_a_pattern_are_drawn_independently(leg):
    worlds = draw(leg, 2000)
    values = np.array([[w.parameters[f"body/{body}/mass"] for body in ("thigh", "shin")] for w in worlds])
    assert abs(np.corrcoef(values.T)[0, 1]) < 0.07


def test_a_chance_decides_how_many_worlds_have_a_payload(leg):
    loaded = np.array([world.parameters["payload/foot/mass"] > 0 for world in draw(leg, 2000)])
    assert loaded.mean() == pytest.approx(0.7, abs=0.04)


def test_a_delay_is_a_whole_number_of_physics_steps_each_equally_likely(leg):
    steps = np.array([world.parameters["actuator/knee/delay"] for world in draw(leg, 3000)]) / 0.004
    counts = np.bincount(np.round(steps).astype(int), minlength=11)
    np.testing.assert_allclose(steps, steps.round(), atol=1e-9)
    np.testing.assert_allclose(counts / len(steps), 1 / 11, atol=0.02)


def test_same_seed_same_worlds_in_whatever_order_the_file_names_them(leg):
    other = replace(leg, randomize=dict(reversed(EVERYTHING.items())))
    assert [w.to_dict() for w in draw(leg, 5)] == [w.to_dict() for w in draw(other, 5)]
    assert draw(leg, 1, seed=1)[0].to_dict() != draw(leg, 1)[0].to_dict()


def test_the_draws_of_the_short_names_do_not_depend_on_randomize():
    arm = load_spec("arm")
    more = replace(arm, randomize={"joint/*/armature": {"factor": [0.5, 2.0]}})
    with_more = draw(more, 1)[0]
    assert {**with_more.to_dict(), "parameters": 0, "spreads": 0} == {
        **draw(arm, 1)[0].to_dict(),
        "parameters": 0,
        "spreads": 0,
    }
    assert more.compute_digest() == arm.compute_digest()


def test_a_world_survives_json(leg):
    for world in draw(leg, 5):
        back = World.from_dict(json.loads(json.dumps(world.to_dict())))
        assert back.to_dict() == world.to_dict()
        np.testing.assert_array_equal(back.to_vector(), world.to_vector())


def test_a_spec_with_randomize_survives_yaml_and_its_dict(leg, tmp_path):
    back = type(leg).from_dict(json.loads(json.dumps(leg.to_dict())), folder=tmp_path)
    assert back.randomize == EVERYTHING


def test_a_saved_batch_continues_with_its_parameters(leg):
    worlds = draw(leg, 3)
    one, two = BatchSim(leg, worlds, seed=1), BatchSim(leg, draw(leg, 3, seed=9), seed=1)
    plan = np.repeat(one.last_action[:, None], 20, 1)
    one.rollout(plan)
    two.restore(one.save())
    np.testing.assert_array_equal(one.rollout(plan)[0], two.rollout(plan)[0])


def test_the_world_parameter_takes_names_of_quantities(leg):
    world = parse_world('{"body/shin/mass": 1.5, "friction": [1, 2, 1]}', leg, seed=0)
    assert world.parameters["body/shin/mass"] == 1.5 and world.parameters["body/foot/mass"] == 1.0
    assert world.friction[1] == 2
    assert parse_world("random", leg, seed=3).to_dict() == draw(leg, 1, seed=3)[0].to_dict()
    with pytest.raises(
        ConfigError, match="'body/shim/mass', which randomize .* Did you mean 'body/shin/mass'"
    ):
        parse_world('{"body/shim/mass": 1.5}', leg, seed=0)
    with pytest.raises(ConfigError, match="'body/shin/mass' is -1; it must be a number, not below 0"):
        parse_world('{"body/shin/mass": -1}', leg, seed=0)
    whole = draw(leg, 1, seed=4)[0]
    assert parse_world(json.dumps(whole.to_dict()), leg, seed=0).to_dict() == whole.to_dict()
    with pytest.raises(ConfigError, match="world is '\\[1\\]'"):
        parse_world("[1]", leg, seed=0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"parameters": 3}, "world.parameters is 3; it must be a mapping"),
        ({"spreads": {}}, r"world.spreads names \[\]; it must be the names of world.parameters"),
        ({"spreads": {"body/shin/mass": 0.0}}, "world.spreads 'body/shin/mass' is 0.0"),
        (
            {"parameters": {"body/shin/mass": 0.0}},
            "'body/shin/mass' is 0.0; it must be above 0: a body weighs",
        ),
        ({"parameters": {"body/shin/mass": None}}, "'body/shin/mass' is None; it must be a number"),
        ({"parameters": {"body/shin/mass": float("inf")}}, "'body/shin/mass' is inf; it must be a number"),
    ],
)
def test_parameters_that_cannot_be_are_refused(tmp_path, changes, words):
    leg = make_leg(tmp_path, randomize={"body/shin/mass": factor()})
    with pytest.raises(SpecError, match=words):
        World.from_dict({**draw(leg, 1)[0].to_dict(), **changes})


def test_a_world_of_another_spec_is_refused(leg, tmp_path):
    plain = make_leg(tmp_path, **FULL)
    with pytest.raises(SpecError, match=r"the world has no value of '.*', which randomize of robot 'leg'"):
        BatchSim(leg, [DomainRandomization(plain).make_nominal_world()], seed=0)
    with pytest.raises(SpecError, match="which randomize of robot 'leg' does not declare"):
        BatchSim(plain, [DomainRandomization(leg).make_nominal_world()], seed=0)


FAULTS = {
    "fault/*/weak": {"factor": [0.2, 0.4], "chance": 0.2},
    "fault/hip/reversed": {"chance": 0.3},
    "fault/knee/dead": {"chance": 0.1},
    "fault/toe/sticky": {"factor": [3.0, 6.0], "chance": 0.25},
    "fault/toe/limited": {"factor": [0.3, 0.6], "chance": 0.05, "log": True},
}


def test_faults_come_as_often_as_declared_and_change_what_they_name(tmp_path):
    leg = make_leg(tmp_path, **FULL, randomize=FAULTS)
    worlds = draw(leg, 4000)
    labels = np.array([world.fault for world in worlds])
    shares = {
        (0, "weak"): 0.2, (0, "reversed"): 0.3, (1, "dead"): 0.1, (1, "weak"): 0.2,
        (2, "sticky"): 0.25, (2, "limited"): 0.05, (2, "weak"): 0.2,
    }  # fmt: skip
    for (motor, kind), share in shares.items():
        assert (labels[:, motor] == kind).mean() == pytest.approx(share, abs=0.03), (motor, kind)
    for world in worlds:
        for motor, kind in enumerate(world.fault):
            gain, torque, friction = world.gain[motor], world.torque[motor], world.friction[motor]
            assert {"weak": 0.2 <= gain <= 0.4, "reversed": gain == -1, "dead": gain == 0}.get(
                kind, gain == 1
            )
            assert (0.3 <= torque <= 0.6) if kind == "limited" else torque == 1
            assert (3 <= friction <= 6) if kind == "sticky" else friction == 1
    assert "drive" in DomainRandomization(leg).parameter_names[0]


@pytest.mark.parametrize(
    ("randomize", "words"),
    [
        ({"body/shin/mas": factor()}, "has key 'body/shin/mas'; Did you mean 'body/NAME/mass'? It must be one"),
        ({"masses": factor()}, "randomize has key 'masses'; it must be one of ['body/NAME/mass'"),
        ({"body//mass": factor()}, "randomize has key 'body//mass'"),
        ({"body/shin/mass": [0.5, 2]}, "'body/shin/mass' is [0.5, 2]; it must be such as {factor: [0.8, 1.2]}"),
        ({"body/shin/mass": {"kg": [0, 1]}}, "it must be such as {factor: [0.8, 1.2]}"),
        ({"body/shin/mass": factor(lgo=True)}, "it must be such as {factor: [0.8, 1.2]}, with log and chance"),
        ({"body/shin/mass": factor(2, 1)}, "'body/shin/mass' factor is [2, 1]; it must be two numbers, low"),
        ({"body/shin/mass": factor(0, 1)}, "factor is [0, 1]; it must be two numbers, low and high, above 0"),
        ({"body/shin/mass": factor("a", 1)}, "factor is ['a', 1]; it must be two numbers"),
        ({"body/shin/mass": factor(float("nan"), 1)}, "factor is [nan, 1]"),
        ({"joint/hip/damping": factor(-1, 1)}, "factor is [-1, 1]; it must be two numbers, low and high, from 0"),
        ({"joint/hip/damping": factor(0, 1, log=True)}, "low and high, above 0"),
        ({"joint/hip/damping": factor(log="yes")}, "has log 'yes'; it must be true or false"),
        ({"joint/hip/damping": factor(chance=1.5)}, "chance is 1.5; it must be a number, not below 0 and not"),
        ({"joint/hip/damping": factor(1, 1)}, "which changes nothing. Widen it, or remove it"),
        ({"joint/hip/damping": factor(chance=0)}, "which changes nothing"),
        ({"joint/hip/range": {"shift": [0, 1], "shrink": [0, 1]}}, "it must be such as {shift: [-0.1, 0.1]} or"),
        ({"actuator/hip/delay": {"seconds": [0, 0.1], "log": True}}, "a range of seconds is drawn uniformly"),
        ({"option/gravity": {"shift": [-1, 1]}}, "it must have a range for x, y and z, such as {shift: [["),
        ({"option/gravity": {"shift": [[-1, 1]]}}, "it must have a range for x, y and z"),
        ({"fault/hip/dead": {}}, "'fault/hip/dead' has no chance; add the share of worlds with it"),
        ({"fault/hip/weak": {"chance": 0.1}}, "it must be such as {factor: [0.8, 1.2]}"),
        ({"fault/hip/broken": {"chance": 0.1}}, "has key 'fault/hip/broken'; "),
    ],
)  # fmt: skip
def test_an_entry_that_is_none_is_refused(tmp_path, randomize, words):
    with pytest.raises(SpecError, match="robot 'leg': .*" + re.escape(words)):
        DomainRandomization(make_leg(tmp_path, **FULL, randomize=randomize))


@pytest.mark.parametrize(
    ("randomize", "words"),
    [
        ({"body/shim/mass": factor()},
         "no body of the robot has that name. Did you mean 'shin'? Name one of 'thigh'"),
        ({"joint/x*/damping": factor()}, "no joint of the robot has that name. Name one of 'hip', 'knee', 'toe'"),
        ({"actuator/hipp/delay": {"seconds": [0, 0.04]}},
         "no actuator of the robot has that name. Did you mean 'hip'"),
        ({"sensor/foot/position_bias": {"shift": [0, 0.1]}}, "no joint of the robot has that name"),
        ({"joint/*/frictionloss": factor()},
         "randomize 'joint/*/frictionloss' is {'factor': [0.5, 2.0]}, and the model has no frictionloss for joints "
         "'hip', 'knee', 'toe'. Give it some, or remove 'joint/*/frictionloss'"),
        ({"joint/hip/armature": factor()}, "no armature for joint 'hip'"),
        ({"joint/hip/stiffness": factor()}, "no stiffness for joint 'hip'"),
        ({"actuator/hip/force_limit": factor()}, "no forcerange for actuator 'hip'. Give it one"),
        ({"option/density": factor()}, "no density of its medium. Give it option density"),
        ({"joint/knee/range": {"shrink": [0, 1]}}, "a range of only 1.85 for joint 'knee'. Shrink each end by less"),
        ({"actuator/hip/delay": {"seconds": [0, 0.001]}}, "physics steps of 0.004 s, more than twice as long"),
        ({"sensor/delay": {"seconds": [0, 0.02]}}, "a control period of 0.02 s. Set it below that"),
        ({"fault/*/limited": factor(chance=0.1)}, "no forcerange for actuators 'hip', 'knee', 'toe'"),
        ({"fault/hip/sticky": factor(chance=0.1)}, "no frictionloss for actuator 'hip'"),
        ({"fault/*/weak": factor(chance=0.6), "fault/hip/dead": {"chance": 0.6}},
         "gives actuator 'hip' faults with chances of 1.2 together, by ['fault/*/weak', 'fault/hip/dead']"),
        ({"joint/*/damping": factor(), "joint/hip/damping": factor()},
         "gives 'joint/hip/damping' twice, by 'joint/*/damping' and 'joint/hip/damping'. Remove one of the two"),
    ],
)  # fmt: skip
def test_a_range_that_the_model_cannot_show_is_refused(tmp_path, randomize, words):
    leg = make_leg(tmp_path, randomize=randomize)
    for make in (DomainRandomization, lambda spec: SimRobot(spec, seed=0)):
        with pytest.raises(SpecError, match=re.escape(words)) as refusal:
            make(leg)
        assert str(refusal.value).startswith("robot 'leg' declares dynamics that leg.xml cannot show: ")


def test_a_pattern_of_which_some_lack_the_quantity_names_them():
    walker = replace(load_spec("walker"), world={}, randomize={"joint/*/armature": factor()})
    words = "no armature for joints 'rootz', 'rootx', 'rooty'. Give it some, or name only those that have it"
    with pytest.raises(SpecError, match=re.escape(words)):
        DomainRandomization(walker)
    legs = replace(walker, randomize={"joint/right_*/armature": factor()})
    assert "joint/right_knee/armature" in DomainRandomization(legs).parameter_names


@pytest.mark.parametrize(
    ("world", "randomize", "names"),
    [
        ({"mass": [0.8, 1.2]}, {"body/*/mass": factor()}, "world.mass change the same quantity of 'thigh', 'shin'"),
        ({"payload": [0, 1], "payload_body": "foot"}, {"payload/*/mass": {"kg": [0, 1]}},
         "world.payload change the same quantity of 'foot'"),
        ({"gain": [0.8, 1.2]}, {"actuator/hip/gain": factor()}, "world.gain change the same quantity of 'hip'"),
        ({"torque": [0.8, 1.2]}, {"actuator/hip/force_limit": factor()}, "world.torque"),
        ({"friction": [0.8, 1.2]}, {"joint/hip/frictionloss": factor()}, "world.friction"),
        ({"damping": [0.8, 1.2]}, {"joint/hip/damping": factor()}, "world.damping"),
        ({"bias": 0.1}, {"sensor/hip/position_bias": {"shift": [0, 1]}}, "world.bias"),
        ({"delay": [0, 2]}, {"actuator/hip/delay": {"seconds": [0, 0.04]}}, "world.delay"),
        ({"sensor_delay": 1}, {"sensor/delay": {"seconds": [0, 0.01]}},
         "world.sensor_delay change the same quantity."),
        ({"tilt": 0.1}, {"option/gravity": factor()}, "world.tilt change the same quantity. Remove one of the two"),
        ({"fault_counts": [0.5, 0.5], "faults": {"dead": {"chance": 1.0, "range": [0, 0]}}},
         {"fault/hip/weak": factor(chance=0.1)}, "world.faults"),
    ],
)  # fmt: skip
def test_one_quantity_with_two_ranges_is_refused(tmp_path, world, randomize, names):
    leg = make_leg(tmp_path, **FULL, world=world, randomize=randomize)
    with pytest.raises(SpecError, match=f"randomize '{re.escape(next(iter(randomize)))}' and .*{names}"):
        DomainRandomization(leg)


def test_the_page_has_every_quantity_and_its_example_is_read(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "dynamics.md").read_text()
    rows = dict(re.findall(r"^\| `([\w/]+)` \| (.*?) \|", page, re.MULTILINE))
    names = {name.replace("/NAME/", "/"): units for name, units in rows.items() if "/" in name}
    assert set(names) == set(UNITS_OF_QUANTITY)
    for name, units in names.items():
        fixed = name.rpartition("/")[2] in FIXED_FAULTS
        assert all(f"`{unit}`" in units for unit in UNITS_OF_QUANTITY[name]) or fixed
    example = yaml.safe_load(re.search(r"```yaml\n(.*?)```", page, re.DOTALL).group(1))
    renamed = {
        key.replace("forearm", "shin").replace("elbow", "knee").replace("hand", "foot"): value
        for key, value in example["randomize"].items()
    }
    assert len(draw(make_leg(tmp_path, **FULL, randomize=renamed), 1)[0].parameters) == 6


def test_a_quantity_of_another_body_has_a_range_of_its_own(tmp_path):
    world = {"payload": [0, 1], "payload_body": "foot"}
    leg = make_leg(tmp_path, **FULL, world=world, randomize={"payload/shin/mass": {"kg": [0.0, 0.1]}})
    assert "payload/shin/mass" in DomainRandomization(leg).parameter_names
