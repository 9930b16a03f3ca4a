"""Demo output: report, film and closing messages, written from the recording."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from wm_robot.evaluation.open_loop import estimate_physics, predict_observations
from wm_robot.evaluation.outcome import SessionOutcome
from wm_robot.evaluation.recovery import WINDOW_SECONDS, compute_rolling_mean
from wm_robot.evaluation.report import (
    JointPredictions,
    PhysicsEstimate,
    Report,
    ReportedSession,
    Video,
    write_report,
)
from wm_robot.model.base import load_base
from wm_robot.spec import RobotSpec
from wm_robot.store.store import Store
from wm_robot_demo import film
from wm_robot_demo.load_session import RobotTrack
from wm_robot_demo.options import DemoOptions
from wm_robot_demo.progress import DemoDisplay
from wm_robot_demo.scenario import DemoPlan
from wm_robot_sim.worlds import DRIVE_SPREAD, PAYLOAD_SPREAD, DomainRandomization, World

PREDICTION_STEPS = 15
"""Prediction horizon in the figure of joint predictions, in steps."""
SECONDS_AROUND_CHANGE = (1.5, 3.0)
"""Seconds before and after the change in that figure."""
MIN_SHOWN_CHANGE = 0.1
"""Smallest shown change of a physics parameter, in standard deviations of its distribution."""
PHYSICS_UNITS = {
    "payload": ("payload, kg", PAYLOAD_SPREAD, 0.0),
    "drive": ("strength, %", 100 * DRIVE_SPREAD, 100.0),
    "stiffness": ("stiffness, %", 100 * DRIVE_SPREAD, 100.0),
}
"""Physics parameters that a demo changes: label, and factor and offset to their unit."""
SECOND_SESSION_STATISTICS = (
    "With base arm-ekf, over seeds 0 to 9, that ratio was 0.83 in the median, from 0.74 to 1.05. The surprise of a "
    "restored arm in its changed body is 1.7 times the usual one in the median, that of a newborn arm 190 times. "
    "But a newborn arm has learned a change like this before it is at its target."
)
"""Effect of a restored state, in simulated time: docs/lab/13-demo.md."""
MAX_LATE_SHARE = 0.1
"""Share of late steps above which the figures describe the machine more than the robots."""
QUICK_RENDER_TIMEOUT = 8.0
"""Time limit for the film of a quick demo, in s."""
VIDEO_TYPES = {".mp4": "video/mp4", ".gif": "image/gif"}
MAX_VIDEO_BYTES = 2_000_000


def write_output(
    options: DemoOptions,
    spec: RobotSpec,
    plan: DemoPlan,
    manifests: Mapping[Path, Mapping[str, Any]],
    initial_arrays: dict[str, np.ndarray] | None,
    recordings: Sequence[RobotTrack],
    screen: DemoDisplay,
    *,
    is_complete: bool,
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
    adaptive, frozen, restored, newborn = recordings
    saved = Store(options.state_path).read_manifest()
    report = Report(
        robot=spec.name,
        changed=plan.change.description,
        first=ReportedSession(
            runs=(
                adaptive.to_report_run(color=0, until=plan.first_duration),
                frozen.to_report_run(color=1, until=plan.first_duration),
            ),
            change_time=adaptive.change_time,
        ),
        second=ReportedSession(
            runs=(
                restored.to_report_run(color=0, until=plan.second_duration),
                newborn.to_report_run(color=2, until=plan.second_duration),
            ),
            start=0.0,
        ),
        foresight=_predict_joints(options, spec, plan, adaptive, initial_arrays),
        belief=_estimate_physics(options, spec, adaptive, initial_arrays),
        period=spec.dt,
        facts={
            "seed": str(options.seed),
            "robot": f"{spec.name}, spec {spec.compute_digest()}",
            "ran": "over ROS 2, in real time"
            if over_ros
            else "in one process without ROS 2, in simulated time",
            "base of the learning arms": f"{options.base}, {manifests[options.base]['digest']}",
            "base of the frozen arm": f"{options.frozen}, {manifests[options.frozen]['digest']}",
            "state at the start": "initial state"
            if initial_arrays is None
            else f"{int(initial_arrays['step'].max())} steps lived",
            "state at the end": f"{saved.steps} steps lived, snapshot {saved.digest}",
            **options.read_facts(),
        },
        command=options.command,
        go_on=_list_next_steps(options, over_ros=over_ros),
        notes=_collect_notes(recordings, is_complete=is_complete) if over_ros else (),
        second_visits=SECOND_SESSION_STATISTICS,
    )
    picture = _write_film(options, spec, report.outcome, (adaptive, frozen), screen)
    write_report(options.report_path, replace(report, video=_read_video(picture)))
    for words in (*report.notes, "", report.outcome.headline, *report.outcome.sentences):
        screen.write_message(words)
    left = [
        path
        for path in (options.report_path, options.session_path, options.state_path, picture)
        if path and path.exists()
    ]
    screen.write_message("\n".join(["", "Open the report in a browser:", *(f"  {path}" for path in left)]))


def _collect_notes(recordings: Sequence[RobotTrack], *, is_complete: bool) -> tuple[str, ...]:
    """Return the conditions that limit the meaning of the figures."""
    notes = [] if is_complete else ["The recording is incomplete; the figures show its complete part."]
    worst = max(recordings, key=lambda told: told.late_share)
    if worst.late_share > MAX_LATE_SHARE:
        notes.append(
            f"This machine was too busy for four robots' processes: {100 * worst.late_share:.0f} % of the control "
            f"steps of the {worst.name} arm came late or not at all. Close other programs and run the demo again."
        )
    adaptive, frozen = recordings[:2]
    apart = abs((adaptive.change_time or 0.0) - (frozen.change_time or 0.0))
    if apart > WINDOW_SECONDS:
        notes.append(
            f"The two worlds changed {apart:.1f} s apart: this machine was too busy for both. The frozen arm's "
            "figures use the time of the other's change."
        )
    return tuple(notes)


def _predict_joints(
    options: DemoOptions,
    spec: RobotSpec,
    plan: DemoPlan,
    recording: RobotTrack,
    initial_arrays: dict[str, np.ndarray] | None,
) -> JointPredictions | None:
    if recording.change_time is None:
        return None
    span = _select_steps(recording, recording.change_time)
    joints = len(spec.joints)
    expected = {}
    for name, path, state in (("adaptive", options.base, initial_arrays), ("frozen", options.frozen, None)):
        seen = predict_observations(
            load_base(path).model,
            recording.obs,
            recording.applied,
            horizon=PREDICTION_STEPS,
            span=span,
            state=state,
            update_state=name == "adaptive",
        )
        expected[name] = seen[:, :joints]
    return JointPredictions(
        horizon_seconds=PREDICTION_STEPS * spec.dt,
        joints=spec.joint_names,
        changed_joints=(plan.change.joint,),
        time=recording.time[slice(*span)],
        measured=recording.obs[slice(*span), :joints],
        predicted=expected,
    )


def _estimate_physics(
    options: DemoOptions,
    spec: RobotSpec,
    recording: RobotTrack,
    initial_arrays: dict[str, np.ndarray] | None,
) -> PhysicsEstimate | None:
    if recording.change_time is None:
        return None
    model, names = load_base(options.base).model, DomainRandomization(spec).parameter_names
    if model.config.truth != len(names):
        # The base was trained with other physics parameters than this simulator has: no truth to compare.
        return None
    span = _select_steps(recording, recording.change_time)
    before, after = (World.from_dict(recording.worlds[name]).to_vector() for name in ("start", "change"))
    changed = np.flatnonzero(np.abs(after - before) > MIN_SHOWN_CHANGE)
    if not len(changed):
        return None
    labels, factor, offset = zip(*(_convert_unit(names[i]) for i in changed), strict=True)
    time = recording.time[slice(*span)]
    believed = estimate_physics(model, recording.obs, recording.applied, span=span, state=initial_arrays)
    truth = np.where((time < recording.change_time)[:, None], before[changed], after[changed])
    return PhysicsEstimate(
        names=labels,
        time=time,
        estimated=believed[:, changed] * factor + offset,
        truth=truth * factor + offset,
    )


def _convert_unit(name: str) -> tuple[str, float, float]:
    """Return the label of a physics parameter, and the factor and the offset to its unit."""
    joint, _, kind = name.rpartition("/")
    label, factor, offset = PHYSICS_UNITS[kind]
    return f"{joint}\n{label}" if joint else label, factor, offset


def _select_steps(recording: RobotTrack, change: float) -> tuple[int, int]:
    """Return the range of steps around the change."""
    inside = np.flatnonzero(
        (recording.time >= change - SECONDS_AROUND_CHANGE[0])
        & (recording.time <= change + SECONDS_AROUND_CHANGE[1])
    )
    return int(inside[0]), int(inside[-1]) + 1


def _write_film(
    options: DemoOptions,
    spec: RobotSpec,
    outcome: SessionOutcome,
    recordings: tuple[RobotTrack, ...],
    screen: DemoDisplay,
) -> Path | None:
    if outcome.change_time is None:
        return None
    scenes = [
        film.FilmTrack(
            name=told.name,
            time=told.time,
            joints=told.obs[:, : len(spec.joints)],
            target=told.target,
            error=compute_rolling_mean(told.time, told.error),
            payload=told.compute_payload(),
        )
        for told in recordings
    ]
    try:
        picture = film.render_film(
            options.output_folder,
            spec,
            scenes,
            outcome=outcome,
            timeout=QUICK_RENDER_TIMEOUT if options.quick else film.RENDER_TIMEOUT,
        )
    # The film is optional: an error of a driver or an encoder does not fail the demo.
    except Exception as error:
        screen.write_message(f"No film: {type(error).__name__}: {error}")
        return None
    if picture is None:
        screen.write_message("No film: this machine cannot render. Install EGL or OSMesa to get one.")
    return picture


def _read_video(picture: Path | None) -> Video | None:
    if picture is None or picture.stat().st_size > MAX_VIDEO_BYTES:
        return None
    return Video(content=picture.read_bytes(), kind=VIDEO_TYPES[picture.suffix])


def _list_next_steps(options: DemoOptions, *, over_ros: bool) -> tuple[tuple[str, str], ...]:
    out = f" --out {shlex.quote(str(options.output_folder))}" + ("" if options.ros else " --no-ros")
    played = (
        "Play the recording where ROS 2 is installed, or open it in Foxglove.",
        f"ros2 bag play {shlex.quote(str(options.session_path))}",
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
