"""Demo output: report, film and closing messages, written from the recording."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from wm_robot.tasks import ErrorScale
from wm_robot.tasks.task_error import GRIPPER_SCALE
from wm_robot_demo import film
from wm_robot_demo.load_session import RobotTrack
from wm_robot_demo.options import DemoOptions
from wm_robot_demo.progress import DemoDisplay
from wm_robot_demo.scenario import DemoPlan
from wm_robot_sim.randomization import find_nominal
from wm_robot_sim.worlds import DRIVE_SPREAD, LOG_SPREADS, PAYLOAD_SPREAD, DomainRandomization, World

if TYPE_CHECKING:
    from wm_robot_demo.demo_run import DemoBases

PREDICTION_STEPS = 15
"""Prediction horizon in the figure of joint predictions, in steps."""
SECONDS_AROUND_CHANGE = (1.5, 3.0)
"""Seconds before and after the change in that figure."""
MIN_SHOWN_CHANGE = 0.1
"""Smallest shown change of a physics parameter, in standard deviations of its distribution."""
MAX_SHOWN_JOINTS = 12
"""Joints in the figure of predictions; those that changed come first."""
MAX_SHOWN_PARAMETERS = 6
"""Parameters in the figure of physics."""
PARAMETER_UNITS = {
    "payload": ("payload", "kg", PAYLOAD_SPREAD),
    "drive": ("strength", "%", 100 * DRIVE_SPREAD),
    "stiffness": ("stiffness", "%", 100 * DRIVE_SPREAD),
    "torque": ("force limit", "%", 1.0),
    "friction": ("dry friction", "%", 1.0),
    "damping": ("damping", "%", 1.0),
    "mass": ("mass", "%", 1.0),
}
"""Physics parameter that a demo may change → its name, its unit and the factor to it."""
UNITS_OF_KINDS = {"hinge": "angle, rad", "slide": "position, m"}
"""Kind of joints → label of their positions."""
MAX_LATE_SHARE = 0.1
"""Share of late steps above which the figures describe the machine more than the robots."""
QUICK_RENDER_TIMEOUT = 8.0
"""Time limit for the film of a quick demo, in s."""
VIDEO_TYPES = {".mp4": "video/mp4", ".gif": "image/gif"}
MAX_VIDEO_BYTES = 2_000_000


def write_output(
    options: DemoOptions,
    spec: RobotSpec,
    scale: ErrorScale,
    plan: DemoPlan,
    bases: "DemoBases",
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
        scale: Scale of the errors.
        initial_arrays: State of the learning robot at the start of the first session; None for the initial state.
        recordings: Recordings of the adaptive, the frozen, the restored and the fourth robot. The fourth starts
            from the initial state.
        is_complete: Whether the recording was closed in order.
        over_ros: Whether the robots ran in real time, over ROS 2.
    """
    adaptive, frozen, restored, newborn = recordings
    noun = scale.robot_noun
    saved = Store(options.state_path).read_manifest()
    report = Report(
        robot=spec.name,
        scale=scale,
        changed=plan.change.description,
        target_words=_describe_target(recordings, scale),
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
        foresight=_predict_joints(bases, spec, plan, adaptive, initial_arrays),
        belief=_estimate_physics(bases, spec, adaptive, initial_arrays),
        period=spec.dt,
        facts={
            "seed": str(options.seed),
            "robot": f"{spec.name}, spec {spec.compute_digest()}",
            "ran": "over ROS 2, in real time"
            if over_ros
            else "in one process without ROS 2, in simulated time",
            f"base of the learning {noun}s": f"{bases.learning}, {manifests[bases.learning]['digest']}",
            f"base of the frozen {noun}": f"{bases.frozen}, {manifests[bases.frozen]['digest']}",
            "state at the start": "initial state"
            if initial_arrays is None
            else f"{int(initial_arrays['step'].max())} steps lived",
            "state at the end": f"{saved.steps} steps lived, snapshot {saved.digest}",
            **options.read_facts(),
        },
        command=options.command,
        go_on=_list_next_steps(options, spec, over_ros=over_ros),
        notes=_collect_notes(recordings, noun, is_complete=is_complete) if over_ros else (),
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


def _describe_target(recordings: Sequence[RobotTrack], scale: ErrorScale) -> str:
    """Return what the film shows of the target."""
    noun = scale.robot_noun
    if scale.name == GRIPPER_SCALE.name:
        return f"Green is the target; both {noun}s received the same target."
    size = recordings[0].target.shape[-1]
    return (
        f"Both {noun}s received the same target."
        if size
        else f"Both {noun}s have the same task, without a goal."
    )


def _collect_notes(recordings: Sequence[RobotTrack], noun: str, *, is_complete: bool) -> tuple[str, ...]:
    """Return the conditions that limit the meaning of the figures."""
    notes = [] if is_complete else ["The recording is incomplete; the figures show its complete part."]
    worst = max(recordings, key=lambda told: told.late_share)
    if worst.late_share > MAX_LATE_SHARE:
        notes.append(
            f"This machine was too busy for four robots' processes: {100 * worst.late_share:.0f} % of the control "
            f"steps of the {worst.name} {noun} came late or not at all. Close other programs and run the demo again."
        )
    adaptive, frozen = recordings[:2]
    apart = abs((adaptive.change_time or 0.0) - (frozen.change_time or 0.0))
    if apart > WINDOW_SECONDS:
        notes.append(
            f"The two worlds changed {apart:.1f} s apart: this machine was too busy for both. The frozen "
            f"{noun}'s figures use the time of the other's change."
        )
    return tuple(notes)


def _predict_joints(
    bases: "DemoBases",
    spec: RobotSpec,
    plan: DemoPlan,
    recording: RobotTrack,
    initial_arrays: dict[str, np.ndarray] | None,
) -> JointPredictions | None:
    if recording.change_time is None or "position" not in spec.interfaces:
        return None
    span = _select_steps(recording, recording.change_time)
    places = spec.observation_names.index
    changed = [joint for joint in spec.joint_names if joint in plan.change.joints]
    shown = [*changed, *(joint for joint in spec.joint_names if joint not in changed)][:MAX_SHOWN_JOINTS]
    # In the order of the spec.
    joints = [joint for joint in spec.joint_names if joint in shown]
    positions = [places(f"{joint}/position") for joint in joints]
    kinds = {joint.kind for joint in spec.joints if joint.name in joints}
    expected = {}
    for name, path, state in (("adaptive", bases.learning, initial_arrays), ("frozen", bases.frozen, None)):
        seen = predict_observations(
            load_base(path).model,
            recording.obs,
            recording.applied,
            horizon=PREDICTION_STEPS,
            span=span,
            state=state,
            update_state=name == "adaptive",
        )
        expected[name] = seen[:, positions]
    return JointPredictions(
        horizon_seconds=PREDICTION_STEPS * spec.dt,
        joints=tuple(joints),
        changed_joints=plan.change.joints,
        change_word=plan.change.word,
        unit=UNITS_OF_KINDS[kinds.pop()] if len(kinds) == 1 else "position, rad or m",
        time=recording.time[slice(*span)],
        measured=recording.obs[slice(*span)][:, positions],
        predicted=expected,
    )


def _estimate_physics(
    bases: "DemoBases",
    spec: RobotSpec,
    recording: RobotTrack,
    initial_arrays: dict[str, np.ndarray] | None,
) -> PhysicsEstimate | None:
    if recording.change_time is None:
        return None
    model, names = load_base(bases.learning).model, DomainRandomization(spec).parameter_names
    if model.config.truth != len(names):
        # The base was trained with other physics parameters than this simulator has: no truth to compare.
        return None
    span = _select_steps(recording, recording.change_time)
    before, after = (World.from_dict(recording.worlds[name]).to_vector() for name in ("start", "change"))
    changed = np.flatnonzero(np.abs(after - before) > MIN_SHOWN_CHANGE)
    if not len(changed):
        return None
    # The clearest ones: a fault of one motor changes several.
    size = np.abs(after - before)[changed]
    changed = np.sort(changed[np.argsort(-size)[:MAX_SHOWN_PARAMETERS]])
    spreads = World.from_dict(recording.worlds["change"]).spreads
    shown = [convert_parameter(names[i], spreads) for i in changed]
    time = recording.time[slice(*span)]
    believed = estimate_physics(model, recording.obs, recording.applied, span=span, state=initial_arrays)
    truth = np.where((time < recording.change_time)[:, None], before[changed], after[changed])
    return PhysicsEstimate(
        names=tuple(label for label, _ in shown),
        time=time,
        estimated=np.stack(
            [convert(believed[:, i]) for i, (_, convert) in zip(changed, shown, strict=True)], 1
        ),
        truth=np.stack([convert(truth[:, i]) for i, (_, convert) in enumerate(shown)], 1),
    )


def convert_parameter(
    name: str, spreads: Mapping[str, float]
) -> tuple[str, Callable[[np.ndarray], np.ndarray]]:
    """Return the label of a parameter of `World.to_vector`, and the function that converts it to its unit.

    Args:
        spreads: Usual deviation of each parameter of `randomize:`.
    """
    if name in spreads:
        spread = spreads[name]
        if find_nominal(name) == 1:
            return f"{name}\nfactor", lambda values: np.exp(values * spread)
        return name, lambda values: values * spread
    joint, _, kind = name.rpartition("/")
    words, unit, scale = PARAMETER_UNITS.get(kind, (kind, "", 1.0))
    label = f"{words}, {unit}" if unit else words
    if kind in LOG_SPREADS:
        return f"{joint}\n{label}", lambda values: 100 * np.exp(values * LOG_SPREADS[kind])
    offset = 100.0 if kind in ("drive", "stiffness") else 0.0
    return f"{joint}\n{label}" if joint else label, lambda values: values * scale + offset


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
    # A robot whose positions are not sensed cannot be drawn from its recording.
    if "position" not in spec.interfaces:
        screen.write_message("No film: the robot does not sense the positions of its joints.")
        return None
    positions = [spec.observation_names.index(f"{joint}/position") for joint in spec.joint_names]
    has_point = outcome.scale.name == GRIPPER_SCALE.name
    scenes = [
        film.FilmTrack(
            name=told.name,
            time=told.time,
            joints=told.obs[:, positions],
            target=told.target[:, :3] if has_point else None,
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


def _list_next_steps(options: DemoOptions, spec: RobotSpec, *, over_ros: bool) -> tuple[tuple[str, str], ...]:
    again = ["wm-robot", "demo", *([options.robot] if options.robot != DemoOptions.robot else [])]
    again += ["--out", str(options.output_folder), *([] if options.ros else ["--no-ros"])]
    for option, value in (("--task", options.task), ("--base", options.base), ("--frozen", options.frozen)):
        again += [option, str(value)] if value else []
    demo, bench = shlex.join(again), "control" if spec.chain else "adaptation"
    played = (
        "Play the recording where ROS 2 is installed, or open it in Foxglove.",
        f"ros2 bag play {shlex.quote(str(options.session_path))}",
    )
    return (
        ("Continue this lifetime: the next run starts from the saved state.", demo),
        ("Run another hidden change.", f"{demo} --seed {options.seed + 1}"),
        (
            "Start from the initial state; the saved state is moved, not deleted.",
            f"{demo} --fresh",
        ),
        *((played,) if over_ros else ()),
        (
            "Evaluate hundreds of worlds instead of one.",
            shlex.join(["wm-robot", "bench", bench, "--robot", options.robot]),
        ),
    )
