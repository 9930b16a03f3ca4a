"""Scenario: one episode of a validation as plain values, so that it can be stored and run again."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from wm_robot.errors import SnapshotError, SpecError
from wm_robot.io.durable import write_file
from wm_robot.io.strict_json import parse_json

FORMAT = 1
CASE_SUFFIX = ".case.json"
Motion = Literal["task", "random"]
InputFaultKind = Literal["noise", "bias", "freeze", "spikes", "loss", "latency", "jitter"]
LOST_KINDS = ("loss",)
"""Kinds that take whole observations."""


@dataclass(frozen=True, kw_only=True)
class InputFault:
    """Fault between the sensors and the agent; the plant itself is unchanged."""

    kind: InputFaultKind
    """`noise`: deviation `size` in units of the channel's limit; `bias`: a constant of that unit; `freeze`: the
    reading of `first_step` is held; `spikes`: a random reading in a share `size` of steps; `loss`: a share `size` of
    observations is missing; `latency`: readings are `size` steps old; `jitter`: 0 to `size` steps, at random."""
    size: float
    channels: tuple[int, ...] = ()
    """Channels of the observation; empty: all."""
    first_step: int = 0
    last_step: int = 2**31 - 1

    def __post_init__(self) -> None:
        if self.kind not in get_args(InputFaultKind):
            raise SpecError(
                f"input fault is {self.kind!r}; it must be one of {sorted(get_args(InputFaultKind))}"
            )

    def is_active(self, step: int) -> bool:
        """Whether it is active at a step."""
        return self.first_step <= step < self.last_step


@dataclass(frozen=True, kw_only=True)
class WorldChange:
    """Hidden change of the plant."""

    step: int
    world: Mapping[str, Any]
    """World in the form of the simulator."""
    label: str
    """Name of the world, for people."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Episode of one robot: where it starts, what changes, and what the agent may use."""

    check: str
    """Check of the battery that it belongs to."""
    name: str
    """Its name in that check."""
    robot: str
    task: str
    seed: int
    """Of noise, goals and random motion."""
    num_steps: int
    changes: tuple[WorldChange, ...]
    """The first is at step 0."""
    motion: Motion = "task"
    """`task`: the agent plans towards goals. `random`: it watches random motion, and only predicts."""
    input_faults: tuple[InputFault, ...] = ()
    standin: str = ""
    """Stand-in of the plant, as NAME or NAME:SEED; empty: the nominal model."""
    start: Literal["given", "initial"] = "given"
    """Lifetime state at the start: that under validation, or the initial state of its base."""
    learning: bool = True
    """False: the state is read and never updated."""

    @property
    def label(self) -> str:
        """Name with its check."""
        return f"{self.check}/{self.name}" if self.name else self.check

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Scenario":
        """Build a scenario from the result of `to_dict`.

        Raises:
            SpecError: If a key is unknown or missing, or a value is invalid.
        """
        try:
            known = dict(values)
            known["changes"] = tuple(WorldChange(**each) for each in known["changes"])
            known["input_faults"] = tuple(
                InputFault(**{**each, "channels": tuple(each.get("channels", ()))})
                for each in known.get("input_faults", ())
            )
            return cls(**known)
        except (TypeError, KeyError) as error:
            names = [each.name for each in fields(cls)]
            raise SpecError(f"a scenario is not valid: {error}; it has the fields {names}") from error


@dataclass(frozen=True, kw_only=True)
class Case:
    """Case: a scenario that failed, with what was measured and what it was judged by."""

    scenario: Scenario
    figures: Mapping[str, float]
    reasons: tuple[str, ...]
    """Why it failed, each a sentence."""
    origin: Mapping[str, str] = field(default_factory=dict)
    """Digests of base, state, spec and battery it failed with."""

    def save(self, folder: Path) -> Path:
        """Write the case to a file in a folder, and return its path."""
        name = self.scenario.label.replace("/", "-").replace(":", "-").replace(" ", "-")
        path = folder / f"{name}{CASE_SUFFIX}"
        values = {
            "format": FORMAT,
            "kind": "case",
            "scenario": self.scenario.to_dict(),
            "figures": dict(self.figures),
            "reasons": list(self.reasons),
            "origin": dict(self.origin),
        }
        write_file(path, json.dumps(values, indent=1, allow_nan=False).encode())
        return path

    @classmethod
    def load(cls, path: Path) -> "Case":
        """Read a case.

        Raises:
            SnapshotError: If the file is no case, or of another format.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise SnapshotError(f"case {path} cannot be read: {error}") from error
        values = parse_json(content, str(path))
        if not isinstance(values, dict) or values.get("kind") != "case":
            raise SnapshotError(f"{path} is no case of a validation; those end in {CASE_SUFFIX}")
        if values.get("format") != FORMAT:
            raise SnapshotError(f"{path} has format {values.get('format')!r}, this version reads {FORMAT}")
        try:
            return cls(
                scenario=Scenario.from_dict(values["scenario"]),
                figures=values["figures"],
                reasons=tuple(values["reasons"]),
                origin=values["origin"],
            )
        except (SpecError, KeyError, TypeError) as error:
            raise SnapshotError(f"{path} is no valid case: {error}") from error
