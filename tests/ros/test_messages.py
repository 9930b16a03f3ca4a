"""Every field of the project's own messages arrives as it was sent."""

import importlib
import math
from array import array
from pathlib import Path

import pytest

pytestmark = pytest.mark.ros

from tests.ros.built import need_messages

need_messages()

import wm_robot_msgs.action
import wm_robot_msgs.msg
import wm_robot_msgs.srv
from rclpy.serialization import deserialize_message, serialize_message

FOLDER = Path(__file__).parents[2] / "ros_ws/src/wm_robot_msgs"
PARTS = {"msg": ("",), "srv": ("Request", "Response"), "action": ("Goal", "Result", "Feedback")}
FILES = sorted(path for kind in PARTS for path in (FOLDER / kind).glob(f"*.{kind}"))
UNITS = ("nats", " s, ", "0..1", "unit", "stddev")
PLAIN = {
    "bool success",
    "builtin_interfaces/Duration step_duration",
    "float64 value",
    "string note",
    "string[] branches",
    "string[] pins",
    "wm_robot_msgs/Metric[] metrics",
    "wm_robot_msgs/Snapshot snapshot",
}
"""Fields that say it by their name."""
CODES = {"float": "f", "double": "d"}


def types_of(path):
    kind = getattr(getattr(wm_robot_msgs, path.suffix[1:]), path.stem)
    return [getattr(kind, part) if part else kind for part in PARTS[path.suffix[1:]]]


def filled(kind, number):
    """A message whose every element is another number."""
    message = kind()
    for name, told in kind.get_fields_and_field_types().items():
        setattr(message, name, value_of(told, number))
    return message


def value_of(told, number):
    many = told.startswith("sequence<")
    told = told.removeprefix("sequence<").removesuffix(">")
    values = [one_of(told, number) for _ in range(3 if many else 1)]
    return (array(CODES[told], values) if told in CODES else values) if many else values[0]


def one_of(told, number):
    if told == "string":
        return f"text {next(number)}"
    if told == "boolean":
        return bool(next(number) % 2)
    if told in CODES:
        return float(next(number)) + 0.5
    if told.startswith(("int", "uint")):
        return next(number)
    package, name = told.split("/")
    module = importlib.import_module(f"{package}.msg")
    return filled(getattr(module, name), number)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_message_survives_the_wire(path):
    for kind in types_of(path):
        sent = filled(kind, iter(range(1, 10_000)))
        assert deserialize_message(serialize_message(sent), kind) == sent
        # A default message is another one, or the test shows nothing.
        assert not kind.get_fields_and_field_types() or kind() != sent


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_field_says_what_it_is_and_numbers_have_units(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# "), "the first line says what it is for"
    told = [line for line in lines if line and not line.lstrip().startswith("#") and line != "---"]
    for line in told:
        field, _, comment = line.partition("#")
        assert comment or field.strip() in PLAIN, f"'{line}' has no comment"
        if field.startswith("float"):
            assert comment and any(unit in comment for unit in UNITS) or field.strip() in PLAIN, (
                f"'{line}' has no unit"
            )


def test_nan_is_a_number_that_can_be_sent():
    status = wm_robot_msgs.msg.LifetimeStatus(latency_p50=math.nan)
    assert math.isnan(deserialize_message(serialize_message(status), type(status)).latency_p50)
