import json
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import yaml

from wm_robot.errors import SpecError
from wm_robot.spec import Actuator, Joint, RobotSpec, encode_canonical_json, make_home_obs


def values(**changes):
    """A two-joint robot as YAML would give it."""
    return {
        "name": "pair",
        "rate": 50,
        "model": "pair.xml",
        "joints": [
            {"name": "shoulder", "position": [-1.5, 1.25], "velocity": 3, "effort": 2.5},
            {"name": "elbow", "position": [-2, 2], "velocity": 4, "effort": 1.5},
        ],
        "actuators": [
            {"name": "m1", "joint": "shoulder", "kind": "position", "range": [-1.5, 1.25], "rate": 5},
            {"name": "m2", "joint": "elbow", "kind": "position", "range": [-2, 2], "rate": 10},
        ],
        "tasks": {"reach": {"reward": "reach", "goal": 3, "parameters": {"speed_cost": 0.1}}},
        "chain": [
            {"joint": "shoulder", "origin": [0, 0, 0.1], "axis": [0, 0, 1]},
            {"joint": "elbow", "origin": [0.3, 0, 0], "axis": [0, 1, 0]},
        ],
        "tip": [0.2, 0, 0],
        **changes,
    }


def spec(**changes):
    return RobotSpec.from_dict(values(**changes))


def test_the_observation_lists_all_joints_of_one_interface_before_the_next():
    assert spec().observation_names == (
        "shoulder/position",
        "elbow/position",
        "shoulder/velocity",
        "elbow/velocity",
    )
    assert spec().obs_dim == 4


@pytest.mark.parametrize(
    ("rate", "plan_rate", "interval"),
    [
        (50, 0, 1),
        (100, 0, 1),
        (101, 0, 2),
        (200, 0, 2),
        (500, 0, 5),
        (50, 25, 2),
        (200, 200, 1),
        (500, 125, 4),
    ],
)
def test_plans_are_made_at_a_divisor_of_the_rate(rate, plan_rate, interval):
    assert spec(rate=rate, plan_rate=plan_rate).plan_interval == interval


@pytest.mark.parametrize(("rate", "plan_rate"), [(50, 30), (50, 100), (50, -25)])
def test_another_rate_of_plans_is_refused(rate, plan_rate):
    with pytest.raises(SpecError, match=f"has plan_rate {plan_rate} Hz.*divided by a whole number"):
        spec(rate=rate, plan_rate=plan_rate)


@pytest.mark.parametrize("rate", [0, 9, 501])
def test_rates_of_10_to_500_hz_are_allowed(rate):
    with pytest.raises(SpecError, match="Hz.*10 to 500"):
        spec(rate=rate)


def test_a_task_says_where_joints_start():
    tasks = {"stay": {"reward": "hold", "start": {"elbow": [-0.1, 0.1]}}}
    assert spec(tasks=tasks).find_task("stay").start == {"elbow": [-0.1, 0.1]}
    assert spec(tasks=tasks).compute_digest() == spec().compute_digest()


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ({"knee": [0, 1]}, "start of task 'stay' names ['knee']; it must be some of ['shoulder', 'elbow']"),
        (
            {"elbow": [-3, 0]},
            "start of 'elbow' in task 'stay' is [-3, 0]; it must be [low, high] within [-2, 2]",
        ),
        ({"elbow": [1, 0]}, "start of 'elbow' in task 'stay' is [1, 0]"),
        ({"elbow": 0.5}, "start of 'elbow' in task 'stay' is 0.5"),
        ({"elbow": [0, "1"]}, "start of 'elbow' in task 'stay' is [0, '1']"),
        ([0.5], "start of task 'stay' is [0.5]; it must be a mapping, as start: {elbow: [-0.1, 0.1]}"),
    ],
)
def test_a_start_that_cannot_be_is_refused(start, words):
    with pytest.raises(SpecError, match=re.escape(words)):
        spec(tasks={"stay": {"reward": "hold", "start": start}})


def test_limits_of_the_action_come_from_the_actuators_in_order():
    pair = spec()
    assert pair.action_names == ("m1", "m2")
    assert pair.action_dim == 2
    np.testing.assert_array_equal(pair.action_low, np.float32([-1.5, -2]))
    np.testing.assert_array_equal(pair.action_high, np.float32([1.25, 2]))
    np.testing.assert_allclose(pair.action_step, [5 / 50, 10 / 50], rtol=1e-6)


def test_home_is_the_middle_of_the_range_that_joint_and_servo_share():
    joints, actuators = values()["joints"], values()["actuators"]
    joints[1]["position"] = actuators[1]["range"] = [-2.7, -0.85]
    actuators[0]["range"] = [0.25, 2.0]
    knee = spec(joints=joints, actuators=actuators)
    np.testing.assert_array_equal(knee.pose_limits, [[0.25, 1.25], [-2.7, -0.85]])
    np.testing.assert_allclose(knee.home_position, [0.75, -1.775])
    np.testing.assert_allclose(knee.home_action, [0.75, -1.775])
    np.testing.assert_allclose(make_home_obs(knee), [0.75, -1.775, 0, 0])
    at_rest = spec(joints=joints, actuators=actuators, safety={"home": {"elbow": -1.0}})
    np.testing.assert_allclose(at_rest.home_position, [0.75, -1.0])


def test_at_home_a_motor_is_released_and_a_servo_is_in_its_range():
    actuators = values()["actuators"]
    actuators[0] |= {"kind": "effort", "range": [0.5, 1.0]}
    actuators[1] |= {"range": [1.0, 1.5]}
    pair = spec(actuators=actuators, safety={"home": {"elbow": 0.0}})
    np.testing.assert_array_equal(pair.home_action, np.float32([0.5, 1.0]))


def test_a_servo_that_cannot_move_its_joint_is_refused():
    actuators = values()["actuators"]
    actuators[1]["range"] = [2.5, 3.0]
    with pytest.raises(
        SpecError, match=r"'elbow' has position range \(-2, 2\), and its servos have ranges .*overlap"
    ):
        spec(actuators=actuators)


@pytest.mark.parametrize("world", [None, [0.7, 1.4], "gain", 0.5])
def test_a_world_section_that_is_no_mapping_is_refused_with_its_value_and_the_file(tmp_path, world):
    path = tmp_path / "pair.yaml"
    path.write_text(yaml.safe_dump({"version": 2, **values(world=world)}))
    with pytest.raises(
        SpecError, match="pair.yaml: world of robot 'pair' is .*; it must be a mapping"
    ) as refusal:
        RobotSpec.load(path)
    assert repr(world).strip("[]") in str(refusal.value)


def test_a_file_and_its_values_give_the_same_spec(tmp_path):
    path = tmp_path / "pair.yaml"
    path.write_text(yaml.safe_dump({"version": 2, **values()}))
    loaded = RobotSpec.load(path)
    assert loaded.folder == tmp_path
    assert loaded.compute_digest() == spec().compute_digest()
    assert loaded.tasks == spec().tasks


def test_the_digest_ignores_the_order_of_keys_and_what_does_not_change_experience():
    reordered = RobotSpec.from_dict(dict(reversed(values().items())))
    assert reordered.compute_digest() == spec().compute_digest()
    assert (
        spec(model="other.xml", world={"payload": [0, 1]}, tasks={}).compute_digest()
        == spec().compute_digest()
    )


def test_the_digest_is_of_values_and_not_of_their_spelling():
    spelt = values()["joints"]
    spelt[0] = {**spelt[0], "velocity": 3.0}
    spelt[1] = {**spelt[1], "position": [-2.0, 2.0]}
    assert spec(rate=50.0, joints=spelt).compute_digest() == spec().compute_digest()


@pytest.mark.parametrize(
    "change",
    [
        {"rate": 100},
        {"name": "twin"},
        {"interfaces": ["position"]},
        {"joints": list(reversed(values()["joints"]))},
        {"actuators": list(reversed(values()["actuators"]))},
        {"joints": [{**values()["joints"][0], "effort": 2.6}, values()["joints"][1]]},
    ],
)
def test_the_digest_changes_with_all_that_makes_experience_incompatible(change):
    assert spec(**change).compute_digest() != spec().compute_digest()


def test_the_digest_never_changes_between_versions():
    # Snapshots and bases carry it: if this fails, every one of them has become unreadable.
    assert spec().compute_digest() == "9ada4bf913c67f1ca86ddc211fcb33b42635d1c6bfef20643fab736085b16344"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": 1}, "name of RobotSpec '1' is 1; it must be text; in YAML, write it in quotes: '1'"),
        ({"model": None}, "model of RobotSpec 'pair' is None; it must be text"),
        ({"rate": "50"}, "rate of RobotSpec 'pair' is '50'; it must be a finite number"),
        ({"rate": float("nan")}, "rate of RobotSpec 'pair' is nan; it must be a finite number"),
        ({"tasks": ["hold"]}, "tasks of robot 'pair' is ['hold']; it must be a mapping, as tasks:"),
        ({"safety": 3}, "safety of robot 'pair' is 3; it must be a mapping, as safety: {home:"),
        (
            {"joints": {"name": "shoulder"}},
            "joints of robot 'pair' is {'name': 'shoulder'}; it must be a list of",
        ),
        ({"actuators": "m1"}, "actuators of robot 'pair' is 'm1'; it must be a list of"),
        ({"joints": [{**values()["joints"][0], "name": 1}]}, "name of Joint '1' is 1; it must be text"),
        (
            {"joints": [{**values()["joints"][0], "position": [-1.0]}]},
            "'shoulder' is [-1.0]; it must be 2 finite",
        ),
        (
            {"joints": [{**values()["joints"][0], "position": 2}]},
            "'shoulder' is 2; it must be 2 finite numbers",
        ),
        (
            {"joints": [{**values()["joints"][0], "position": ["-1", 1]}]},
            "is ['-1', 1]; it must be 2 finite numbers",
        ),
        ({"joints": [{**values()["joints"][0], "effort": None}]}, "effort of Joint 'shoulder' is None"),
        (
            {"joints": [{**values()["joints"][0], "kind": "ball"}]},
            "'shoulder' has kind 'ball'; it must be one of",
        ),
        (
            {"actuators": [{**values()["actuators"][0], "range": [0, True]}]},
            "'m1' is [0, True]; it must be 2 finite",
        ),
        (
            {"actuators": [{**values()["actuators"][0], "joint": 1}]},
            "joint of Actuator 'm1' is 1; it must be text",
        ),
        ({"rate": 0}, "'pair' has rate 0 Hz; it must be 10 to 500"),
        ({"joints": []}, "'pair' has no joints; it must be at least one"),
        ({"actuators": []}, "'pair' has no actuators; it must be at least one"),
        ({"actuators": [values()["actuators"][0]] * 2}, "actuators ['m1', 'm1']; it must be unique"),
        (
            {"actuators": [{**values()["actuators"][0], "kind": "deg"}]},
            "'m1' has kind 'deg'; it must be one of",
        ),
        ({"chain": [{**values()["chain"][0], "axis": [0, 1, 1]}]}, "'shoulder' has length 1.414"),
        ({"joints": [values()["joints"][0]] * 2}, "['shoulder', 'shoulder']; it must be unique"),
        ({"interfaces": ["position", "torque"]}, "interfaces ['torque']; it must be some of"),
        ({"colour": "red"}, "RobotSpec 'pair' has no field ['colour']; it has ['actuators'"),
        ({"joints": [{**values()["joints"][0], "position": [1, -1]}]}, "low < high"),
        ({"joints": [{**values()["joints"][0], "velocity": -3}]}, "'shoulder' has velocity -3"),
        ({"joints": [{"name": "shoulder"}]}, "Joint 'shoulder' lacks ['velocity', 'effort']"),
        ({"actuators": [{"joint": "shoulder"}]}, "Actuator lacks ['name', 'kind', 'range', 'rate']"),
        ({"joints": ["shoulder"]}, "Joint is 'shoulder'; it must be a mapping"),
        ({"chian": []}, "no field ['chian']; Did you mean 'chain'? It has"),
        ({"actuators": [{**values()["actuators"][0], "joint": "wrist"}]}, "names joint 'wrist'"),
        ({"actuators": [{**values()["actuators"][0], "rate": 0}]}, "'m1' has rate 0"),
        ({"chain": [{"joint": "wrist", "origin": [0, 0, 0], "axis": [0, 0, 1]}]}, "names joint 'wrist'"),
        ({"tasks": {"reach": {"rewards": "reach"}}}, "Task has no field ['rewards']"),
    ],
)
def test_a_spec_that_cannot_be_is_refused_by_name_and_value(change, words):
    with pytest.raises(SpecError) as refused:
        spec(**change)
    assert words in str(refused.value)


def test_a_file_without_a_mapping_is_refused(tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")
    with pytest.raises(SpecError, match="empty.yaml holds NoneType; a spec is a mapping"):
        RobotSpec.load(tmp_path / "empty.yaml")


def test_an_unknown_task_names_those_there_are():
    assert spec().find_task("reach").goal == 3
    with pytest.raises(SpecError, match=r"robot 'pair' has no task 'fly'; it has \['reach'\]"):
        spec().find_task("fly")


@pytest.mark.parametrize(
    ("name", "task", "words"),
    [
        (
            "../reach",
            {"reward": "reach", "goal": 3},
            "a task is named '../reach'; it must be made of letters",
        ),
        (3, {"reward": "reach", "goal": 3}, "a task is named 3"),
        (
            "reach",
            {"reward": "reach", "goal": -1},
            "the goal of reward 'reach' is -1; it must be a number of",
        ),
        ("reach", {"reward": "reach", "goal": True}, "goal of Task is True"),
        (
            "reach",
            {"reward": "reach", "goal": 3, "goal_type": "Point"},
            "goal_type is 'Point'; it must be one of",
        ),
        (
            "reach",
            {"reward": "reach", "goal": 3, "goal_type": "PoseStamped"},
            "goal is 3 and goal_type is 'PoseStamped'; it must be goal: 7 for this type",
        ),
        (
            "hold",
            {"reward": "hold", "goal": 0, "goal_type": "JointState"},
            "goal is 0 and goal_type is 'JointState'; it must be a goal with values",
        ),
    ],
)
def test_a_task_that_cannot_be_is_refused(name, task, words):
    with pytest.raises(SpecError, match=words):
        spec(tasks={name: task})


def test_equal_values_have_one_spelling_and_nan_has_none():
    assert encode_canonical_json({"b": 1, "a": [2.5, "ä"]}) == b'{"a":[2.5,"\\u00e4"],"b":1}'
    assert json.loads(encode_canonical_json({"a": 1e-300})) == {"a": 1e-300}
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode_canonical_json({"a": float("nan")})


def test_safety_is_no_part_of_the_digest():
    careful = spec(
        safety={
            "acceleration": {"m1": 30},
            "workspace": [[-1, 1], [-1, 1], [0, 1]],
            "consecutive_violation_limit": 7,
        }
    )
    assert careful.compute_digest() == spec().compute_digest()
    assert RobotSpec.from_dict(careful.to_dict()) == careful
    assert RobotSpec.from_dict(json.loads(encode_canonical_json(careful.to_dict()))) == careful


@pytest.mark.parametrize(
    ("safety", "words"),
    [
        ({"speed": 1}, "Safety has no field ['speed']"),
        ({"acceleration": {"m9": 1}}, "safety.acceleration names ['m9']"),
        ({"acceleration": {"m1": 0}}, "safety.acceleration of 'm1' is 0"),
        ({"deceleration": {"shoulder": float("nan")}}, "safety.deceleration of 'shoulder' is nan"),
        ({"stiffness": {"m1": float("inf")}}, "safety.stiffness of 'm1' is inf"),
        ({"home": {"elbow": 3}}, "safety.home of 'elbow' is 3; it must be in (-2, 2)"),
        ({"workspace": [[0, 1]]}, "it must be three ranges, low < high"),
        ({"workspace": [[0, 1], [0, 1], [1, 0]]}, "it must be three ranges, low < high"),
        ({"surprise_count_window": [5, 3]}, "safety.surprise_count_window is (5, 3)"),
        ({"max_age_periods": 0}, "safety.max_age_periods is 0"),
    ],
)
def test_a_safety_that_cannot_be_is_refused(safety, words):
    with pytest.raises(SpecError, match=re.escape(words)):
        spec(safety=safety)


def test_a_box_needs_a_servo_for_every_joint_of_the_chain():
    motors = [{**actuator, "kind": "effort"} for actuator in values()["actuators"]]
    with pytest.raises(SpecError, match="safety.workspace has no servo for"):
        spec(actuators=motors, safety={"workspace": [[0, 1]] * 3})


def test_the_page_of_the_spec_names_every_field():
    page = (
        (Path(__file__).parents[1] / "docs/spec.md").read_text().partition("## Fields")[2].partition("##")[0]
    )
    derived = {"folder", "tip_name", "model_digest"}
    named = {
        name
        for row in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", page, re.M)
        for name in re.findall(r"\w+", row)
    }
    assert named == {each.name for each in fields(RobotSpec)} - derived | {"version"}
    for part in (Joint, Actuator):
        assert all(f"`{each.name}`" in page for each in fields(part))
