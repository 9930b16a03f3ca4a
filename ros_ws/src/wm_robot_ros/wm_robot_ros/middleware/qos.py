"""QoS profiles of the topics, by kind of topic."""

from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy

SENSOR_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
"""For subscribers of a loop that use the newest message. Compatible with every publisher."""

NEWEST_QOS = QoSProfile(depth=256, reliability=ReliabilityPolicy.BEST_EFFORT)
"""For subscribers that act on the newest message of one publisher: see `LatestSubscription`. It holds 50 ms of a
flood of 5000 messages per second."""

COMMAND_QOS = QoSProfile(depth=32, reliability=ReliabilityPolicy.BEST_EFFORT)
"""For a plant: rejecting is fast, and a flood of old commands does not displace the newest one."""

OUTPUT_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
"""For publishers: compatible with every subscriber, and a recorder loses no message."""

LATCHED_QOS = QoSProfile(
    depth=16, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
"""For events: later subscribers receive them too."""

HEARTBEAT_QOS = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
    # By topic: this detects a node whose executor hangs, which AUTOMATIC would hide.
    liveliness=LivelinessPolicy.MANUAL_BY_TOPIC,
    liveliness_lease_duration=Duration(seconds=1),
)
"""For `~/status`: no message for a second means that the node hangs or has ended."""
