"""Demo options: settings of a demo and the paths of its output files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """Settings of a demo."""

    output_folder: Path
    """Output folder."""
    robot: str = "arm"
    """Name of a robot that ships, or path of its spec."""
    task: str = ""
    """Task of its spec; empty: the first one."""
    base: Path | None = None
    """Base of the learning robot; None: `bases/ROBOT-semiparametric`."""
    frozen: Path | None = None
    """Base of the robot without adaptation; None: `ROBOT-robust` beside the other base or in `bases`."""
    seed: int = 4
    fresh: bool = False
    """Start from the initial state, even if `output_folder` contains a saved state."""
    quick: bool = False
    ros: bool = True
    """Use ROS 2 where it is installed. False: one process, without a recording."""
    command: str = "wm-robot demo"
    read_facts: Callable[[], Mapping[str, str]] = dict
    """Versions and commit for the report; called at the end, so that the robots start at once."""
    describe_training_time: Callable[[], str] = str
    """Returns in words how long the training of the robot's bases takes, such as `about 90 minutes`; called if there
    is none."""

    @property
    def session_path(self) -> Path:
        return self.output_folder / "session.mcap"

    @property
    def state_path(self) -> Path:
        return self.output_folder / "state"

    @property
    def report_path(self) -> Path:
        return self.output_folder / "report.html"
