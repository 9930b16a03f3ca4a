"""Demo report: one self-contained HTML file, written from plain arrays."""

from wm_robot.evaluation.report.contents import (
    JointPredictions,
    LatencyStatistics,
    PhysicsEstimate,
    Report,
    ReportedSession,
    RobotRun,
    Video,
)
from wm_robot.evaluation.report.page import write_report

__all__ = [
    "PhysicsEstimate",
    "JointPredictions",
    "LatencyStatistics",
    "Report",
    "RobotRun",
    "Video",
    "ReportedSession",
    "write_report",
]
