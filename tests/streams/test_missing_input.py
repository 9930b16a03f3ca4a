"""What an input lacks, in the words that people get to read."""

import pytest

from wm_robot.streams.missing_input import (
    DeliveryQos,
    InputTopic,
    PublisherInfo,
    describe_mismatches,
    describe_missing_input,
)

KIND = "sensor_msgs/msg/JointState"
BEST = DeliveryQos(reliability="best effort", durability="volatile")
RELIABLE = DeliveryQos(reliability="reliable", durability="volatile")
LATCHED = DeliveryQos(reliability="reliable", durability="transient local")


def wanted(delivery=BEST):
    return InputTopic(
        topic="/arm/joint_states",
        message_type=KIND,
        delivery=delivery,
        effect="no observation",
        requirement="50 times a second",
        remedy="Is the plant running?",
    )


def publisher(node="/plant", kind=KIND, delivery=RELIABLE):
    return PublisherInfo(node=node, message_type=kind, delivery=delivery)


def test_no_publisher_is_told_with_topic_type_and_qos():
    assert describe_missing_input(wanted(), []) == (
        "no observation: /arm/joint_states has no publisher. Publish sensor_msgs/msg/JointState there with any QoS, "
        "50 times a second. Is the plant running?"
    )
    assert "there with reliable and transient local, 50" in describe_missing_input(wanted(LATCHED), [])


def test_where_the_same_is_published_in_another_namespace_it_is_named():
    told = describe_missing_input(wanted(), [], other_topics=["/joint_states"])
    assert told.endswith("JointState is published on /joint_states: use one namespace, or remap.")


def test_a_publisher_of_another_type_is_named_with_its_type():
    told = describe_missing_input(wanted(), [publisher("/talker", "std_msgs/msg/String")])
    assert told == (
        "no observation: /arm/joint_states has 1 publisher, none of them compatible: /talker publishes "
        "std_msgs/msg/String. Publish sensor_msgs/msg/JointState there with any QoS, 50 times a second."
    )


@pytest.mark.parametrize(
    ("asked", "offered", "misfit"),
    [
        (BEST, BEST, ""),
        (BEST, LATCHED, ""),
        (RELIABLE, LATCHED, ""),
        (RELIABLE, BEST, "offers best effort, and reliable is required"),
        (LATCHED, RELIABLE, "offers volatile, and transient local is required"),
        (
            LATCHED,
            BEST,
            "offers best effort, and reliable is required and offers volatile, and transient local is required",
        ),
    ],
)
def test_a_qos_that_offers_less_than_is_asked_for_is_told_policy_by_policy(asked, offered, misfit):
    assert publisher(delivery=offered).describe_mismatch(wanted(asked)) == misfit
    told = describe_missing_input(wanted(asked), [publisher(delivery=offered)])
    assert (f"none of them compatible: /plant {misfit}. " in told) == bool(misfit)


def test_a_publisher_that_is_silent_is_told_from_one_that_stopped_and_from_one_that_is_late():
    told = [describe_missing_input(wanted(), [publisher()], age=age) for age in (None, 3.0, 0.4)]
    assert told[0] == (
        "no observation: /arm/joint_states has 1 publisher (/plant), and no usable message has arrived. "
        "Is the plant running?"
    )
    assert "and its messages have stopped. Is the plant running?" in told[1]
    assert (
        "arrive too rarely or are too old. Publish sensor_msgs/msg/JointState there with any QoS" in told[2]
    )


def test_the_last_refusal_is_told_with_its_cause():
    told = describe_missing_input(wanted(), [publisher()], rejection="velocity is not finite for ['elbow'].")
    assert "; the last message was rejected: velocity is not finite for ['elbow']. Is the plant" in told


def test_many_publishers_are_counted_and_a_few_named():
    told = describe_missing_input(wanted(), [publisher(f"/node{number}") for number in range(9)])
    assert "has 9 publishers (/node0, /node1, /node2, /node3, 5 more)" in told


def test_a_publisher_in_vain_beside_one_that_is_received_is_named():
    both = [publisher(), publisher("/careless", delivery=BEST)]
    assert describe_mismatches(wanted(), both) == ""
    assert describe_mismatches(wanted(RELIABLE), both) == (
        "/arm/joint_states is not received from all publishers: /careless offers best effort, and reliable is "
        "required. Publish sensor_msgs/msg/JointState there with reliable, 50 times a second."
    )
