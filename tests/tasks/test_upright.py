import numpy as np
import pytest

from tests.tasks.robots import ACTION, NO_GOAL, cart_pole, robot
from wm_robot.errors import SpecError
from wm_robot.spec import Task
from wm_robot.tasks import make_reward


def cart_pole_reward(name, **parameters):
    reward = make_reward(cart_pole(), Task(reward=name, parameters=parameters))

    def compute(slide=0.0, hinge=0.0, speed=0.0, spin=0.0):
        return float(reward(np.zeros(4), ACTION, np.array([slide, hinge, speed, spin]), NO_GOAL))

    return compute


def test_swingup_is_best_upright_at_rest_in_the_middle():
    reward = cart_pole_reward("swingup")
    assert reward() == pytest.approx(1)
    assert reward(hinge=np.pi) == pytest.approx(0, abs=1e-12)
    assert reward(slide=1.0) == reward(spin=10.0) == pytest.approx(0.5)
    assert cart_pole_reward("swingup", rail=2.0)(slide=2.0) == pytest.approx(0.5)


def test_balance_is_best_upright_at_rest_in_the_middle():
    reward = cart_pole_reward("balance")
    assert reward() == pytest.approx(1)
    assert reward(hinge=0.05) == pytest.approx(np.cos(0.05) - (np.sin(0.05) / 0.1) ** 2)
    assert reward(spin=0.1) == pytest.approx(1 - (0.026 / 0.1) ** 2)
    assert reward(slide=0.5, speed=-0.5) == pytest.approx(1)
    assert reward(slide=0.5) == reward(speed=0.5) == pytest.approx(1 - (0.05 / 0.1) ** 2)


def test_balance_counts_how_far_the_pole_falls_and_not_where_it_is():
    reward = cart_pole_reward("balance")
    # It rises as fast as it falls, and so it stops upright.
    assert reward(hinge=0.05, spin=-np.sin(0.05) / 0.26) == pytest.approx(np.cos(0.05))
    # The cart is off the middle, and the pole leans by as much as brings it back.
    assert reward(hinge=-0.05, slide=np.sin(0.05) / 0.1) == pytest.approx(np.cos(0.05))


def test_a_pole_without_a_cart_is_balanced_too():
    reward = make_reward(robot(("a", "b", "c"), chain=[]), Task(reward="balance", parameters={"pole": "b"}))
    seen = np.array([9.0, 0.05, 9.0, 9.0, 0.1, 9.0])
    tilt = np.sin(0.05) + 0.26 * 0.1
    assert reward(seen, ACTION, seen, NO_GOAL) == pytest.approx(np.cos(0.05) - (tilt / 0.1) ** 2)


def test_upright_is_the_cosine_minus_costs_of_height_and_speed():
    body = robot(("rootz", "rooty"), chain=[])
    task = Task(
        reward="upright",
        parameters={"joint": "rooty", "height_joint": "rootz", "height": 1.2, "speed_cost": 0.1},
    )
    reward = make_reward(body, task)

    def compute(height, angle, turning):
        return reward(np.zeros(4), ACTION, np.array([height, angle, 9.0, turning]), NO_GOAL)

    assert compute(1.2, 0.0, 0.0) == pytest.approx(1)
    assert compute(1.0, 0.3, 2.0) == pytest.approx(np.cos(0.3) - 0.2**2 - 0.1 * 2.0**2)
    alone = make_reward(body, Task(reward="upright", parameters={"joint": "rooty"}))
    assert alone(np.zeros(4), ACTION, np.array([9.0, np.pi, 9.0, 9.0]), NO_GOAL) == pytest.approx(-1)


def test_a_standing_body_may_be_below_the_zero_of_its_slide():
    parameters = {"joint": "rooty", "height_joint": "rootz", "height": -0.1}
    reward = make_reward(robot(("rootz", "rooty"), chain=[]), Task(reward="upright", parameters=parameters))
    assert reward(np.zeros(4), ACTION, np.array([-0.1, 0.0, 9.0, 9.0]), NO_GOAL) == pytest.approx(1)


@pytest.mark.parametrize("name", ["swingup", "balance"])
def test_a_cart_and_a_pole_are_needed(name):
    with pytest.raises(SpecError, match=f"{name} needs a cart and a pole; robot 'pair' has joints"):
        make_reward(robot(("a", "b", "c"), chain=[]), Task(reward=name))


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("balance", {"pole": "nose"}, r"parameter 'pole' of reward 'balance' is 'nose'; it must be a joint"),
        ("balance", {"cart": "nose"}, "parameter 'cart' of reward 'balance' is 'nose'"),
        ("balance", {"fall_time": 0}, "parameter 'fall_time' of reward 'balance' is 0; .* above 0"),
        ("balance", {"lean": float("nan")}, "parameter 'lean' of reward 'balance' is nan"),
        ("swingup", {"rail": float("inf")}, "parameter 'rail' of reward 'swingup' is inf"),
        (
            "upright",
            {},
            r"parameter 'joint' of reward 'upright' is ''; it must be a joint .*'slide', 'hinge'",
        ),
        ("upright", {"joint": "hinge", "height_joint": "nose"}, "parameter 'height_joint' .* is 'nose'"),
        (
            "upright",
            {"joint": "hinge", "height": float("inf")},
            "parameter 'height' .* is inf; .* a finite number",
        ),
        ("upright", {"joint": "hinge", "mass": 1}, r"does not accept the parameters \['joint', 'mass'\]"),
    ],
)
def test_a_task_that_does_not_fit_the_robot_is_refused(name, parameters, words):
    with pytest.raises(SpecError, match=words):
        make_reward(cart_pole(), Task(reward=name, parameters=parameters))


@pytest.mark.parametrize("name", ["swingup", "balance"])
def test_a_task_without_a_goal_has_none(name):
    with pytest.raises(SpecError, match=f"reward '{name}' has a goal of 0 values"):
        make_reward(cart_pole(), Task(reward=name, goal=3))
