"""The demo: two arms, one hidden change, one of them learns. Starts the nodes, watches, and tells what happened."""

from wm_robot_ros.demo.course import run
from wm_robot_ros.demo.options import Options
from wm_robot_ros.demo.screen import Scene, Screen

__all__ = ["Options", "Scene", "Screen", "run"]
