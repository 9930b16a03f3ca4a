"""A recording is played again from whatever form it was left in."""

import re

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim]

from sensor_msgs.msg import JointState

from tests.recording.bags import write_split_bag
from tests.recording.sessions import act, at, obs, step_of
from wm_robot_ros.middleware.convert import read_stamp
from wm_robot_ros.middleware.environment import make_node_command

SAID = [one for step in range(1, 26) for one in step_of(step)]


def replay(start, bag, **more):
    return start(make_node_command("replay_node", {"recording": str(bag), "min_subscribers": 1, **more}))


@pytest.mark.parametrize(
    "options", [{"storage": "sqlite3", "compression": "file"}, {"compression": "message"}]
)
def test_a_bag_of_several_files_is_replayed_message_by_message(tmp_path, start, peer, options):
    bag = write_split_bag(tmp_path / "bag", SAID, 2, **options)
    states, applied = peer.hear(JointState, "joint_states"), peer.hear(JointState, "applied_command")
    process = replay(start, bag, from_robot="one")
    peer.until(lambda: len(states) == 25 and len(applied) == 25, "not all was replayed")
    assert process.wait_for_exit(10) == 0
    assert [[*message.position, *message.velocity] for message in states] == [
        list(obs(n)) for n in range(1, 26)
    ]
    assert [message.position[0] for message in applied] == [act(n)[0] for n in range(1, 26)]
    moved = {read_stamp(message) - at(number) for number, message in enumerate(states, start=1)}
    assert len(moved) == 1


def test_a_namespace_that_is_not_in_the_recording_gets_those_that_are(tmp_path, start, peer):
    bag = write_split_bag(tmp_path / "bag", SAID, 2)
    states = peer.hear(JointState, "joint_states")
    process = replay(start, bag, from_robot="ones")
    assert process.wait_for_exit(20) != 0 and not states
    said = (tmp_path / "node0.log").read_text()
    assert re.search(r"has no messages of .*/ones/joint_states.* Set from_robot:=one$", said.strip())
    assert "Traceback" not in said


def test_a_recording_that_is_not_there_is_refused_by_its_name(tmp_path, start):
    write_split_bag(tmp_path / "bag", SAID, 2)
    process = replay(start, tmp_path / "bags", from_robot="one")
    assert process.wait_for_exit(20) != 0
    said = (tmp_path / "node0.log").read_text()
    assert f"recording '{tmp_path / 'bags'}' does not exist. Did you mean '{tmp_path / 'bag'}'?" in said
    assert "Traceback" not in said
