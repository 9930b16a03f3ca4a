"""Demo output: report, film and closing messages, written from the recording."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from wm_robot.evaluation.open_loop import believe, foresee
from wm_robot.evaluation.outcome import Outcome
from wm_robot.evaluation.recovery import WINDOW, rolling_mean
from wm_robot.evaluation.report import Belief, Foresight, Report, Video, Visit, write_report
from wm_robot.model.base import load_base
from wm_robot.spec import RobotSpec
from wm_robot.store.store import Store
from wm_robot_demo import film
from wm_robot_demo.load_session import Tale
from wm_robot_demo.options import Options
from wm_robot_demo.progress import Screen
from wm_robot_demo.scenario import Plan
from wm_robot_sim.worlds import DRIVE_SPREAD, PAYLOAD_SPREAD, World, WorldDistribution

AHEAD = 15
"""Prediction horizon in the figure of joint predictions, in steps."""
AROUND = (1.5, 3.0)
"""Seconds before and after the change in that figure."""
NOTABLE = 0.1
"""Smallest shown change of a physics parameter, in standard deviations of its distribution."""
UNITS = {
    "payload": ("payload, kg", PAYLOAD_SPREAD, 0.0),
    "drive": ("strength, %", 100 * DRIVE_SPREAD, 100.0),
    "stiffness": ("stiffness, %", 100 * DRIVE_SPREAD, 100.0),
}
"""Physics parameters that a demo changes: label, and factor and offset to their unit."""
SECOND_VISITS = (
    "With base arm-ekf, over seeds 0 to 9, that ratio was 0.83 in the median, from 0.74 to 1.05. The surprise of a "
    "restored arm in its changed body is 1.7 times the usual one in the median, that of a newborn arm 190 times. "
    "But a newborn arm has learned a change like this before it is at its target."
)
"""Effect of a restored state, in simulated time: docs/lab/13-demo.md."""
TOO_LATE = 0.1
"""Share of late steps above which the figures describe the machine more than the robots."""
QUICK_PATIENCE = 8.0
"""Time limit for the film of a quick demo, in s."""
KINDS = {".mp4": "video/mp4", ".gif": "image/gif"}
LARGEST_VIDEO = 2_000_000


def write_account(
    options: Options,
    spec: RobotSpec,
    plan: Plan,
    manifests: Mapping[Path, Mapping[str, Any]],
    began_with: dict[str, np.ndarray] | None,
    tales: Sequence[Tale],
    screen: Screen,
    *,
    whole: bool,
    over_ros: bool,
) -> None:
    """Write `report.html`, a film if this machine can render, and the closing messages.

    Args:
        initial_arrays: State of the learning arm at the start of the first session; None for the initial state.
        recordings: Recordings of the adaptive, the frozen, the restored and the fourth arm. The fourth starts
            from the initial state.
        is_complete: Whether the recording was closed in order.
        over_ros: Whether the robots ran in real time, over ROS 2.
    """
    adaptive, frozen, restored, newborn = tales
    saved = Store(options.state).show()
    report = Report(
        robot=spec.name,
        changed=plan.change.words,
        first=Visit(
            runs=(adaptive.run(color=0, until=plan.first), frozen.run(color=1, until=plan.first)),
            change=adaptive.change,
        ),
        second=Visit(
            runs=(restored.run(color=0, until=plan.second), newborn.run(color=2, until=plan.second)),
            start=0.0,
        ),
        foresight=_foresight(options, spec, plan, adaptive, began_with),
        belief=_belief(options, spec, adaptive, began_with),
        period=spec.dt,
        facts={
            "seed": str(options.seed),
            "robot": f"{spec.name}, spec {spec.digest()}",
            "ran": "over ROS 2, in real time"
            if over_ros
            else "in one process without ROS 2, in simulated time",
            "base of the learning arms": f"{options.base}, {manifests[options.base]['digest']}",
            "base of the frozen arm": f"{options.frozen}, {manifests[options.frozen]['digest']}",
            "state at the start": "initial state"
            if began_with is None
            else f"{int(began_with['step'].max())} steps lived",
            "state at the end": f"{saved.steps} steps lived, snapshot {saved.digest}",
            **options.facts(),
        },
        command=options.command,
        go_on=_go_on(options, over_ros=over_ros),
        notes=_notes(tales, whole=whole) if over_ros else (),
        second_visits=SECOND_VISITS,
    )
    picture = _film(options, spec, report.outcome, (adaptive, frozen), screen)
    write_report(options.report, replace(report, video=_video(picture)))
    for words in (*report.notes, "", report.outcome.headline, *report.outcome.story):
        screen.say(words)
    left = [
        path for path in (options.report, options.session, options.state, picture) if path and path.exists()
    ]
    screen.say("\n".join(["", "Open the report in a browser:", *(f"  {path}" for path in left)]))


def _notes(tales: Sequence[Tale], *, whole: bool) -> tuple[str, ...]:
    """Return the conditions that limit the meaning of the figures."""
    notes = [] if whole else ["The recording is incomplete; the figures show its complete part."]
    worst = max(tales, key=lambda told: told.late)
    if worst.late > TOO_LATE:
        notes.append(
            f"This machine was too busy for four robots' processes: {100 * worst.late:.0f} % of the control steps "
            f"of the {worst.name} arm came late or not at all. Close other programs and run the demo again."
        )
    adaptive, frozen = tales[:2]
    apart = abs((adaptive.change or 0.0) - (frozen.change or 0.0))
    if apart > WINDOW:
        notes.append(
            f"The two worlds changed {apart:.1f} s apart: this machine was too busy for both. The frozen arm's "
            "figures use the time of the other's change."
        )
    return tuple(notes)


def _foresight(
    options: Options, spec: RobotSpec, plan: Plan, told: Tale, began_with: dict[str, np.ndarray] | None
) -> Foresight | None:
    if told.change is None:
        return None
    span = _around(told, told.change)
    joints = len(spec.joints)
    expected = {}
    for name, path, state in (("adaptive", options.base, began_with), ("frozen", options.frozen, None)):
        seen = foresee(
            load_base(path).model,
            told.obs,
            told.applied,
            horizon=AHEAD,
            span=span,
            state=state,
            learning=name == "adaptive",
        )
        expected[name] = seen[:, :joints]
    return Foresight(
        ahead=AHEAD * spec.dt,
        joints=spec.joint_names,
        changed=(plan.change.joint,),
        time=told.time[slice(*span)],
        measured=told.obs[slice(*span), :joints],
        expected=expected,
    )


def _belief(
    options: Options, spec: RobotSpec, told: Tale, began_with: dict[str, np.ndarray] | None
) -> Belief | None:
    if told.change is None:
        return None
    model, names = load_base(options.base).model, WorldDistribution(spec).names
    if model.config.truth != len(names):
        # The base was trained with other physics parameters than this simulator has: no truth to compare.
        return None
    span = _around(told, told.change)
    before, after = (World.from_dict(told.worlds[name]).vector() for name in ("start", "change"))
    changed = np.flatnonzero(np.abs(after - before) > NOTABLE)
    if not len(changed):
        return None
    labels, factor, offset = zip(*(_in_unit(names[i]) for i in changed), strict=True)
    time = told.time[slice(*span)]
    believed = believe(model, told.obs, told.applied, span=span, state=began_with)
    truth = np.where((time < told.change)[:, None], before[changed], after[changed])
    return Belief(
        names=labels,
        time=time,
        believed=believed[:, changed] * factor + offset,
        truth=truth * factor + offset,
    )


def _in_unit(name: str) -> tuple[str, float, float]:
    """Return the label of a physics parameter, and the factor and the offset to its unit."""
    joint, _, kind = name.rpartition("/")
    label, factor, offset = UNITS[kind]
    return f"{joint}\n{label}" if joint else label, factor, offset


def _around(told: Tale, change: float) -> tuple[int, int]:
    """Return the range of steps around the change."""
    inside = np.flatnonzero((told.time >= change - AROUND[0]) & (told.time <= change + AROUND[1]))
    return int(inside[0]), int(inside[-1]) + 1


def _film(
    options: Options, spec: RobotSpec, outcome: Outcome, tales: tuple[Tale, ...], screen: Screen
) -> Path | None:
    if outcome.change is None:
        return None
    scenes = [
        film.Scene(
            name=told.name,
            time=told.time,
            joints=told.obs[:, : len(spec.joints)],
            target=told.target,
            error=rolling_mean(told.time, told.error),
            payload=told.payload(),
        )
        for told in tales
    ]
    try:
        picture = film.shoot(
            options.out,
            spec,
            scenes,
            outcome=outcome,
            patience=QUICK_PATIENCE if options.quick else film.PATIENCE,
        )
    # The film is optional: an error of a driver or an encoder does not fail the demo.
    except Exception as error:
        screen.say(f"No film: {type(error).__name__}: {error}")
        return None
    if picture is None:
        screen.say("No film: this machine cannot render. Install EGL or OSMesa to get one.")
    return picture


def _video(picture: Path | None) -> Video | None:
    if picture is None or picture.stat().st_size > LARGEST_VIDEO:
        return None
    return Video(content=picture.read_bytes(), kind=KINDS[picture.suffix])


def _go_on(options: Options, *, over_ros: bool) -> tuple[tuple[str, str], ...]:
    out = f" --out {shlex.quote(str(options.out))}" + ("" if options.ros else " --no-ros")
    played = (
        "Play the recording where ROS 2 is installed, or open it in Foxglove.",
        f"ros2 bag play {shlex.quote(str(options.session))}",
    )
    return (
        ("Continue this lifetime: the next run starts from the saved state.", f"wm-robot demo{out}"),
        ("Run another hidden change.", f"wm-robot demo{out} --seed {options.seed + 1}"),
        (
            "Start from the initial state; the saved state is moved, not deleted.",
            f"wm-robot demo{out} --fresh",
        ),
        *((played,) if over_ros else ()),
        ("Evaluate hundreds of worlds instead of one.", "wm-robot bench control --robot arm"),
    )
