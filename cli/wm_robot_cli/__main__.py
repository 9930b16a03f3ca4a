"""Module entry point: `python -m wm_robot_cli` is the same as `wm-robot`."""

from wm_robot_cli.main import main

if __name__ == "__main__":
    main()
