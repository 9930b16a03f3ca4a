"""Offscreen camera: renders images of a simulated robot."""

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from typing import Any

import mujoco
import numpy as np

from wm_robot.spec import RobotSpec
from wm_robot_sim.model_compiler import compile_model

BACKENDS = ("egl", "osmesa", "glfw")
PAYLOAD_DENSITY = 4000.0
"""Density of the ball that represents a payload, in kg/m³."""
LINE_RADIUS = 0.005
"""Radius of drawn lines, in m."""
MIN_LINE_LENGTH = 1e-6


@dataclass(frozen=True, kw_only=True)
class Line:
    """Line in space, drawn over a robot."""

    points: np.ndarray
    """`N 3`, in m; one point alone is drawn as a ball."""
    color: tuple[float, float, float, float]
    """Red, green, blue and opacity, from 0 to 1."""
    radius: float = LINE_RADIUS
    """In m."""


class Camera:
    """Offscreen camera for one robot. Owns a graphics context until it is closed."""

    def __init__(self, spec: RobotSpec, context: Any, *, width: int, height: int, view: str | int = 0):
        """Use `open_camera`, which finds a context.

        Args:
            view: Name or number of a camera in the model.
        """
        self._context = context
        context.make_current()
        self.model = compile_model(spec, visuals=True)
        self.model.vis.global_.offwidth, self.model.vis.global_.offheight = width, height
        self._data = mujoco.MjData(self.model)
        self._scene = mujoco.MjvScene(self.model, maxgeom=1000)
        self._option = mujoco.MjvOption()
        self._renderer = mujoco.MjrContext(self.model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._renderer)
        self._viewport = mujoco.MjrRect(0, 0, width, height)
        self._view = self._select_view(view)

    def _select_view(self, view: str | int) -> mujoco.MjvCamera:
        camera = mujoco.MjvCamera()
        mujoco.mjv_defaultFreeCamera(self.model, camera)
        kind = mujoco.mjtObj.mjOBJ_CAMERA
        number = mujoco.mj_name2id(self.model, kind, view) if isinstance(view, str) else view
        if 0 <= number < self.model.ncam:
            camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, number
        return camera

    def render(
        self,
        qpos: np.ndarray,
        *,
        target: np.ndarray | None = None,
        payload: float = 0.0,
        lines: Sequence[Line] = (),
    ) -> np.ndarray:
        """Render one image, `height width 3`, uint8.

        Args:
            qpos: Generalised positions of the model, from `SimRobot.qpos`.
            target: Position of the goal marker, in m. None: hidden.
            payload: Mass in the gripper, in kg, drawn as a ball.
            lines: Lines in space, such as a predicted path.
        """
        self._context.make_current()
        self._data.qpos[:] = qpos
        self._place_target(target)
        self._set_payload(payload)
        mujoco.mj_forward(self.model, self._data)
        every = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self.model, self._data, self._option, None, self._view, every, self._scene)
        for line in lines:
            self._add_line(line)
        mujoco.mjr_render(self._viewport, self._scene, self._renderer)
        frame = np.empty((self._viewport.height, self._viewport.width, 3), np.uint8)
        mujoco.mjr_readPixels(frame, None, self._viewport, self._renderer)
        return frame[::-1].copy()

    def _place_target(self, target: np.ndarray | None) -> None:
        body = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_BODY, "target")
        geom = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_GEOM, "target")
        # The hidden place is under the floor: a mocap body or geom cannot be left out of one frame.
        place = np.array([0.0, 0.0, -50.0]) if target is None else target
        if body >= 0:
            self._data.mocap_pos[self.model.body_mocapid[body]] = place
        elif geom >= 0:
            self.model.geom_pos[geom] = place

    def _set_payload(self, payload: float) -> None:
        geom = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_GEOM, "payload")
        if geom >= 0:
            self.model.geom_size[geom, 0] = max((payload / PAYLOAD_DENSITY / 4.19) ** (1 / 3), 1e-5)
            self.model.geom_rgba[geom, 3] = float(payload > 0)

    def _add_line(self, line: Line) -> None:
        points, color = np.asarray(line.points, np.float64), np.array(line.color, np.float32)
        capsule, ball = mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_SPHERE
        for start, end in pairwise(points):
            # A connector of no length has no direction.
            if np.linalg.norm(end - start) < MIN_LINE_LENGTH:
                continue
            if (geom := self._take_geom(capsule, line.radius, color)) is not None:
                mujoco.mjv_connector(geom, capsule, line.radius, start, end)
        if len(points) == 1 and (geom := self._take_geom(ball, line.radius, color)) is not None:
            geom.pos[:] = points[0]

    def _take_geom(self, kind: int, radius: float, color: np.ndarray) -> Any:
        """Take an unused geom of the scene; None if there is none."""
        if self._scene.ngeom >= self._scene.maxgeom:
            return None
        geom = self._scene.geoms[self._scene.ngeom]
        size, place = np.full(3, radius), np.zeros(3)
        mujoco.mjv_initGeom(geom, kind, size, place, np.eye(3).flatten(), color)
        geom.emission = 0.6
        self._scene.ngeom += 1
        return geom

    def close(self) -> None:
        """Release the graphics context."""
        self._renderer.free()
        self._context.free()


def open_camera(
    spec: RobotSpec, *, width: int = 640, height: int = 480, view: str | int = 0
) -> Camera | None:
    """Open a camera, or return None with one warning if this machine cannot render.

    `MUJOCO_GL` selects the back end. Without it, each back end is tried.
    """
    asked = os.environ.get("MUJOCO_GL", "").lower()
    reasons = []
    for backend in (asked,) if asked in BACKENDS else BACKENDS:
        try:
            context = import_module(f"mujoco.{backend}").GLContext(width, height)
            context.make_current()
        # Drivers raise any kind of exception, including AttributeError in a ctypes stub.
        except Exception as error:
            reasons.append(f"{backend}: {error}")
            continue
        return Camera(spec, context, width=width, height=height, view=view)
    warnings.warn(
        f"no camera images: {'; '.join(reasons)}. Install EGL or OSMesa", RuntimeWarning, stacklevel=2
    )
    return None


def render_frames(
    camera: Camera,
    qpos: Sequence[np.ndarray],
    *,
    targets: Sequence[np.ndarray] | None = None,
    payloads: Sequence[float] | None = None,
) -> Iterator[np.ndarray]:
    """Yield one image for each position in a sequence; see `Camera.render`."""
    for step, position in enumerate(qpos):
        yield camera.render(
            position,
            target=None if targets is None else targets[step],
            payload=0.0 if payloads is None else float(payloads[step]),
        )
