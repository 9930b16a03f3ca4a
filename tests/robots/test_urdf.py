import re
from pathlib import Path

import pytest

from wm_robot.errors import SpecError
from wm_robot.robots.urdf import find_differences, write_urdf
from wm_robot.spec import RobotSpec

SPEC = RobotSpec.load(Path(__file__).parents[2] / "wm_robot/robots/arm.yaml")
URDF = write_urdf(SPEC)


def test_a_description_made_of_a_spec_agrees_with_it():
    assert find_differences(SPEC, URDF) == []
    for joint in SPEC.joints:
        assert f'name="{joint.name}"' in URDF


@pytest.mark.parametrize(
    ("change", "by", "told"),
    [
        ('name="elbow_pitch"', 'name="elbow"', "'elbow_pitch' is not in the description"),
        ('lower="-2.0"', 'lower="-1.0"', "'forearm_roll' goes down to -2.0 in the spec, to -1.0"),
        ('upper="1.5"', 'upper="1.2"', "'wrist_pitch' goes up to 1.5 in the spec, to 1.2"),
        ('velocity="4.0"', 'velocity="3.0"', "'base_yaw' has velocity 4.0 in the spec, 3.0"),
        ('effort="2.5"', 'effort="1.0"', "'forearm_roll' has effort 2.5 in the spec, 1.0"),
    ],
)
def test_what_the_spec_allows_and_the_description_does_not_is_told(change, by, told):
    assert change in URDF
    found = find_differences(SPEC, URDF.replace(change, by, 1))
    assert len(found) == 1 and told in found[0]


def test_a_spec_may_ask_for_less():
    wider = re.sub(
        r'lower="[-\d.]+" upper="[-\d.]+" velocity="[\d.]+"', 'lower="-9" upper="9" velocity="9"', URDF
    )
    assert find_differences(SPEC, wider) == []


CRANE = RobotSpec.from_dict(
    {
        "name": "crane",
        "rate": 50,
        "model": "crane.xml",
        "joints": [
            {"name": "lift", "kind": "slide", "position": [0.0, 0.4], "velocity": 1.0, "effort": 50.0},
            {"name": "bend", "position": [-1.0, 1.0], "velocity": 5.0, "effort": 5.0},
            {"name": "roll", "position": [-1.0, 1.0], "velocity": 5.0, "effort": 5.0},
        ],
        "actuators": [
            {"name": name, "joint": name, "kind": "position", "range": [0.0, 0.4], "rate": 1.0}
            for name in ("lift", "bend", "roll")
        ],
        "chain": [
            {"joint": "lift", "kind": "slide", "origin": [0, 0, 0.1], "axis": [0, 0, 1], "rotation": [0.6, 0.8, 0, 0],
             "zero": 0.1},
            {"joint": "bend", "origin": [0.1, 0.2, 0], "axis": [0, 1, 0], "rotation": [0.5, 0.5, 0.5, 0.5],
             "zero": 0.3},
            {"joint": "roll", "origin": [0.2, 0, 0], "axis": [0.6, 0, 0.8], "rotation": [0.8, 0, -0.6, 0]},
        ],
        "tip": [0.1, 0, 0],
    }
)  # fmt: skip
"""Turned frames, a slide, and joints whose zero is elsewhere."""


def test_a_chain_with_turned_frames_is_described_as_it_is():
    assert find_differences(CRANE, write_urdf(CRANE)) == []


def with_chain(**change):
    links = [dict(link) for link in CRANE.to_dict()["chain"]]
    number = change.pop("number")
    links[number] |= change
    return RobotSpec.from_dict({**CRANE.to_dict(), "chain": links})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"number": 1, "origin": [0.12, 0.2, 0.0]}, "joint 'bend' is at"),
        ({"number": 1, "zero": 0.0}, "the axis of joint 'roll' is"),
        ({"number": 0, "zero": 0.0}, "joint 'roll' is at"),
        ({"number": 2, "axis": [0.6, 0.0, -0.8]}, "the axis of joint 'roll' is"),
        (
            {"number": 0, "rotation": [1.0, 0.0, 0.0, 0.0]},
            "the axis of joint 'lift' is [0.000, 0.000, 1.000]",
        ),
    ],
)
def test_a_joint_that_is_elsewhere_in_the_description_is_told(change, told):
    found = find_differences(with_chain(**change), write_urdf(CRANE))
    assert found and told in found[0] and "with all joints at zero" in found[0]


def test_where_along_its_axis_a_joint_is_does_not_matter():
    along = with_chain(number=2, origin=[0.2, 0.0, 0.0])
    moved = write_urdf(along).replace(
        '<joint name="roll" type="revolute">', '<joint name="roll" type="continuous">'
    )
    assert find_differences(along, moved) == []
    shifted = with_chain(number=0, origin=[0.0, 0.0, 0.1])
    assert find_differences(shifted, write_urdf(CRANE)) == []


@pytest.mark.parametrize(
    ("added", "told"),
    [
        ('<safety_controller soft_lower_limit="-0.5" soft_upper_limit="0.5"/>',
         ["to -0.5 in the description (soft limit)", "to 0.5 in the description (soft limit)"]),
        ('<safety_controller soft_lower_limit="-9" soft_upper_limit="0.5"/>',
         ["to 0.5 in the description (soft limit)"]),
        ('<safety_controller k_velocity="1"/>', []),
    ],
)  # fmt: skip
def test_soft_limits_count(added, told):
    described = URDF.replace(
        'name="elbow_pitch" type="revolute">', f'name="elbow_pitch" type="revolute">{added}'
    )
    assert described != URDF
    found = find_differences(SPEC, described)
    assert len(found) == len(told) and all(
        words in sentence for words, sentence in zip(told, found, strict=True)
    )


def test_limits_of_ros2_control_count():
    limits = '<param name="min">-0.7</param><param name="max">9</param>'
    interface = f'<command_interface name="position">{limits}</command_interface>'
    described = URDF.replace(
        "</robot>", f'<ros2_control><joint name="wrist_roll">{interface}</joint></ros2_control></robot>'
    )
    (found,) = find_differences(SPEC, described)
    assert "'wrist_roll' goes down to -2.6 in the spec, to -0.7 in the description (ros2_control)" in found


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('lower="-2.0"', 'lower="nan"'),
        ('velocity="4.0"', 'velocity="fast"'),
        ('xyz="0 0 0.06"', 'xyz="0 inf 0.06"'),
        ('xyz="0 0 0.06"', 'xyz="0 0"'),
    ],
)
def test_a_number_that_is_none_is_refused(old, new):
    assert old in URDF
    with pytest.raises(SpecError, match="of the description has|in the description is"):
        find_differences(SPEC, URDF.replace(old, new, 1))


def test_a_joint_of_another_kind_is_told():
    slid = URDF.replace('name="elbow_pitch" type="revolute"', 'name="elbow_pitch" type="prismatic"')
    assert "'elbow_pitch' is a hinge in the spec, 'prismatic' in" in find_differences(SPEC, slid)[0]


def test_links_in_a_circle_are_refused():
    circle = URDF.replace('<parent link="base_link"/>', '<parent link="gripper"/>')
    with pytest.raises(SpecError, match="is its own ancestor"):
        find_differences(SPEC, circle)


@pytest.mark.parametrize("text", ["", "<robot", "<sdf/>", "<!DOCTYPE x [<!ENTITY a 'b'>]><robot>&a;</robot>"])
def test_what_is_no_description_is_refused(text):
    with pytest.raises(SpecError, match="description"):
        find_differences(SPEC, text)


def test_a_joint_that_wraps_is_continuous_in_a_description():
    wheel = {"name": "wheel", "wraps": True, "velocity": 5.0, "effort": 5.0}
    spec = RobotSpec.from_dict(
        {
            "name": "cart",
            "rate": 50,
            "model": "cart.xml",
            "joints": [wheel],
            "actuators": [
                {"name": "wheel", "joint": "wheel", "kind": "velocity", "range": [-1, 1], "rate": 1.0}
            ],
            "chain": [{"joint": "wheel", "origin": [0, 0, 0.1], "axis": [0, 0, 1]}],
        }
    )
    description = write_urdf(spec)
    assert 'type="continuous"' in description and find_differences(spec, description) == []
    limited = description.replace('type="continuous"', 'type="revolute"')
    assert (
        "'wheel' wraps in the spec, and is 'revolute' in the description"
        in find_differences(spec, limited)[0]
    )
