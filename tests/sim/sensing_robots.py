"""A crawler in a room, whose model has everything that sensors can be mounted on."""

from pathlib import Path
from typing import Any

from tests.sim.floating_robots import CORNERS, CRAWLER
from wm_robot.spec import RobotSpec

SITES = '<site name="head" pos="0.1 0.02 0.05" euler="0.3 -0.2 0.4"/><site name="front" pos="0.14 0 0"/>'
SENSING_CRAWLER = (
    CRAWLER.replace('<geom type="box"', SITES + '<geom type="box"')
    .replace(
        "<worldbody>",
        '<worldbody><geom name="wall" type="box" pos="1.5 0 0.5" size="0.1 3 0.5"/>'
        '<geom name="pillar" type="cylinder" pos="0 1 0.5" size="0.1 0.5"/>',
    )
    .replace(
        "</worldbody>",
        '</worldbody><sensor><jointpos name="leg" joint="front_left"/><subtreecom name="middle" body="trunk"/>'
        "</sensor>",
    )
)
FOOT = '<site name="foot" pos="0.05 0.05 -0.15" size="0.03"/></body>'
SENSORS = {
    "imu": {"kind": "imu", "frame": "head"},
    "hip": {"kind": "wrench", "frame": "front_left", "limits": {"force": 100, "torque": 10}},
    "leg_contact": {"kind": "contact", "frame": "front_right", "limits": 50},
    "foot_contact": {"kind": "contact", "frame": "foot", "limits": 50},
    "ahead": {"kind": "range", "frame": "front", "limits": 5},
    "lidar": {"kind": "scan", "frame": "front", "size": 4, "limits": 1.3, "angle": [-1.0, 2.0]},
    "odom": {"kind": "odometry", "frame": "trunk", "limits": 5},
    "mark": {"kind": "pose", "frame": "back_left", "limits": 5},
    "speed": {"kind": "twist", "frame": "head", "limits": 5},
    "battery": {"kind": "battery", "nominal": 24},
    "heat": {"kind": "temperature", "nominal": 30},
    "middle": {"kind": "vector", "size": 3, "limits": 2, "source": "middle"},
    "leg": {"kind": "scalar", "limits": 1, "source": "leg"},
    "features": {"kind": "vector", "size": 2, "limits": 1},
}
"""Sensor → what its spec says, of every kind."""


def make_crawler(folder: Path, *sensors: dict[str, Any], **changes: Any) -> RobotSpec:
    """Make a crawler with some sensors, in a folder."""
    legs = SENSING_CRAWLER.split("</body>")
    (folder / "crawler.xml").write_text(FOOT.join([legs[0], "</body>".join(legs[1:])]))
    values = {
        "name": "crawler",
        "rate": 50,
        "model": "crawler.xml",
        "base": {"body": "trunk", "height": 0.166, "linear_velocity": 3.0, "angular_velocity": 10.0},
        "joints": [{"name": n, "position": [-0.9, 0.9], "velocity": 20.0, "effort": 4.0} for n in CORNERS],
        "actuators": [
            {"name": n, "joint": n, "kind": "position", "range": [-0.9, 0.9], "rate": 10.0} for n in CORNERS
        ],
        "sensors": list(sensors),
    }
    return RobotSpec.from_dict({**values, **changes}, folder=folder)


def make_sensor(name: str, **changes: Any) -> dict[str, Any]:
    """Make one of `SENSORS`, with changes."""
    return {"name": name, **SENSORS[name], **changes}
