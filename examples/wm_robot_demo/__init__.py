"""The demo: two arms, one hidden change, one of them learns. Starts the nodes, watches, and tells what happened."""

from wm_robot_demo.demo_run import run
from wm_robot_demo.options import Options
from wm_robot_demo.progress import Scene, Screen

__all__ = ["Options", "Scene", "Screen", "run"]
