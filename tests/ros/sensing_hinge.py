"""A hinge with a sensor of every kind, and a small base that is trained for it."""

import json
from pathlib import Path
from typing import Any

import yaml

from wm_robot.robots import load_spec
from wm_robot.spec import RobotSpec

MODEL = """
<mujoco model="hinge">
  <compiler angle="radian"/>
  <option timestep="0.002"/>
  <worldbody>
    <geom type="plane" size="2 2 0.1"/>
    <geom type="box" pos="1.1 0 0.5" size="0.1 1 1.5"/>
    <geom type="box" pos="-0.9 0 0.5" size="0.1 1 1.5"/>
    <body name="link" pos="0 0 0.6">
      <joint name="swing" axis="0 1 0" range="-1.5 1.5" damping="0.3"/>
      <geom type="capsule" size="0.02" fromto="0 0 0 0.3 0 0" mass="0.3"/>
      <body name="hand" pos="0.3 0 0">
        <geom type="sphere" size="0.03" mass="0.2"/>
        <site name="front" pos="0.05 0 0"/>
        <site name="side" pos="0 0 0" euler="-1.5707963 0 0"/>
      </body>
    </body>
  </worldbody>
  <actuator><position name="swing" joint="swing" kp="20" kv="1" ctrlrange="-1.5 1.5"/></actuator>
  <sensor>
    <actuatorfrc name="pull" actuator="swing"/>
    <jointpos name="angle" joint="swing"/>
    <jointvel name="speed" joint="swing"/>
    <subtreecom name="middle" body="link"/>
  </sensor>
</mujoco>
"""
SENSORS: dict[str, dict[str, Any]] = {
    "imu": {
        "kind": "imu",
        "frame": "front",
        "fields": ["angular_velocity", "linear_acceleration"],
        "noise": {"angular_velocity": 0.02, "linear_acceleration": 0.1},
        "rate": 100,
    },
    "wrist": {"kind": "wrench", "frame": "hand", "limits": {"force": 20, "torque": 5}, "noise": 0.02},
    "pull": {"kind": "contact", "frame": "hand", "limits": 20, "source": "pull", "noise": 0.05},
    "ahead": {"kind": "range", "frame": "front", "limits": 2, "noise": 0.005},
    "lidar": {"kind": "scan", "frame": "side", "size": 4, "limits": 2, "noise": 0.005, "rate": 25},
    "odom": {
        "kind": "odometry",
        "frame": "hand",
        "fields": ["height", "linear_velocity"],
        "limits": 3,
        "noise": 0.005,
        "rate": 5,
        "max_age": 0.5,
    },
    "mark": {"kind": "pose", "frame": "hand", "fields": ["position"], "limits": 2, "noise": 0.005},
    "motion": {"kind": "twist", "frame": "front", "limits": {"linear_velocity": 3}, "noise": 0.02},
    "battery": {"kind": "battery", "source": "angle", "noise": 0.01},
    "heat": {"kind": "temperature", "source": "speed", "noise": 0.02},
    "middle": {"kind": "vector", "size": 3, "limits": 2, "source": "middle", "noise": 0.005},
    "angle": {"kind": "scalar", "limits": 3, "source": "angle", "noise": 0.005},
}
"""Sensor → what its spec says, one of each kind. Battery and temperature follow the joint, so that they change."""
TASKS = {"follow": {"reward": "track_joints", "goal": 1}}


def write_hinge(folder: Path, *names: str, name: str = "hinge", **changes: dict[str, Any]) -> Path:
    """Write the spec of a hinge with some of `SENSORS`, and its model.

    Args:
        changes: Sensor → what differs.
    """
    (folder / "hinge.xml").write_text(MODEL)
    limits = {"position": [-1.5, 1.5], "velocity": 10.0, "effort": 10.0}
    servo = {"name": "swing", "joint": "swing", "kind": "position", "range": [-1.5, 1.5], "rate": 6.0}
    spec = RobotSpec.from_dict(
        {
            "name": name,
            "rate": 50,
            "model": "hinge.xml",
            "joints": [{"name": "swing", **limits}],
            "actuators": [servo],
            "sensors": [{"name": each, **SENSORS[each], **changes.get(each, {})} for each in names],
            "tasks": TASKS,
            "world": {"gain": [0.7, 1.4], "position_noise": 0.002, "velocity_noise": 0.02},
        },
        folder=folder,
    )
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(spec.to_dict(), default=dict))))
    return path


PLANNER = {"num_samples": 32, "horizon": 6, "num_iterations": 1}


def train_small_base(path: Path, *, updates: int, trajectories: int = 256, has_graphs: bool = False) -> Path:
    """Train a small base on random motion, with ONNX models or for torch alone; return its folder."""
    import torch

    from wm_robot.model.base import load_base, save_base
    from wm_robot.model.config import ModelConfig
    from wm_robot.model.world_model import WorldModel
    from wm_robot.planning.mppi import MppiConfig
    from wm_robot.training.export.base_graphs import export_graphs
    from wm_robot.training.sensor_faults import SensorFaults
    from wm_robot.training.train_config import TrainConfig
    from wm_robot.training.trainer import Trainer
    from wm_robot_cli.check import load_described_spec
    from wm_robot_cli.trajectory_collector import TrajectoryCollector
    from wm_robot_sim.worlds import DomainRandomization

    spec = load_described_spec(str(path))
    torch.manual_seed(0)
    config = TrainConfig(
        updates=updates, batch_size=16, segment_steps=32, collect_at=(), checkpoint_interval=updates
    )
    truth = len(DomainRandomization(spec).parameter_names)
    collector = TrajectoryCollector(
        spec=spec,
        task="follow",
        num_trajectories=(trajectories, 1),
        steps=256,
        static_share=0.0,
        seed=0,
        threads=1,
        nominal_only=False,
    )
    folder = path.parent
    trainer = Trainer(
        WorldModel(ModelConfig.from_spec(spec, truth=truth, memory="ekf", width=64, context=16, outcome=32)),
        config,
        folder=folder / "run",
        data=folder / "data",
        trajectory_source=collector,
        sensor_faults=SensorFaults(spec.layout, config.sensor_faults),
    )
    list(trainer.run())
    save_base(folder / "base", trainer.model.eval().requires_grad_(False), load_spec(path), {})
    if has_graphs:
        planner, base = MppiConfig(**PLANNER), load_base(folder / "base")
        export_graphs(folder / "base", base, load_spec(path), task="follow", planner=planner)
    return folder / "base"
