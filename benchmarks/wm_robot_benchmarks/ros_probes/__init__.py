"""ROS probes: nodes and processes that measure ROS 2 itself."""

PROBES = __name__
"""Package of the probe nodes, for `make_node_command`."""
