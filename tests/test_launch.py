"""The parameter file that people copy names every parameter that a node has, and no other."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
NODES = ROOT / "ros_ws/src/wm_robot_ros/wm_robot_ros/nodes"
FILE = yaml.safe_load((ROOT / "launch/sim.yaml").read_text(encoding="utf-8"))


def flat(values: dict, prefix: str = "") -> dict:
    found = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


@pytest.mark.parametrize(
    ("node", "files"),
    [
        ("plant", ("plant_node.py", "command_subscription.py")),
        ("agent", ("agent_parameters.py",)),
        ("recorder", ("recorder_node.py",)),
    ],
)
def test_the_file_has_all_parameters_of_a_node(node, files):
    source = "".join((NODES / name).read_text(encoding="utf-8") for name in files)
    declared = set(re.findall(r'declare(?:_parameter)?\(\s*(?:node|self),\s*"([^"]+)"', source))
    listed = flat(FILE[f"/**/{node}"]["ros__parameters"])
    assert declared and set(listed) == declared
