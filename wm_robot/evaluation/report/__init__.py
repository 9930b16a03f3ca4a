"""Demo report: one self-contained HTML file, written from plain arrays."""

from wm_robot.evaluation.report.contents import Belief, Foresight, Latency, Report, Run, Video, Visit
from wm_robot.evaluation.report.page import write_report

__all__ = ["Belief", "Foresight", "Latency", "Report", "Run", "Video", "Visit", "write_report"]
