"""Robot model: what a robot's model file says of its bodies, joints, actuators and sites, as plain values.

It is read off the file where MuJoCo is installed, and stored beside the spec as `NAME.model.json`. So a robot without
MuJoCo has the same kinematics, and knows whether the model file has changed since.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wm_robot.errors import SpecError
from wm_robot.math.kinematics import IDENTITY, compute_rotation_matrix, multiply_quaternions
from wm_robot.spec import JOINT_KINDS, Link

FORMAT, KIND, SUFFIX = 1, "robot-model", ".model.json"
ROTATION_TOLERANCE = 1e-12
"""Distance from no rotation below which a quaternion is none."""
WORLD = "world"
"""Name of the body that everything else is attached to."""

Point = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class ModelBody:
    """Rigid body of a model."""

    name: str
    parent: str
    position: Point
    """In the frame of its parent, in m."""
    rotation: Quaternion
    """In the frame of its parent, (w, x, y, z)."""
    mass: float
    """In kg."""


@dataclass(frozen=True, kw_only=True)
class ModelJoint:
    """Joint of a model; it moves its body relative to the parent."""

    name: str
    kind: str
    """`hinge`, `slide`, `ball` or `free`."""
    body: str
    anchor: Point
    """In the frame of its body, in m."""
    axis: Point
    """In the frame of its body."""
    range: tuple[float, float] | None
    """In rad (m); None: unlimited."""
    zero: float = 0.0
    """Position at which the body is where the file puts it, in rad (m)."""


@dataclass(frozen=True, kw_only=True)
class ModelActuator:
    """Actuator of a model."""

    name: str
    kind: str
    """`position`, `velocity` or `effort`."""
    joints: tuple[str, ...]
    """Joints that it moves; several through a tendon."""
    gear: float
    range: tuple[float, float] | None
    """Range of its action; None: unlimited."""


@dataclass(frozen=True, kw_only=True)
class ModelSite:
    """Named point of a body."""

    name: str
    body: str
    position: Point
    """In the frame of the body, in m."""


class Chain(NamedTuple):
    """Kinematics from the world to a tip."""

    links: tuple[Link, ...]
    tip: Point
    """Tip in the frame of the last link, in m."""


@dataclass(frozen=True, kw_only=True)
class RobotModel:
    """Everything that a spec takes from a model file, or is compared with."""

    digest: str
    """SHA-256 over all physical quantities, rounded to six digits: equal for models that behave alike."""
    sources: Mapping[str, str]
    """File of the model → SHA-256 of its bytes."""
    timestep: float
    """Physics step, in s."""
    bodies: tuple[ModelBody, ...]
    joints: tuple[ModelJoint, ...]
    actuators: tuple[ModelActuator, ...]
    sites: tuple[ModelSite, ...]

    def find_point(self, name: str) -> tuple[str, Point]:
        """Return the body and the point of a site, or of the origin of a body, with that name.

        Raises:
            SpecError: If there is neither.
        """
        for site in self.sites:
            if site.name == name:
                return site.body, site.position
        if any(body.name == name for body in self.bodies):
            return name, (0.0, 0.0, 0.0)
        raise SpecError(f"the model has no site and no body '{name}'; it has {self.list_frames()}")

    def list_frames(self) -> list[str]:
        """List the names of sites and bodies."""
        return [site.name for site in self.sites] + [body.name for body in self.bodies]

    def has_frame(self, name: str) -> bool:
        """Whether a site or a body has that name; the world is one too."""
        return name == WORLD or name in self.list_frames()

    def read_chain(self, joint_names: Sequence[str], body: str, point: Point, *, base: str = WORLD) -> Chain:
        """Read the chain of joints from the base to a point of a body.

        Joints that are not listed stay where the file puts them.

        Args:
            point: In the frame of the body, in m.
            base: Body whose frame the chain starts from: the world, or that of a floating base.

        Raises:
            SpecError: If a listed joint on the way is a ball or free.
        """
        links: list[Link] = []
        # Way from the frame of the last listed joint to that of the current body.
        position, rotation = np.zeros(3), np.array(IDENTITY)
        for part in self._list_ancestors(body, base):
            position = position + compute_rotation_matrix(rotation) @ part.position
            rotation = multiply_quaternions(rotation, np.array(part.rotation))
            for joint in self.joints:
                if joint.body != part.name or joint.name not in joint_names:
                    continue
                if joint.kind not in JOINT_KINDS:
                    raise SpecError(
                        f"joint '{joint.name}' is a {joint.kind} joint; a chain needs hinges and slides"
                    )
                position = position + compute_rotation_matrix(rotation) @ joint.anchor
                links.append(
                    Link(
                        joint=joint.name,
                        kind=joint.kind,
                        origin=_to_point(position),
                        rotation=_to_quaternion(rotation),
                        axis=joint.axis,
                        zero=joint.zero,
                    )
                )
                position, rotation = -np.array(joint.anchor), np.array(IDENTITY)
        return Chain(tuple(links), _to_point(position + compute_rotation_matrix(rotation) @ point))

    def find_free_body(self, joint_names: Sequence[str]) -> str:
        """Find the body with a free joint that carries any of these joints; empty if the base of all is fixed."""
        free = {joint.body for joint in self.joints if joint.kind == "free"}
        bodies = {joint.body for joint in self.joints if joint.name in joint_names and joint.kind != "free"}
        roots = {self._list_ancestors(body, WORLD)[0].name for body in bodies if body != WORLD}
        return next(iter(sorted(roots & free)), "")

    def _list_ancestors(self, name: str, base: str) -> list[ModelBody]:
        """List the bodies from the child of the base to a body.

        Raises:
            SpecError: If the base does not carry the body.
        """
        bodies = {body.name: body for body in self.bodies}
        way, start = [], name
        while name != base:
            if name == WORLD:
                raise SpecError(f"body '{start}' is not carried by the base '{base}'")
            way.append(bodies[name])
            name = bodies[name].parent
        return way[::-1]

    def encode(self) -> bytes:
        """Return the model as JSON, a line for each of its parts."""
        values = {"format": FORMAT, "kind": KIND, **asdict(self)}
        lines = [f' "{name}": {_encode_lines(value)}' for name, value in values.items()]
        return ("{\n" + ",\n".join(lines) + "\n}\n").encode()

    @classmethod
    def parse(cls, content: bytes, path: Path) -> "RobotModel":
        """Parse what `encode` returned.

        Args:
            path: The file, for the error.

        Raises:
            SpecError: If the content is damaged or of another format.
        """
        again = f"Write it again: wm-robot check {path.name.removesuffix(SUFFIX)}.yaml"
        try:
            values: dict[str, Any] = json.loads(content)
            found = (values.pop("kind"), values.pop("format"))
            parts: dict[str, Any] = {
                name: tuple(_build(kind, each) for each in values.pop(name))
                for name, kind in (
                    ("bodies", ModelBody),
                    ("joints", ModelJoint),
                    ("actuators", ModelActuator),
                    ("sites", ModelSite),
                )
            }
            model = cls(**values, **parts)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise SpecError(f"{path} is no description of a model: {error}. {again}") from error
        if found != (KIND, FORMAT):
            raise SpecError(
                f"{path} is a {found[0]} of format {found[1]}, not a {KIND} of format {FORMAT}. {again}"
            )
        return model


def find_changed_sources(model: RobotModel, folder: Path) -> list[str]:
    """Return the files of a model that are missing, or have other bytes than when it was read.

    Args:
        folder: Folder of the model file; the names of sources are relative to it.
    """
    return [
        name
        for name, digest in model.sources.items()
        if not (folder / name).is_file() or compute_file_digest(folder / name) != digest
    ]


def compute_file_digest(path: Path) -> str:
    """Compute the SHA-256 of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _encode_lines(value: Any) -> str:
    if isinstance(value, list | tuple) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(f"  {json.dumps(each)}" for each in value) + "\n ]"
    if isinstance(value, dict):
        return "{\n" + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items()) + "\n }"
    return json.dumps(value)


def _build(kind: type, values: Mapping[str, Any]) -> Any:
    known = {each.name for each in fields(kind)}
    if unknown := sorted(set(values) - known):
        raise ValueError(f"{kind.__name__} has no field {unknown}")
    return kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})


def _to_point(values: np.ndarray) -> Point:
    x, y, z = (float(value) for value in values)
    return x, y, z


def _to_quaternion(values: np.ndarray) -> Quaternion:
    if np.abs(values[1:]).max() < ROTATION_TOLERANCE:
        return IDENTITY
    w, x, y, z = (float(value) for value in values / np.linalg.norm(values))
    return w, x, y, z
