"""ROS 2 nodes: each translates between topics and the library."""
