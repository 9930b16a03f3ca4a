"""Demo: two arms, one hidden change, one arm learns. Starts the nodes, monitors them and writes a report."""

from wm_robot_demo.demo_run import run
from wm_robot_demo.options import Options
from wm_robot_demo.progress import Scene, Screen

__all__ = ["Options", "Scene", "Screen", "run"]
