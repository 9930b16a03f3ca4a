"""`python -m wm_robot`, the same as `wm-robot`."""

from wm_robot.cli.main import main

main()
