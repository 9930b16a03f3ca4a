"""Demo film: renders the arms of a session in parallel, from the recording."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from wm_robot.evaluation.outcome import Outcome
from wm_robot.spec import RobotSpec
from wm_robot_sim.camera import Camera, open_camera

WIDTH, HEIGHT = 448, 400
"""Size of one arm's image, in pixels."""
BEFORE, AFTER = 3.0, 8.0
"""Shortest time before and after the change, in s."""
BEYOND = 2.0
"""Seconds after the largest difference, if the session is long enough."""
PAUSE = 1.5
"""Seconds for which the film stops at the largest difference."""
RATES = (25, 20, 15, 12, 10, 8, 6, 4)
"""Frame rates in Hz, the best first. A machine without a graphics card uses a low one."""
PATIENCE = 25.0
"""Time limit for rendering, in s."""
LARGEST_ERROR = 0.15
"""Error in m of a full bar."""
INK, PAPER, FAINT = (27, 29, 33), (252, 252, 250), (217, 218, 213)
COLORS = ((0, 103, 184), (194, 80, 10))


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Recorded data of one arm in a session."""

    name: str
    time: np.ndarray
    """`T`, in s since the start of the session."""
    joints: np.ndarray
    """`T J`, in rad."""
    target: np.ndarray
    """`T 3`, in m."""
    error: np.ndarray
    """`T`, in m, smoothed as in the report."""
    payload: np.ndarray
    """`T`, in kg."""


def shoot(
    folder: Path,
    spec: RobotSpec,
    scenes: Sequence[Scene],
    *,
    outcome: Outcome,
    patience: float = PATIENCE,
) -> Path | None:
    """Render a film into a folder: from before the change to after the largest difference of two arms.

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
        drawer = _Drawer(camera, spec, scenes, outcome)
        start, stop = span(scenes, outcome)
        rate = _affordable_rate(drawer, start, stop, patience)
        moments = shown_moments(start, stop, rate, outcome)
        return _encode(folder, (drawer.draw(float(moment)) for moment in moments), rate)
    finally:
        camera.close()


def span(scenes: Sequence[Scene], outcome: Outcome) -> tuple[float, float]:
    """Return the part of a session in its film, in s since the start of the session."""
    assert outcome.change is not None
    start = max(outcome.change - BEFORE, max(float(scene.time[0]) for scene in scenes))
    wanted = outcome.change + AFTER
    if outcome.largest is not None:
        wanted = max(wanted, outcome.largest.time + BEYOND)
    return start, min(wanted, min(float(scene.time[-1]) for scene in scenes))


def shown_moments(start: float, stop: float, rate: int, outcome: Outcome) -> np.ndarray:
    """Return the time of each frame. The largest difference is repeated for `PAUSE_SECONDS`."""
    moments = np.arange(start, stop, 1 / rate)
    if outcome.largest is None:
        return moments
    pause = np.full(round(PAUSE * rate), outcome.largest.time)
    return np.insert(moments, int(np.searchsorted(moments, outcome.largest.time)), pause)


def _affordable_rate(drawer: "_Drawer", start: float, stop: float, patience: float) -> int:
    drawer.draw(start)
    began = time.perf_counter()
    for moment in np.linspace(start, stop, 3):
        drawer.draw(float(moment))
    each = (time.perf_counter() - began) / 3
    affordable = patience / max(each * (stop - start), 1e-6)
    return next((rate for rate in RATES if rate <= affordable), RATES[-1])


class _Drawer:
    """Frame renderer: every arm, its name, its error as a bar, and a caption."""

    def __init__(self, camera: Camera, spec: RobotSpec, scenes: Sequence[Scene], outcome: Outcome):
        self._camera, self._scenes, self._outcome = camera, scenes, outcome
        self._address = [int(camera.model.joint(name).qposadr[0]) for name in spec.joint_names]
        self._rest = camera.model.qpos0.copy()
        self._large, self._small = ImageFont.load_default(size=19), ImageFont.load_default(size=15)

    def draw(self, moment: float) -> np.ndarray:
        """Render one frame, `H W 3`, uint8, with even sides for encoders."""
        header, footer = 60, 34
        page = Image.new("RGB", (WIDTH * len(self._scenes), header + HEIGHT + footer), PAPER)
        pen = ImageDraw.Draw(page)
        for i, scene in enumerate(self._scenes):
            at = min(int(np.searchsorted(scene.time, moment)), len(scene.time) - 1)
            page.paste(Image.fromarray(self._arm(scene, at)), (i * WIDTH, header))
            self._head(pen, i * WIDTH, scene.name, float(scene.error[at]), COLORS[i % len(COLORS)])
        pen.text((14, header + HEIGHT + 8), caption(moment, self._outcome), INK, self._small)
        for i in range(1, len(self._scenes)):
            pen.line([(i * WIDTH, 0), (i * WIDTH, header + HEIGHT)], PAPER, 4)
        return np.asarray(page)

    def _arm(self, scene: Scene, at: int) -> np.ndarray:
        qpos = self._rest.copy()
        qpos[self._address] = scene.joints[at]
        return self._camera.render(qpos, target=scene.target[at], payload=float(scene.payload[at]))

    def _head(
        self, pen: ImageDraw.ImageDraw, left: int, name: str, error: float, color: tuple[int, int, int]
    ) -> None:
        pen.text((left + 14, 8), name, color, self._large)
        pen.text(
            (left + WIDTH - 14, 10), f"{1e3 * error:.0f} mm from the target", INK, self._small, anchor="ra"
        )
        full = WIDTH - 28
        filled = round(full * min(error / LARGEST_ERROR, 1.0))
        pen.rounded_rectangle([left + 14, 38, left + 14 + full, 48], 5, FAINT)
        pen.rounded_rectangle([left + 14, 38, left + 14 + max(filled, 10), 48], 5, color)


def caption(moment: float, outcome: Outcome) -> str:
    """Return the text below the frame of a time."""
    since = moment - (outcome.change or 0.0)
    if since < 0:
        return "before the change"
    if outcome.largest is not None and moment == outcome.largest.time:
        return outcome.difference
    return f"{since:.1f} s after the change: {outcome.changed}"


def _encode(folder: Path, pictures: Iterator[np.ndarray], rate: int) -> Path:
    """Encode the video, whole or not at all: an incomplete video keeps its temporary name."""
    first = next(pictures, None)
    if first is None:
        raise ValueError("the visit is too short for a film frame")
    part = folder / "video.part.mp4"
    try:
        import imageio_ffmpeg

        encoder = imageio_ffmpeg.write_frames(
            str(part),
            (first.shape[1], first.shape[0]),
            fps=rate,
            codec="libx264",
            output_params=["-crf", "26", "-preset", "veryfast", "-movflags", "+faststart"],
            macro_block_size=2,
            ffmpeg_log_level="error",
        )
        encoder.send(None)
    except (ImportError, RuntimeError, OSError):
        return _encode_gif(folder, first, pictures, rate)
    encoder.send(np.ascontiguousarray(first))
    for picture in pictures:
        encoder.send(np.ascontiguousarray(picture))
    encoder.close()
    return part.replace(folder / "video.mp4")


def _encode_gif(folder: Path, first: np.ndarray, pictures: Iterator[np.ndarray], rate: int) -> Path:
    def small(picture: np.ndarray) -> Image.Image:
        image = Image.fromarray(picture)
        return image.resize((image.width // 2, image.height // 2)).quantize(64, dither=Image.Dither.NONE)

    others = [small(picture) for i, picture in enumerate(pictures, 1) if i % 2 == 0]
    part = folder / "video.part.gif"
    small(first).save(part, save_all=True, append_images=others, duration=round(2000 / rate), loop=0)
    return part.replace(folder / "video.gif")
