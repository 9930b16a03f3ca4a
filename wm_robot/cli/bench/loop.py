"""`wm-robot bench loop`: sensor to command through ROS 2, at the robot's own rate."""

from wm_robot.cli.bench.result import Result, Setting, needs
from wm_robot.errors import MissingExtraError


def run(setting: Setting, memory: str, seconds: float) -> Result:
    """See `wm-robot bench loop --help`."""
    try:
        from wm_robot_ros.loop import measure
    except ImportError as error:
        raise MissingExtraError("wm-robot bench loop", "learn,sim,ros") from error

    needs(seconds > 0, f"seconds is {seconds}; it must be above 0")
    seconds = seconds / 4 if setting.quick else seconds
    measured = measure(robot=setting.robot, base=setting.bases / f"{setting.robot}-{memory}", seconds=seconds)
    agent = measured["agent"]
    rows = [
        {"what": what, "p50 ms": times["p50_ms"], "p99 ms": times["p99_ms"], "worst ms": times["worst_ms"]}
        for what, times in (
            ("sensor to command at the plant", measured["plant"]["latency"]),
            ("sensor to command at the agent", agent["latency"]),
            ("plan: the last iteration", agent["act"]),
            ("write, and prepare the next plan", agent["live"]),
        )
    ]
    return Result(
        setting=setting,
        figures={name: float(measured[name]) for name in ("p50_ms", "p99_ms", "worst_ms", "missed_periods")},
        table=rows,
        notes=(
            f"{agent['acted']} commands in {seconds:.0f} s; missed_periods is the most periods in a row without a "
            "new command",
        ),
    )
