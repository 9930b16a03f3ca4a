"""ROS 2 package of wm_robot: nodes that translate between topics and the library; the only part with rclpy."""
