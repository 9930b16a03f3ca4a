"""Strengths of effects: set once for each robot, by how much an effect harms a model with frozen weights."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("strengths.json")


def load_strengths(robot: str) -> Mapping[str, float]:
    """Return the strength of each kind of effect that was set for a robot; empty for a robot without any."""
    found: Mapping[str, float] = _read_file().get(robot, {})
    return found


@cache
def _read_file() -> Mapping[str, Mapping[str, float]]:
    content: Mapping[str, Mapping[str, float]] = json.loads(FILE.read_text(encoding="utf-8"))
    return content
