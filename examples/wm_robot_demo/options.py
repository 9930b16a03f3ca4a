"""Demo options: settings of a demo and the paths of its output files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """Settings of a demo."""

    output_folder: Path
    """Output folder."""
    base: Path
    """Base of the learning arm."""
    frozen: Path
    """Base of the arm without adaptation."""
    seed: int = 4
    fresh: bool = False
    """Start from the initial state, even if `output_folder` contains a saved state."""
    quick: bool = False
    ros: bool = True
    """Use ROS 2 where it is installed. False: one process, without a recording."""
    command: str = "wm-robot demo"
    read_facts: Callable[[], Mapping[str, str]] = dict
    """Versions and commit for the report; called at the end, so that the robots start at once."""

    @property
    def session_path(self) -> Path:
        return self.output_folder / "session.mcap"

    @property
    def state_path(self) -> Path:
        return self.output_folder / "state"

    @property
    def report_path(self) -> Path:
        return self.output_folder / "report.html"
