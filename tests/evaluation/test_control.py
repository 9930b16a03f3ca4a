import math

import numpy as np

from wm_robot.evaluation.control import HiddenChange, measure_task_error
from wm_robot.spec import Actuator, Joint, RobotSpec, Task
from wm_robot.tasks import TaskError


class Plants:
    """Two robots that go where they are told, and after the change a metre further."""

    def __init__(self):
        self.obs, self.last_action, self.off = np.zeros((2, 6)), np.zeros((2, 3)), 0.0

    def step(self, action):
        self.obs = np.concatenate([action + self.off, np.ones((2, 3))], -1)
        return self.obs, action

    def compute_true_obs(self):
        return self.obs


class Crew:
    """Goes straight to where the goal will be and keeps notes."""

    def __init__(self, velocity):
        self.velocity, self.told, self.lived = velocity, [], []

    def begin(self, hold, truth=None):
        self.told.append(truth.item(0))

    def act(self, obs, goal):
        return goal + self.velocity

    def observe(self, obs, applied, next_obs, *, truth=None):
        self.told.append(truth.item(0))
        self.lived.append((obs.copy(), applied.copy(), next_obs.copy()))


def track_positions() -> TaskError:
    """Root-mean-square error of three slides that are the whole observation."""
    limits = {"kind": "slide", "position": (-100, 100), "velocity": 1, "effort": 1}
    joints = tuple(Joint(name=name, **limits) for name in "xyz")
    motors = tuple(
        Actuator(name=joint.name, joint=joint.name, kind="position", range=(-1, 1), rate=1)
        for joint in joints
    )
    # The reward senses velocities too, which do not count in the error.
    spec = RobotSpec(name="slides", rate=50, model="", joints=joints, actuators=motors)
    return TaskError(spec, Task(reward="track_joints", goal=3))


def test_the_error_is_measured_after_each_step_and_the_change_comes_in_time():
    plants, crew = Plants(), Crew(velocity=3.0)
    goals = np.arange(2 * 7 * 3, dtype=float).reshape(2, 7, 3)

    def apply():
        plants.off = np.array([math.sqrt(3), 0.0, 0.0])

    change = HiddenChange(step=4, apply=apply, truth_before=np.array([[1.0]]), truth_after=np.array([[2.0]]))
    error = measure_task_error(plants, crew, goals, change, track_positions())
    np.testing.assert_allclose(error, [[0, 0, 0, 0, 1, 1]] * 2)
    # The oracle is told of the change with the first step lived in it, and not before.
    assert crew.told == [1, 1, 1, 1, 1, 2, 2]
    for earlier, later in zip(crew.lived, crew.lived[1:], strict=False):
        np.testing.assert_array_equal(earlier[2], later[0])


def test_a_robot_can_change_and_return_in_one_episode():
    plants, crew = Plants(), Crew(velocity=3.0)
    goals = np.arange(2 * 7 * 3, dtype=float).reshape(2, 7, 3)

    def change_at(step: int, off: float, truth: float) -> HiddenChange:
        def apply():
            plants.off = np.array([off, 0.0, 0.0])

        nominal = np.array([[1.0]])
        return HiddenChange(step=step, apply=apply, truth_before=nominal, truth_after=np.array([[truth]]))

    on, off = change_at(2, math.sqrt(3), 2.0), change_at(4, 0.0, 1.0)
    error = measure_task_error(plants, crew, goals, on, track_positions(), later=(off,))
    np.testing.assert_allclose(error, [[0, 0, 1, 1, 0, 0]] * 2)
    assert crew.told == [1, 1, 1, 2, 2, 1, 1]
