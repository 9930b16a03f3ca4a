"""Who is followed after whom, by what the graph says of publishers, and what of the queue is heard."""

import time
from types import SimpleNamespace

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim]

import rclpy
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import Float64

from wm_robot.streams.throttled_log import Complaints
from wm_robot_ros.middleware.qos import OUTPUT, SENSOR
from wm_robot_ros.middleware.subscriptions import UNKNOWN, UNNAMED, FromWhom, Newest, OneSpeaker

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


@pytest.mark.parametrize("quick", [False, True])
def test_the_newest_of_the_one_that_counts_is_heard_whatever_others_say_after_it(peer, quick):
    others = rclpy.create_node("others", context=peer.context)
    listener = rclpy.create_node("listener", context=peer.context)
    heard, pushed_out, followed = [], [], []

    def hear(message, source):
        followed.append(source)
        heard.append(message.data)

    newest = Newest(
        listener,
        Float64,
        "number",
        hear,
        refuses=lambda source: bool(followed) and source != followed[0],
        event_callbacks=SubscriptionEventCallbacks(),
    )
    listener.create_subscription(
        Float64, "number", FromWhom(lambda message, source: pushed_out.append(message.data)), SENSOR
    )
    executor = events_executor_of(peer.context) if quick else SingleThreadedExecutor(context=peer.context)
    executor.add_node(listener)
    good, bad = (node.create_publisher(Float64, "number", OUTPUT) for node in (peer.node, others))
    for publisher in (good, bad):
        peer.until(lambda publisher=publisher: publisher.get_subscription_count() == 2, "nobody listens")

    def say(publisher, *numbers):
        for number in numbers:
            publisher.publish(Float64(data=float(number)))

    def listen():
        time.sleep(0.2)
        for _ in range(300):
            executor.spin_once(timeout_sec=0.01)

    say(good, 1)
    listen()
    assert heard == pushed_out == [1]
    say(good, 2, 3)
    say(bad, *[-1] * 50)
    say(good, 4)
    say(bad, *[-1] * 100)
    listen()
    assert heard == [1, 4], "neither what is old, nor what others say"
    assert pushed_out == [1, -1], "a queue of one holds what came last, whoever said it"
    say(bad, *[-1] * (2 * newest.subscription.qos_profile.depth))
    listen()
    assert heard == [1, 4]
    executor.shutdown()


def events_executor_of(context):
    experimental = pytest.importorskip("rclpy.experimental", reason="this rclpy has no events executor")
    return experimental.EventsExecutor(context=context)
