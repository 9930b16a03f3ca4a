import numpy as np

from wm_robot.evaluation.control import HiddenChange, measure_task_error


class Plants:
    """Two robots that go where they are told, and after the change a metre further."""

    def __init__(self):
        self.obs, self.last_action, self.off = np.zeros((2, 3)), np.zeros((2, 3)), 0.0

    def step(self, action):
        self.obs = action + self.off
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


def test_the_error_is_measured_after_each_step_and_the_change_comes_in_time():
    plants, crew = Plants(), Crew(velocity=3.0)
    goals = np.arange(2 * 7 * 3, dtype=float).reshape(2, 7, 3)

    def apply():
        plants.off = np.array([1.0, 0.0, 0.0])

    change = HiddenChange(step=4, apply=apply, truth_before=np.array([[1.0]]), truth_after=np.array([[2.0]]))
    error = measure_task_error(
        plants, crew, goals, change, lambda obs, goal: np.linalg.norm(obs - goal, axis=-1)
    )
    np.testing.assert_array_equal(error, [[0, 0, 0, 0, 1, 1]] * 2)
    # The oracle is told of the change with the first step lived in it, and not before.
    assert crew.told == [1, 1, 1, 1, 1, 2, 2]
    for earlier, later in zip(crew.lived, crew.lived[1:], strict=False):
        np.testing.assert_array_equal(earlier[2], later[0])
