"""The page that shows how to add a sensor: its specs are specs."""

import re
from pathlib import Path

import pytest
import yaml

from wm_robot.robots import load_spec
from wm_robot.spec.sensors import SENSOR_KINDS, Sensor, build_sensors

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/add_a_sensor.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def sensors_of(block: str) -> tuple[Sensor, ...]:
    return build_sensors(yaml.safe_load(block)["sensors"])


@pytest.mark.parametrize("block", BLOCKS)
def test_every_spec_on_the_page_has_sensors_that_load(block):
    for sensor in sensors_of(block):
        assert sensor.kind in SENSOR_KINDS


def test_the_image_sensor_on_the_page_is_that_of_the_example():
    pointer = load_spec(ROOT / "examples/image_features/pointer.yaml")
    assert pointer.sensors in [sensors_of(block) for block in BLOCKS]
