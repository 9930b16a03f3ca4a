"""Small robots of our own, each with a model that lacks or has one thing."""

from pathlib import Path
from typing import Any

from wm_robot.spec import RobotSpec

LEG = """
<mujoco model="leg">
  <compiler angle="radian"/>
  <option timestep="0.004"/>
  <worldbody>
    <body name="thigh" pos="0 0 0.6">
      <joint name="hip" type="hinge" axis="0 1 0" range="-1 1" damping="0.5" {joint}/>
      <geom type="capsule" size="0.02" fromto="0 0 0 0 0 -0.25" mass="0.5"/>
      <body name="shin" pos="0 0 -0.25">
        <joint name="knee" type="hinge" axis="0 1 0" range="-2.7 -0.85" damping="0.5" {joint}/>
        <geom type="capsule" size="0.02" fromto="0 0 0 0 0 -0.25" mass="0.2"/>
        <body name="foot" pos="0 0 -0.25">
          <joint name="toe" type="slide" axis="0 0 -1" range="0 0.1" damping="5" {joint}/>
          <geom type="sphere" size="0.02" mass="0.05"/>
        </body>
      </body>
    </body>
  </worldbody>
  <actuator>
    <position name="hip" joint="hip" kp="40" kv="2" ctrlrange="-1 1" {actuator}/>
    <position name="knee" joint="knee" kp="40" kv="2" ctrlrange="-2.7 -0.85" {actuator}/>
    <position name="toe" joint="toe" kp="200" kv="5" ctrlrange="0 0.1" {actuator}/>
  </actuator>
</mujoco>
"""
"""A leg whose knee never is straight, and whose foot slides out of the shin. Its model has gaps for attributes."""
KINDS = {"hip": "hinge", "knee": "hinge", "toe": "slide"}
RANGES = {"hip": [-1.0, 1.0], "knee": [-2.7, -0.85], "toe": [0.0, 0.1]}


def make_leg(folder: Path, *, joint: str = "", actuator: str = "", **changes: Any) -> RobotSpec:
    """The leg, in a folder.

    Args:
        joint: Attributes of every joint of the model.
        actuator: Attributes of every actuator.
    """
    (folder / "leg.xml").write_text(LEG.format(joint=joint, actuator=actuator))
    values = {
        "name": "leg",
        "rate": 50,
        "model": "leg.xml",
        "joints": [
            {"name": j, "kind": KINDS[j], "position": r, "velocity": 10.0, "effort": 20.0}
            for j, r in RANGES.items()
        ],
        "actuators": [
            {"name": j, "joint": j, "kind": "position", "range": r, "rate": 3 * (r[1] - r[0])}
            for j, r in RANGES.items()
        ],
    }
    return RobotSpec.from_dict({**values, **changes}, folder=folder)


def make_hinge(folder: Path, body: str, motor: str, *, options: str = "", **changes: Any) -> RobotSpec:
    """A robot with one joint named `swing` and one actuator named `swing`, from the text of its model.

    Args:
        body: Elements of the body that swings.
        motor: Element of the actuator.
        options: Elements of the model before its world.
    """
    (folder / "hinge.xml").write_text(
        f'<mujoco><compiler angle="radian"/>{options}<worldbody><body name="base" pos="0 0 0.3"/>'
        f'<body name="link" pos="0 0 0.3">{body}</body></worldbody><actuator>{motor}</actuator></mujoco>'
    )
    values = {
        "name": "hinge",
        "rate": 50,
        "model": "hinge.xml",
        "joints": [{"name": "swing", "position": [-2.0, 2.0], "velocity": 10.0, "effort": 10.0}],
        "actuators": [
            {"name": "swing", "joint": "swing", "kind": "position", "range": [-2.0, 2.0], "rate": 6.0}
        ],
    }
    return RobotSpec.from_dict({**values, **changes}, folder=folder)
