"""Nodes and processes that measure ROS 2 itself."""

PROBES = __name__
"""Where `node_command` finds the nodes of this package."""
