"""Who is followed after whom, by what the graph says of publishers."""

from types import SimpleNamespace

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim]

from wm_robot.io.complaints import Complaints
from wm_robot_ros.one_speaker import UNKNOWN, UNNAMED, OneSpeaker

FIRST, SECOND = b"first", b"second"


def speaker(names):
    """One that hears the first publisher of those in the graph, and what it complains of."""
    graph = [
        SimpleNamespace(endpoint_gid=source, node_namespace="/", node_name=name)
        for source, name in names.items()
    ]
    node = SimpleNamespace(
        resolve_topic_name=lambda topic: f"/{topic}", get_publishers_info_by_topic=lambda topic: graph
    )
    told = []
    one = OneSpeaker(node, "joint_command", Complaints(told.append), wary=True)
    one.follow(FIRST)
    assert one.refuses(SECOND)
    return one, told


@pytest.mark.parametrize(
    ("names", "followed"),
    [
        ({FIRST: "agent", SECOND: "agent"}, True),
        ({FIRST: "agent", SECOND: "other"}, False),
        # Two that nobody knows are not the same for that.
        ({FIRST: UNKNOWN, SECOND: UNKNOWN}, False),
        ({FIRST: UNKNOWN, SECOND: "agent"}, False),
    ],
)
def test_one_of_the_same_name_takes_the_place_of_a_silent_one_when_armed(names, followed):
    one, _ = speaker(names)
    one.arm(silent=False)
    assert one.refuses(SECOND)
    one.arm(silent=True)
    assert one.refuses(SECOND) is not followed


def test_a_node_that_is_not_introduced_is_called_so():
    _, told = speaker({FIRST: UNKNOWN, SECOND: "agent"})
    assert told == [f"two nodes publish 'joint_command': that of {UNNAMED} is used, that of /agent is not"]
