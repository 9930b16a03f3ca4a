"""Demo film: renders the robots of a session in parallel, from the recording."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from wm_robot.evaluation.outcome import SessionOutcome
from wm_robot.spec import RobotSpec
from wm_robot_sim.camera import Camera, open_camera
from wm_robot_sim.video_encoder import encode_video

WIDTH, HEIGHT = 448, 400
"""Size of one robot's image, in pixels."""
MIN_SECONDS_BEFORE, MIN_SECONDS_AFTER = 3.0, 8.0
"""Shortest time before and after the change, in s."""
SECONDS_AFTER_DIFFERENCE = 2.0
"""Seconds after the largest difference, if the session is long enough."""
PAUSE_SECONDS = 1.5
"""Seconds for which the film stops at the largest difference."""
FRAME_RATES = (25, 20, 15, 12, 10, 8, 6, 4)
"""Frame rates in Hz, the best first. A machine without a graphics card uses a low one."""
RENDER_TIMEOUT = 25.0
"""Time limit for rendering, in s."""
FULL_BAR_FACTOR = 1.5
"""Error of a full bar, as a factor on that of the scale."""
FROM_TARGET = {True: "from the target", False: "below the best reward"}
"""Whether the error has a unit → words after it."""
INK_RGB, PAPER_RGB, FAINT_RGB = (27, 29, 33), (252, 252, 250), (217, 218, 213)
ROBOT_COLORS = ((0, 103, 184), (194, 80, 10))


@dataclass(frozen=True, kw_only=True)
class FilmTrack:
    """Recorded data of one robot in a session."""

    name: str
    time: np.ndarray
    """`T`, in s since the start of the session."""
    joints: np.ndarray
    """`T J`, in rad (m)."""
    target: np.ndarray | None
    """`T 3`, in m; None for a task whose goal is no point."""
    error: np.ndarray
    """`T`, smoothed as in the report."""
    payload: np.ndarray
    """`T`, in kg."""


def render_film(
    folder: Path,
    spec: RobotSpec,
    scenes: Sequence[FilmTrack],
    *,
    outcome: SessionOutcome,
    timeout: float = RENDER_TIMEOUT,
) -> Path | None:
    """Render a film into a folder: from before the change to after the largest difference of two robots.

    Args:
        outcome: Outcome of the session, with a change.
        timeout: Approximate time limit for rendering, in s.

    Returns:
        `video.mp4`, or `video.gif` without an encoder; None if this machine cannot render.
    """
    camera = open_camera(spec, width=WIDTH, height=HEIGHT)
    if camera is None:
        return None
    try:
        drawer = _FrameRenderer(camera, spec, scenes, outcome)
        start, stop = compute_film_span(scenes, outcome)
        rate = _select_frame_rate(drawer, start, stop, timeout)
        moments = compute_frame_times(start, stop, rate, outcome)
        return encode_video(folder, (drawer.render_frame(float(moment)) for moment in moments), rate)
    finally:
        camera.close()


def compute_film_span(scenes: Sequence[FilmTrack], outcome: SessionOutcome) -> tuple[float, float]:
    """Return the part of a session in its film, in s since the start of the session."""
    assert outcome.change_time is not None
    start = max(outcome.change_time - MIN_SECONDS_BEFORE, max(float(scene.time[0]) for scene in scenes))
    wanted = outcome.change_time + MIN_SECONDS_AFTER
    if outcome.largest_difference is not None:
        wanted = max(wanted, outcome.largest_difference.time + SECONDS_AFTER_DIFFERENCE)
    return start, min(wanted, min(float(scene.time[-1]) for scene in scenes))


def compute_frame_times(start: float, stop: float, rate: int, outcome: SessionOutcome) -> np.ndarray:
    """Return the time of each frame. The largest difference is repeated for `PAUSE_SECONDS`."""
    moments = np.arange(start, stop, 1 / rate)
    if outcome.largest_difference is None:
        return moments
    pause = np.full(round(PAUSE_SECONDS * rate), outcome.largest_difference.time)
    return np.insert(moments, int(np.searchsorted(moments, outcome.largest_difference.time)), pause)


def _select_frame_rate(drawer: "_FrameRenderer", start: float, stop: float, timeout: float) -> int:
    drawer.render_frame(start)
    began = time.perf_counter()
    for moment in np.linspace(start, stop, 3):
        drawer.render_frame(float(moment))
    each = (time.perf_counter() - began) / 3
    affordable = timeout / max(each * (stop - start), 1e-6)
    return next((rate for rate in FRAME_RATES if rate <= affordable), FRAME_RATES[-1])


class _FrameRenderer:
    """Frame renderer: every robot, its name, its error as a bar, and a caption."""

    def __init__(self, camera: Camera, spec: RobotSpec, scenes: Sequence[FilmTrack], outcome: SessionOutcome):
        self._camera, self._scenes, self._outcome = camera, scenes, outcome
        self._address = [int(camera.model.joint(name).qposadr[0]) for name in spec.joint_names]
        self._rest = camera.model.qpos0.copy()
        self._large, self._small = ImageFont.load_default(size=19), ImageFont.load_default(size=15)

    def render_frame(self, moment: float) -> np.ndarray:
        """Render one frame, `H W 3`, uint8, with even sides for encoders."""
        header, footer = 60, 34
        page = Image.new("RGB", (WIDTH * len(self._scenes), header + HEIGHT + footer), PAPER_RGB)
        pen = ImageDraw.Draw(page)
        for i, scene in enumerate(self._scenes):
            at = min(int(np.searchsorted(scene.time, moment)), len(scene.time) - 1)
            page.paste(Image.fromarray(self._render_robot(scene, at)), (i * WIDTH, header))
            self._draw_header(
                pen, i * WIDTH, scene.name, float(scene.error[at]), ROBOT_COLORS[i % len(ROBOT_COLORS)]
            )
        pen.text((14, header + HEIGHT + 8), make_caption(moment, self._outcome), INK_RGB, self._small)
        for i in range(1, len(self._scenes)):
            pen.line([(i * WIDTH, 0), (i * WIDTH, header + HEIGHT)], PAPER_RGB, 4)
        return np.asarray(page)

    def _render_robot(self, scene: FilmTrack, at: int) -> np.ndarray:
        qpos = self._rest.copy()
        qpos[self._address] = scene.joints[at]
        target = None if scene.target is None else scene.target[at]
        return self._camera.render(qpos, target=target, payload=float(scene.payload[at]))

    def _draw_header(
        self, pen: ImageDraw.ImageDraw, left: int, name: str, error: float, color: tuple[int, int, int]
    ) -> None:
        pen.text((left + 14, 8), name, color, self._large)
        pen.text(
            (left + WIDTH - 14, 10),
            f"{self._outcome.scale.format(error)} {FROM_TARGET[bool(self._outcome.scale.unit)]}",
            INK_RGB,
            self._small,
            anchor="ra",
        )
        full = WIDTH - 28
        filled = round(full * min(error / (FULL_BAR_FACTOR * self._outcome.scale.full), 1.0))
        pen.rounded_rectangle([left + 14, 38, left + 14 + full, 48], 5, FAINT_RGB)
        pen.rounded_rectangle([left + 14, 38, left + 14 + max(filled, 10), 48], 5, color)


def make_caption(moment: float, outcome: SessionOutcome) -> str:
    """Return the text below the frame of a time."""
    since = moment - (outcome.change_time or 0.0)
    if since < 0:
        return "before the change"
    if outcome.largest_difference is not None and moment == outcome.largest_difference.time:
        return outcome.difference_sentence
    return f"{since:.1f} s after the change: {outcome.change_description}"
