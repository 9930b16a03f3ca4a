"""Tip choice: the gripper point of a model, by its name or at the end of the longest chain."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from wm_robot.errors import SpecError
from wm_robot.robots.robot_model import Chain, RobotModel
from wm_robot_sim.inference_notes import Notes

TIP_PATTERNS = (
    r"grip|pinch",
    r"(?<![a-z])(tcp|eef?)(?![a-z])|end_?eff",
    r"attachment|(?<![a-z])tool",
    r"(?<![a-z])(hand|palm|flange)(?![a-z])",
    r"(?<![a-z])tip(?![a-z])|fingertip",
)
"""Names of a tip, the most certain first."""


def choose_tip(
    described: RobotModel, limits: Mapping[str, Any], wanted: str, path: Path, notes: Notes
) -> str:
    """Return the name of the tip; empty if nothing named is moved by a joint of the robot."""
    points = {site.name: site.body for site in reversed(described.sites)}
    points |= {body.name: body.name for body in described.bodies if body.name not in points}
    lengths = {name: len(_read_chain(described, limits, name).links) for name in points}
    if wanted:
        if wanted not in points:
            close = get_close_matches(wanted, points, n=1)
            guess = f"Did you mean '{close[0]}'? " if close else ""
            raise SpecError(f"--tip is '{wanted}'; {guess}{path} has the sites and bodies {sorted(points)}")
        if not lengths[wanted]:
            moved = sorted(name for name, length in lengths.items() if length)
            raise SpecError(
                f"--tip is '{wanted}', which no joint of the robot moves; it must be one of {moved}"
            )
        notes.inferred.append(f"tip '{wanted}', as given")
        return wanted
    # A name in brackets stands for one that the model lacks.
    moved = [name for name in points if lengths[name] and not name.startswith("(")]
    if not moved:
        notes.to_check.append(
            "there is no tip: no named site or body is moved by a joint. Tasks in space need one"
        )
        return ""
    for pattern in TIP_PATTERNS:
        named = [name for name in moved if re.search(pattern, name.lower())]
        if named:
            best = max(named, key=lambda name: lengths[name])
            notes.inferred.append(
                f"tip '{best}', by its name, {lengths[best]} joints from the base; for another point: --tip"
            )
            return best
    best = max(moved, key=lambda name: (lengths[name], name == points[name]))
    others = [name for name in moved if lengths[name] == lengths[best] and name != best]
    notes.assumed.append(
        f"tip '{best}', the end of the longest chain ({lengths[best]} joints)"
        + (f"; as long are the chains to {', '.join(map(repr, others[:4]))}" if others else "")
        + ". No site or body is named as a gripper; for another point: --tip"
    )
    return best


def _read_chain(described: RobotModel, joints: Mapping[str, Any], point: str) -> Chain:
    return described.read_chain(list(joints), *described.find_point(point))
