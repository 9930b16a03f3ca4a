"""Nodes that translate between ROS 2 and wm_robot; the one place that knows rclpy."""
