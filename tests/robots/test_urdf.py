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


@pytest.mark.parametrize("text", ["", "<robot", "<sdf/>", "<!DOCTYPE x [<!ENTITY a 'b'>]><robot>&a;</robot>"])
def test_what_is_no_description_is_refused(text):
    with pytest.raises(SpecError, match="description"):
        find_differences(SPEC, text)
