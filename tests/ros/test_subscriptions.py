"""Who is followed after whom, by what the graph says of publishers, and what of the queue is heard."""

import time
from types import SimpleNamespace

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim]

import rclpy
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import Float64

from wm_robot.streams.throttled_log import ThrottledLog
from wm_robot_ros.middleware import message_reader
from wm_robot_ros.middleware.qos import NEWEST_QOS, OUTPUT_QOS, SENSOR_QOS
from wm_robot_ros.middleware.subscriptions import (
    ROS_UNKNOWN_NODE,
    UNNAMED_NODE,
    IdentifiedSubscription,
    LatestSubscription,
    PublisherLock,
)

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
    one = PublisherLock(node, "joint_command", ThrottledLog(told.append), block_rejected=True)
    one.lock_to(FIRST)
    assert one.rejects_publisher(SECOND)
    return one, told


@pytest.mark.parametrize(
    ("names", "followed"),
    [
        ({FIRST: "agent", SECOND: "agent"}, True),
        ({FIRST: "agent", SECOND: "other"}, False),
        # Two that nobody knows are not the same for that.
        ({FIRST: ROS_UNKNOWN_NODE, SECOND: ROS_UNKNOWN_NODE}, False),
        ({FIRST: ROS_UNKNOWN_NODE, SECOND: "agent"}, False),
    ],
)
def test_one_of_the_same_name_takes_the_place_of_a_silent_one_when_armed(names, followed):
    one, _ = speaker(names)
    one.accept_new_publisher(silent=False)
    assert one.rejects_publisher(SECOND)
    one.accept_new_publisher(silent=True)
    assert one.rejects_publisher(SECOND) is not followed


def test_a_node_that_is_not_introduced_is_called_so():
    _, told = speaker({FIRST: ROS_UNKNOWN_NODE, SECOND: "agent"})
    assert told == [
        f"two nodes publish 'joint_command': that of {UNNAMED_NODE} is used, that of /agent is not"
    ]


@pytest.mark.parametrize("quick", [False, True])
def test_the_newest_of_the_one_that_counts_is_heard_whatever_others_say_after_it(peer, quick):
    others = rclpy.create_node("others", context=peer.context)
    listener = rclpy.create_node("listener", context=peer.context)
    heard, pushed_out, followed = [], [], []

    def hear(message, source):
        followed.append(source)
        heard.append(message.data)

    newest = LatestSubscription(
        listener,
        Float64,
        "number",
        hear,
        rejects=lambda source: bool(followed) and source != followed[0],
        event_callbacks=SubscriptionEventCallbacks(),
    )
    IdentifiedSubscription(
        listener,
        Float64,
        "number",
        lambda message, source: pushed_out.append(message.data),
        SENSOR_QOS,
    )
    executor = events_executor_of(peer.context) if quick else SingleThreadedExecutor(context=peer.context)
    executor.add_node(listener)
    good, bad = (node.create_publisher(Float64, "number", OUTPUT_QOS) for node in (peer.node, others))
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


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("by_rcl", [False, True])
def test_each_message_comes_with_the_id_that_the_graph_has_of_its_publisher(peer, monkeypatch, by_rcl, quick):
    if by_rcl:
        # As an rclpy that does not report the publisher.
        monkeypatch.setattr(message_reader, "MESSAGE_INFO", {})
    other, listener = (rclpy.create_node(name, context=peer.context) for name in ("other", "listener"))
    heard = []
    subscription = IdentifiedSubscription(
        listener,
        Float64,
        "number",
        lambda message, source: heard.append((message.data, source.rstrip(b"\0"))),
        NEWEST_QOS,
    )
    assert [each.topic_name for each in message_reader.list_subscriptions(listener)].count("/number") == 1
    executor = events_executor_of(peer.context) if quick else SingleThreadedExecutor(context=peer.context)
    executor.add_node(listener)
    publishers = [node.create_publisher(Float64, "number", OUTPUT_QOS) for node in (peer.node, other)]
    for publisher in publishers:
        peer.until(lambda publisher=publisher: publisher.get_subscription_count(), "nobody listens")
    for number in range(10):
        publishers[number % 2].publish(Float64(data=float(number)))
    end = time.monotonic() + 10
    while len(heard) < 10:
        assert time.monotonic() < end, heard
        executor.spin_once(timeout_sec=0.01)
    graph = {
        info.node_name: bytes(info.endpoint_gid).rstrip(b"\0")
        for info in peer.node.get_publishers_info_by_topic("number")
    }
    assert sorted(heard) == [(float(number), graph[("peer", "other")[number % 2]]) for number in range(10)]
    subscription.destroy()
    # The executor holds what it waits for until it waits again.
    executor.spin_once(timeout_sec=0.01)
    executor.shutdown()
    peer.until(lambda: not any(each.get_subscription_count() for each in publishers), "it still listens")
