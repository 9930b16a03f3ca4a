"""How each kind of topic is delivered."""

from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy

SENSOR = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
"""For those who listen to a loop: the newest counts. Matches every publisher."""

NEWEST = QoSProfile(depth=256, reliability=ReliabilityPolicy.BEST_EFFORT)
"""For who acts on the newest of one publisher: see `Newest`. 50 ms of a flood of 5000 a second fit."""

COMMAND = QoSProfile(depth=32, reliability=ReliabilityPolicy.BEST_EFFORT)
"""For who obeys: refusing is quick, and no flood of old commands pushes out the new one."""

OUTPUT = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
"""For those who speak: matches every subscriber, and a recorder loses nothing."""

LATCHED = QoSProfile(
    depth=16, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
"""For events: whoever comes later still hears them."""

HEARTBEAT = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
    # By topic: a node whose executor hangs falls silent too, which AUTOMATIC would hide.
    liveliness=LivelinessPolicy.MANUAL_BY_TOPIC,
    liveliness_lease_duration=Duration(seconds=1),
)
"""For `~/status`: silence for a second means that the node is stuck or gone."""
