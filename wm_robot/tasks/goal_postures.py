"""Goal postures of a task: joint positions that put the tip at its goal, and the task that tracks them."""

from dataclasses import replace

from wm_robot.spec import RobotSpec, Task

POINT_REWARD = "reach"
"""Reward whose goal starts with a point for the tip."""
POSTURE_SUFFIX = "-posture"
SPEED_COST = 0.001
"""Cost of joint speed on a detour: small, since it is fast or of no use."""


def name_posture_task(task: str) -> str:
    """Return the name of the task that tracks the goal postures of a task."""
    return task + POSTURE_SUFFIX


def make_posture_task(spec: RobotSpec, task: str) -> Task | None:
    """Return the task that tracks goal postures; None for a task or a robot that has none.

    A robot has them if its task is to reach a point, and its chain has sensed joints, each with a servo.
    """
    named = spec.find_task(task)
    joints = [link.joint for link in spec.chain]
    servos = {actuator.joint for actuator in spec.actuators if actuator.is_servo}
    if named.reward != POINT_REWARD or not joints or not servos.issuperset(joints):
        return None
    if not {"position", "velocity"}.issubset(spec.interfaces):
        return None
    parameters = {"joints": joints, "speed_cost": SPEED_COST}
    return Task(reward="track_joints", goal=len(joints), parameters=parameters)


def add_posture_task(spec: RobotSpec, task: str) -> RobotSpec | None:
    """Return a spec with the task that tracks goal postures of a task; None if there are none."""
    posture = make_posture_task(spec, task)
    if posture is None:
        return None
    return replace(spec, tasks={**spec.tasks, name_posture_task(task): posture})
