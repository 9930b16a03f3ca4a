"""ROS probes: nodes and processes that measure ROS 2 itself."""
