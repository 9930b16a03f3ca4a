"""Sensor elements: the sensors and sites that a model gets, so that MuJoCo computes what a spec's sensors measure."""

from collections.abc import Iterator
from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Float

from wm_robot.errors import SpecError
from wm_robot.math.kinematics import IDENTITY, multiply_quaternions
from wm_robot.spec import JOINTS, RobotSpec, Sensor
from wm_robot.spec.sensors import DISTANCE_KINDS

PREFIX = "wm_robot/"
"""Beginning of the names of sensors and sites that a model gets; its own have other names."""
BEAMS_PER_SECTOR = 3
"""Beams of a scan in each of its sectors."""
CONTACT_REACH = 10.0
"""Radius in which all contacts of a body are counted, in m."""
INVISIBLE = (0.0, 0.0, 0.0, 0.0)
"""Color of the sites, so that no film shows them."""
FORWARD = (np.sqrt(0.5), 0.0, np.sqrt(0.5), 0.0)
"""Rotation that turns MuJoCo's direction of a beam, z, to that of ROS, x."""
DISTANCE_DATA = 1 << int(mujoco.mjtRayDataField.mjRAYDATA_DIST)
MUJOCO_SENSORS = {
    "orientation": (mujoco.mjtSensor.mjSENS_FRAMEXAXIS, mujoco.mjtSensor.mjSENS_FRAMEYAXIS),
    "angular_velocity": (mujoco.mjtSensor.mjSENS_GYRO,),
    "linear_acceleration": (mujoco.mjtSensor.mjSENS_ACCELEROMETER,),
    "linear_velocity": (mujoco.mjtSensor.mjSENS_VELOCIMETER,),
    "position": (mujoco.mjtSensor.mjSENS_FRAMEPOS,),
    "height": (mujoco.mjtSensor.mjSENS_FRAMEPOS,),
    "force": (mujoco.mjtSensor.mjSENS_FORCE,),
    "torque": (mujoco.mjtSensor.mjSENS_TORQUE,),
}
"""Field of a sensor → sensors of MuJoCo that have its numbers, in their order."""


@dataclass(frozen=True)
class SensorElement:
    """Sensor that a model gets."""

    name: str
    kind: mujoco.mjtSensor
    object_kind: mujoco.mjtObj
    object_name: str


def name_effort_sensor(joint: str) -> str:
    """Return the name of the sensor of a joint's effort."""
    return f"{PREFIX}{JOINTS}/{joint}/effort"


def list_elements(sensor: Sensor, name: str) -> list[SensorElement]:
    """List the sensors of MuJoCo for a field of a sensor; none where its source or nominal value supplies it."""
    if sensor.source or sensor.is_simulated_constant:
        return []
    site, label = mujoco.mjtObj.mjOBJ_SITE, f"{PREFIX}{sensor.name}/{name}"
    mounted = f"{PREFIX}{sensor.name}"
    if sensor.kind in DISTANCE_KINDS:
        kind = mujoco.mjtSensor.mjSENS_RANGEFINDER
        return [
            SensorElement(f"{label}.{number}", kind, site, f"{mounted}/beam.{number}")
            for number in range(count_beams(sensor))
        ]
    if sensor.kind == "contact":
        return [SensorElement(label, mujoco.mjtSensor.mjSENS_TOUCH, site, mounted)]
    return [
        SensorElement(f"{label}.{number}", kind, site, mounted)
        for number, kind in enumerate(MUJOCO_SENSORS[name])
    ]


def count_beams(sensor: Sensor) -> int:
    return BEAMS_PER_SECTOR * sensor.size if sensor.kind == "scan" else 1


def add_sensors(model: mujoco.MjSpec, spec: RobotSpec) -> None:
    """Add the sensors of a spec to a model that is not compiled yet: nothing in its dynamics changes.

    Raises:
        SpecError: If a sensor has a frame that the model does not have.
    """
    mounted = [sensor for sensor in spec.sensors if sensor.frame and not sensor.source]
    # Compiled, since a file may state a rotation as Euler angles, two axes or the ends of the site.
    compiled = model.copy().compile() if any(model.site(sensor.frame) for sensor in mounted) else None
    for sensor in mounted:
        _add_sites(model, compiled, spec, sensor)
    for sensor in spec.sensors:
        for name in sensor.fields:
            for element in list_elements(sensor, name):
                _add_sensor(model, element)
    if "effort" in spec.interfaces:
        # A joint that the model lacks is refused where the spec is held against it.
        for joint in filter(model.joint, spec.joint_names):
            _add_sensor(
                model,
                SensorElement(
                    name_effort_sensor(joint),
                    mujoco.mjtSensor.mjSENS_JOINTACTFRC,
                    mujoco.mjtObj.mjOBJ_JOINT,
                    joint,
                ),
            )


def _add_sensor(model: mujoco.MjSpec, element: SensorElement) -> None:
    added = model.add_sensor(
        name=element.name, type=element.kind, objtype=element.object_kind, objname=element.object_name
    )
    if element.kind == mujoco.mjtSensor.mjSENS_RANGEFINDER:
        added.intprm[0] = DISTANCE_DATA


def _add_sites(
    model: mujoco.MjSpec, compiled: mujoco.MjModel | None, spec: RobotSpec, sensor: Sensor
) -> None:
    """Add the site that a sensor is mounted on, or one for each of its beams.

    Args:
        compiled: The same model; None where no sensor is mounted on a site of it.
    """
    frame = model.site(sensor.frame)
    body = frame.parent if frame else model.body(sensor.frame)
    if body is None:
        known = [each.name for each in (*model.sites, *model.bodies) if each.name]
        raise SpecError(
            f"robot '{spec.name}' contradicts its model {spec.model}: sensor '{sensor.name}' has the frame "
            f"'{sensor.frame}' in the spec, and the model has no site and no body of that name; it has {known}"
        )
    position, rotation, size = np.zeros(3), np.array(IDENTITY), np.full(3, CONTACT_REACH)
    if frame and compiled is not None:
        site = compiled.site(sensor.frame)
        position, rotation, size = site.pos.copy(), site.quat.copy(), site.size.copy()
    if sensor.kind in DISTANCE_KINDS:
        for number, turned in enumerate(_list_beams(sensor, rotation)):
            body.add_site(
                name=f"{PREFIX}{sensor.name}/beam.{number}", pos=position, quat=turned, rgba=INVISIBLE
            )
        return
    added = body.add_site(name=f"{PREFIX}{sensor.name}", pos=position, quat=rotation, rgba=INVISIBLE)
    if sensor.kind == "contact":
        added.type = frame.type if frame else mujoco.mjtGeom.mjGEOM_SPHERE
        added.size = size


def _list_beams(sensor: Sensor, rotation: Float[np.ndarray, "4"]) -> Iterator[np.ndarray]:
    """Yield the rotation of each beam of a sensor, sector by sector.

    Args:
        rotation: That of the sensor's frame in its body, (w, x, y, z).
    """
    count = count_beams(sensor)
    low, high = sensor.angle if sensor.kind == "scan" else (0.0, 0.0)
    for number in range(count):
        half = (low + (high - low) * (number + 0.5) / count) / 2
        turned = np.array([np.cos(half), 0.0, 0.0, np.sin(half)])
        yield multiply_quaternions(multiply_quaternions(rotation, turned), np.array(FORWARD))
