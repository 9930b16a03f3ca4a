"""Films of the worst episodes of a validation: the episodes run again, with target and predicted path drawn in."""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wm_robot.evaluation.report.contents import Video
from wm_robot.evaluation.validation.episode import EpisodeResult
from wm_robot.evaluation.validation.report.contents import EpisodeTrack
from wm_robot.evaluation.validation.scenario import Scenario
from wm_robot.tasks import TaskError
from wm_robot.tasks.channels import compute_gripper_position
from wm_robot.tasks.task_error import GRIPPER_SCALE
from wm_robot_cli.validation.runner import ValidationTarget, run_scenario

if TYPE_CHECKING:
    from wm_robot.spec import RobotSpec
    from wm_robot_sim.camera import Camera, Line

WIDTH, HEIGHT, FOOTER = 448, 400, 40
"""Size of the robot's image and of the strip below it, in pixels."""
FRAMES_PER_SECOND, MIN_FRAMES_PER_SECOND = 12.5, 5.0
MAX_RENDER_SECONDS = 6.0
"""Approximate time limit for the frames of one film; a slow machine leaves frames out, down to the least rate."""
PREDICTED_COLOR, FOLLOWED_COLOR = (1.0, 0.45, 0.0, 1.0), (0.1, 0.35, 1.0, 0.35)
WIDE_RADIUS = 0.01
"""Radius of the path that followed, in m: wide, so that the predicted one is seen inside it; and of its end."""
INK_RGB, PAPER_RGB, FAINT_RGB, BAR_RGB = (27, 29, 33), (252, 252, 250), (217, 218, 213), (194, 80, 10)
FULL_BAR = 10.0
"""Error of a full bar, in tolerances."""
VIDEO_TYPES = {".mp4": "video/mp4", ".gif": "image/gif"}


@dataclass(frozen=True, kw_only=True)
class FilmedEpisode:
    """Filmed episode: its curves, and its film if this machine can render."""

    track: EpisodeTrack
    video: Video | None = None


class FilmMaker:
    """Film maker of one target. It runs episodes again; agents and camera are kept until it is closed."""

    def __init__(self, target: ValidationTarget):
        """Opens a camera; without one there is one warning, and episodes have no film."""
        self._target, self._spec = target, target.load_spec()
        self._agents: dict[bool, Any] = {}
        self._change_std = target.read_change_std()
        self.notes: list[str] = []
        self._camera = self._open_camera()

    def _open_camera(self) -> "Camera | None":
        from wm_robot_sim.camera import open_camera

        # Drivers and models with missing meshes raise any kind of exception; a validation goes on without films.
        try:
            # The free camera keeps all that a tip can reach in view.
            camera = open_camera(self._spec, width=WIDTH, height=HEIGHT, view=-1 if self.has_tip else 0)
        except Exception as failure:
            self.notes.append(f"No films: {type(failure).__name__}: {failure}. Curves stand in for them.")
            return None
        if camera is None:
            self.notes.append(
                "This machine cannot render, so curves stand in for the films. Install EGL or OSMesa."
            )
        return camera

    @property
    def has_tip(self) -> bool:
        """Whether the path of a tip can be computed: the robot has a chain and a fixed base."""
        return bool(self._spec.chain) and self._spec.base is None and "position" in self._spec.interfaces

    def film_episode(self, scenario: Scenario) -> FilmedEpisode:
        """Run an episode again, and film it."""
        result = run_scenario(self._agents, self._target, scenario, self._change_std, with_trace=True)
        error = TaskError(self._spec, self._spec.find_task(scenario.task))
        track = _build_track(self._spec, scenario, result.trace, error.tolerance)
        return FilmedEpisode(track=track, video=self._render(scenario, result, track, error))

    def _render(
        self, scenario: Scenario, result: EpisodeResult, track: EpisodeTrack, error: TaskError
    ) -> Video | None:
        if self._camera is None:
            return None
        from wm_robot_sim.video_encoder import encode_video

        drawer = _FrameDrawer(
            self._camera,
            self._spec,
            scenario,
            result.trace,
            track,
            has_point=error.scale.name == GRIPPER_SCALE.name,
            has_tip=self.has_tip,
        )
        # The film is optional: an error of a driver or an encoder does not fail a validation.
        try:
            steps, rate = _choose_steps(drawer, scenario.num_steps, self._spec.rate)
            with tempfile.TemporaryDirectory() as folder:
                path = encode_video(Path(folder), _draw_frames(drawer, steps), rate)
                return Video(content=path.read_bytes(), kind=VIDEO_TYPES[path.suffix])
        except Exception as failure:
            self.notes.append(f"No film of {scenario.label}: {type(failure).__name__}: {failure}.")
            return None

    def close(self) -> None:
        """Release the camera."""
        if self._camera is not None:
            self._camera.close()


def _build_track(
    spec: "RobotSpec", scenario: Scenario, trace: Mapping[str, np.ndarray], tolerance: float
) -> EpisodeTrack:
    joints = spec.joint_names if "position" in spec.interfaces else ()
    channels = [spec.observation_names.index(f"{joint}/position") for joint in joints]
    predicted: dict[str, Any] = {}
    if "plan" in trace:
        horizon = trace["plan"].shape[1]
        inside = trace["plan_step"] + horizon <= scenario.num_steps
        predicted = {
            "predicted_time": (trace["plan_step"][inside] + horizon) * spec.dt,
            "predicted": trace["plan"][inside, -1][:, channels],
            "horizon_seconds": horizon * spec.dt,
        }
    return EpisodeTrack(
        time=np.arange(1, len(trace["error"]) + 1) * spec.dt,
        error=trace["error"] / tolerance,
        changes=_list_changes(scenario, spec.dt),
        joints=tuple(joints),
        positions=trace["obs"][:, channels],
        **predicted,
    )


def _list_changes(scenario: Scenario, dt: float) -> tuple[tuple[float, str], ...]:
    """List what changes in mid-episode: worlds, and faults of the input."""
    found = [
        # The worlds of some checks have numbers for names.
        (each.step * dt, f"world {each.label}" if each.label.isdigit() else each.label)
        for each in scenario.changes
        if each.step
    ]
    found += [(each.first_step * dt, each.kind) for each in scenario.input_faults if each.first_step]
    return tuple(sorted(dict(reversed(found)).items()))


def _choose_steps(drawer: "_FrameDrawer", num_steps: int, rate: float) -> tuple[range, float]:
    """Choose the steps of the frames by the time that a frame takes here, and the frames per second."""
    interval = max(1, round(rate / FRAMES_PER_SECOND))
    # The first frame prepares the driver, too.
    drawer.draw(0)
    began = time.perf_counter()
    drawer.draw(num_steps // 2)
    seconds = (time.perf_counter() - began) * num_steps / interval
    slower = interval * max(1, int(np.ceil(seconds / MAX_RENDER_SECONDS)))
    interval = max(interval, min(slower, round(rate / MIN_FRAMES_PER_SECOND)))
    return range(0, num_steps, interval), rate / interval


def _draw_frames(drawer: "_FrameDrawer", steps: Sequence[int]) -> Iterator[np.ndarray]:
    for step in steps:
        yield drawer.draw(step)


class _FrameDrawer:
    """Frame drawer of an episode: robot, target, predicted and followed path, and the error as a bar."""

    def __init__(
        self,
        camera: "Camera",
        spec: "RobotSpec",
        scenario: Scenario,
        trace: Mapping[str, np.ndarray],
        track: EpisodeTrack,
        *,
        has_point: bool,
        has_tip: bool,
    ):
        from PIL import ImageFont

        self._camera, self._trace, self._track, self._has_point = camera, trace, track, has_point
        self._positions = self._convert_positions(spec)
        self._payloads = [(each.step, float(each.world.get("payload") or 0.0)) for each in scenario.changes]
        self._tip = compute_gripper_position(spec, trace["obs"]) if has_tip else None
        self._paths = compute_gripper_position(spec, trace["plan"]) if has_tip and "plan" in trace else None
        self._font = ImageFont.load_default(size=15)

    def _convert_positions(self, spec: "RobotSpec") -> np.ndarray:
        """Return positions of the camera's model; a changed world may have joints that it lacks."""
        qpos, model = self._trace["qpos"], self._camera.model
        if qpos.shape[1] == model.nq:
            return qpos
        shown = np.repeat(model.qpos0[None], len(qpos), 0)
        shown[:, [int(model.joint(name).qposadr[0]) for name in self._track.joints]] = self._track.positions
        return shown

    def draw(self, step: int) -> np.ndarray:
        """Draw the frame after a step, `H W 3`, uint8, with even sides for encoders."""
        from PIL import Image, ImageDraw

        goal = self._trace["goal"][step]
        picture = self._camera.render(
            self._positions[step],
            target=goal[:3] if self._has_point else None,
            payload=[mass for start, mass in self._payloads if start <= step][-1],
            lines=self._make_lines(step),
        )
        page = Image.new("RGB", (WIDTH, HEIGHT + FOOTER), PAPER_RGB)
        page.paste(Image.fromarray(picture), (0, 0))
        pen = ImageDraw.Draw(page)
        time, error = self._track.time[step], float(self._track.error[step])
        changed = [what for start, what in self._track.changes if start <= time]
        caption = f"{time:.1f} s  {changed[-1] if changed else 'before the change'}"
        if not self._track.changes:
            caption = f"{time:.1f} s"
        pen.text((12, HEIGHT + 4), caption, INK_RGB, self._font)
        pen.text((WIDTH - 12, HEIGHT + 4), f"{error:.1f} tolerances", INK_RGB, self._font, anchor="ra")
        full = WIDTH - 24
        filled = round(full * min(np.nan_to_num(error, nan=FULL_BAR) / FULL_BAR, 1.0))
        pen.rectangle([12, HEIGHT + 27, 12 + full, HEIGHT + 34], FAINT_RGB)
        pen.rectangle([12, HEIGHT + 27, 12 + filled, HEIGHT + 34], BAR_RGB)
        return np.asarray(page)

    def _make_lines(self, step: int) -> list["Line"]:
        """Make the path that was predicted from about this step on, and the one that followed."""
        from wm_robot_sim.camera import Line

        if self._tip is None or self._paths is None:
            return []
        number = int(np.searchsorted(self._trace["plan_step"], step + 1, side="right")) - 1
        if number < 0:
            return []
        # A plan of step s predicts what is observed after it: row s of the trace and the next ones.
        start, path = int(self._trace["plan_step"][number]), self._paths[number]
        followed = self._tip[max(start - 1, 0) : start + len(path)]
        return [
            Line(points=np.concatenate([followed[:1], path]), color=PREDICTED_COLOR),
            Line(points=path[-1:], color=PREDICTED_COLOR, radius=WIDE_RADIUS),
            Line(points=followed, color=FOLLOWED_COLOR, radius=WIDE_RADIUS),
        ]
