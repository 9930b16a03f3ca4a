"""docs/ros.md is as the nodes are."""

import re
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim]

from tests.ros.built import need_messages

need_messages()

from wm_robot_ros.generate_docs import DOCUMENT


def test_the_tables_are_those_that_the_nodes_make(environment):
    # In a process of its own, on domains of its own.
    code = (
        "import sys; from wm_robot_ros.generate_docs import DOCUMENT, update_document; "
        "sys.stdout.write(update_document(DOCUMENT.read_text(encoding='utf-8')))"
    )
    environment = {name: value for name, value in environment.items() if name != "ROS_DOMAIN_ID"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    again = "run: python -m wm_robot_ros.generate_docs"
    assert done.stdout == DOCUMENT.read_text(encoding="utf-8"), again


def test_every_parameter_says_what_it_is():
    text = DOCUMENT.read_text(encoding="utf-8")
    (table,) = re.findall(r"<!-- made: parameters -->\n(.*?)<!-- end -->", text, re.DOTALL)
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()[2:]]
    assert len(rows) > 60
    bare = [row for row in rows if not row[-1] or row[-1].startswith("`")]
    assert not bare
