"""Checks of a robot in simulation, for the verbs `new` and `check`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from wm_robot.errors import MissingExtraError
from wm_robot.spec import RobotSpec
from wm_robot_cli.tables import make_console, print_table

EXIT_CHECK_FAILED = 3
"""Exit code if a check in simulation fails."""


def run_checks(spec: RobotSpec) -> list[dict[str, str]]:
    """Run the five checks of a robot; each has `check`, `result` and `measured`.

    Raises:
        MissingExtraError: If MuJoCo is not installed.
    """
    try:
        from wm_robot_sim.robot_checks import run_robot_checks
    except ImportError as error:
        raise MissingExtraError("checks in simulation", "sim") from error
    return [asdict(each) for each in run_robot_checks(spec)]


def print_checks(checks: Sequence[Mapping[str, str]]) -> None:
    """Print the results as a table."""
    print_table(make_console(), checks)


def find_failures(checks: Sequence[Mapping[str, str]]) -> str:
    """Return what failed and why, as one sentence; empty if nothing did."""
    return "; ".join(f"{each['check']}: {each['measured']}" for each in checks if each["result"] == "failed")
