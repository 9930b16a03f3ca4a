"""Nodes and processes that measure ROS 2 itself."""
