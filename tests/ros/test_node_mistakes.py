"""The table of mistakes, as far as they are made with nodes: how each ends, and whether what it says helps."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim, pytest.mark.learn]

from tests.cli.grades import End, one_line, started
from tests.recording.sessions import record, step_of

ROOT = Path(__file__).parents[2]


def node(name, *arguments):
    return [sys.executable, "-m", f"wm_robot_ros.nodes.{name}", "--ros-args", *map(str, arguments)]


def refused(environment, command, *names) -> str:
    """What a node says that ends with exit code 2, in few lines, and names these."""
    end = started(command, env=environment, cwd=ROOT)
    told = one_line(end.said)
    assert end.code == 2 and "Traceback" not in told and len(end.said.splitlines()) <= 15, end
    assert all(name in told for name in names), told
    return told


def runs(environment, command) -> End:
    """How a node ends that is asked to after a few seconds, or ends by itself."""
    process = subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        process.wait(6)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    return End(process.wait(20), process.communicate()[0].decode())


def test_a_parameter_of_the_wrong_type_is_named_with_one_that_works(environment):
    told = refused(environment, node("plant_node", "-p", "seed:=abc"), "seed", "'abc'", "a whole number")
    better = re.search(r"Write (-p) (seed:=\S+?),", told).groups()
    assert runs(environment, node("plant_node", *better)).code == 0


def test_a_missing_file_of_parameters_is_named_with_one_that_works(environment):
    told = refused(environment, node("plant_node", "--params-file", "nothing.yaml"), "nothing.yaml")
    better = re.search(r"launch/\w+\.yaml", told).group()
    assert runs(environment, node("plant_node", "--params-file", better)).code == 0


def test_a_replay_of_a_robot_that_is_not_in_the_session_names_one_that_is(environment, tmp_path):
    session = tmp_path / "session.mcap"
    record(session, [said for step in range(20) for said in step_of(step)], robot="one")
    of = ("-p", f"recording:={session}", "-p", "min_subscribers:=0", "-p")
    told = refused(
        environment, node("replay_node", *of, "from_robot:=two"), "session.mcap", "/two/", "from_robot"
    )
    better = re.search(r"from_robot:=(\w+)", told).group(1)
    assert runs(environment, node("replay_node", *of, f"from_robot:={better}")).code == 0
