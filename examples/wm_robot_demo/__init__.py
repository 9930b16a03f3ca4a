"""Demo: two arms, one hidden change, one arm learns. Starts the nodes, monitors them and writes a report."""

from wm_robot_demo.demo_run import run_demo
from wm_robot_demo.options import DemoOptions
from wm_robot_demo.progress import DemoDisplay, SessionProgress

__all__ = ["DemoOptions", "SessionProgress", "DemoDisplay", "run_demo"]
