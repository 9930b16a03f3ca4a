"""What a demo is asked to do, and where it leaves what."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a demo is asked to do."""

    out: Path
    """Folder for all that it leaves."""
    base: Path
    """Base of the arm that learns."""
    frozen: Path
    """Base of the arm that knows only by weights."""
    seed: int = 4
    fresh: bool = False
    """Begin at birth, even where `out` holds a state to go on from."""
    quick: bool = False
    ros: bool = True
    """Over ROS 2 where it is installed; False: in one process, without a recording."""
    command: str = "wm-robot demo"
    facts: Callable[[], Mapping[str, str]] = dict
    """Versions and commit, for the report; asked at the end, since the robots should move at once."""

    @property
    def session(self) -> Path:
        return self.out / "session.mcap"

    @property
    def state(self) -> Path:
        return self.out / "state"

    @property
    def report(self) -> Path:
        return self.out / "report.html"
