import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.errors import ConfigError
from wm_robot.planning.mppi import Iteration, Mppi, MppiConfig, compute_largest_step
from wm_robot.planning.mppi_iteration import MppiIteration

LOW, HIGH, STEP = np.array([-1.0, -2.0]), np.array([1.0, 2.0]), np.array([0.1, 0.4])


def planner(seed: int = 0, interval: int = 1, **config) -> Mppi:
    return Mppi(MppiConfig(**config), low=LOW, high=HIGH, max_step=STEP, interval=interval, seed=seed)


class Known:
    """A landscape of plans: what follows from a plan is the plan itself."""

    def __init__(self, score):
        self.judge_plans, self.asked = score, []

    def predict_features(self, plans):
        self.asked.append(plans)
        return plans

    def evaluate(self, features, plans):
        return self.judge_plans(features)


def improving(mppi: Mppi, score) -> Iteration:
    landscape = score if isinstance(score, Known) else Known(score)
    return MppiIteration(mppi.config, low=LOW, high=HIGH, max_step=STEP).bind_objective(landscape)


def plan(mppi: Mppi, score, hold: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(mppi.plan(improving(mppi, score), hold.numpy()))


def test_every_imagined_plan_keeps_range_and_rate():
    hold, score = torch.tensor([[0.95, -1.9], [0.0, 0.0]]), Known(lambda plans: plans.sum((-1, -2)))
    mppi = planner(noise_std=1.0)
    chosen = plan(mppi, score, hold)
    for plans in [*(asked[:, : mppi.config.num_rollouts] for asked in score.asked), chosen[:, None]]:
        assert (plans >= torch.tensor(LOW) - 1e-6).all() and (plans <= torch.tensor(HIGH) + 1e-6).all()
        steps = torch.diff(
            torch.cat([hold[:, None, None].expand(-1, plans.shape[1], 1, -1), plans], 2), dim=2
        )
        assert (steps.abs() <= torch.tensor(STEP) + 1e-5).all()


def test_a_step_as_long_as_allowed_is_no_longer_when_it_is_rounded():
    low, high, step = (np.array([x], np.float32) for x in (-3.1, 3.1, 0.1))
    hold = np.random.default_rng(0).uniform(low, high, 100_000).astype(np.float32)

    def too_long(step):
        moved = np.stack([hold + step, hold - step]).astype(np.float64) - hold.astype(np.float64)
        return (np.abs(moved) > np.float64(0.1)).any()

    assert too_long(step)
    assert not too_long(compute_largest_step(step, low=low, high=high))


def test_it_finds_the_best_of_a_known_landscape():
    best = torch.tensor([0.3, -0.7])
    mppi, hold = planner(), torch.zeros(1, 2)
    for _ in range(25):
        hold = plan(mppi, lambda plans: -(plans - best).square().sum((-1, -2)), hold)[:, 0]
    assert (hold - best).abs().max() < 0.02


def test_one_robot_among_many_gets_the_plan_it_would_get_alone_on_average():
    best = torch.tensor([[0.5, 1.0], [-0.5, -1.0]])
    mppi, hold = planner(), torch.zeros(2, 2)
    for _ in range(25):
        hold = plan(mppi, lambda plans: -(plans - best[:, None, None]).square().sum((-1, -2)), hold)[:, 0]
    assert (hold - best).abs().max() < 0.03


def test_the_same_seed_gives_the_same_plan():
    def score(plans):
        return -(plans - 0.4).square().sum((-1, -2))

    one, other = (
        plan(planner(seed=3), score, torch.zeros(1, 2)),
        plan(planner(seed=3), score, torch.zeros(1, 2)),
    )
    assert torch.equal(one, other)


def test_a_plan_whose_score_is_not_finite_is_never_chosen():
    def score(plans):
        return torch.where(plans[..., 0, 0] > 0, torch.nan, -plans[..., 0].abs().sum(-1))

    mppi, hold = planner(), torch.zeros(1, 2)
    for _ in range(5):
        hold = plan(mppi, score, hold)[:, 0]
        assert hold.isfinite().all() and hold[0, 0] <= 0


def test_one_finite_score_is_enough():
    def score(plans):
        lonely = torch.full(plans.shape[:2], torch.nan)
        lonely[:, 3] = 1.0
        chosen.append(plans[:, 3])
        return lonely

    chosen = []
    found = plan(planner(refine_iterations=0), score, torch.zeros(2, 2))
    torch.testing.assert_close(found, chosen[0])


def test_what_is_linear_in_plans_is_found_by_few_of_them():
    best, far = torch.tensor([0.03, -0.06]), {}
    for rounds in (0, 6):
        found = [
            plan(
                planner(seed, refine_iterations=rounds, control_cost=0.0),
                lambda plans: -(plans - best).square().sum((-1, -2)),
                torch.zeros(1, 2),
            )
            for seed in range(20)
        ]
        far[rounds] = (torch.cat(found) - best).square().mean().sqrt()
    assert far[6] < 0.4 * far[0]


def test_plans_are_imagined_once_in_an_iteration():
    score = Known(lambda plans: plans.sum((-1, -2)))
    plan(planner(num_iterations=3, num_samples=16, num_knots=2), score, torch.zeros(1, 2))
    assert [asked.shape[1] for asked in score.asked] == [2 + 2 * 2] * 3


def test_without_rounds_and_where_there_are_fewer_all_plans_are_imagined():
    for sizes, rows in (({"refine_iterations": 0}, 16), ({"num_rollouts": 30, "num_knots": 2}, 16 + 2 * 2)):
        score = Known(lambda plans: plans.sum((-1, -2)))
        plan(planner(num_samples=16, **sizes), score, torch.zeros(1, 2))
        assert [asked.shape[1] for asked in score.asked] == [rows]


def test_where_what_follows_is_linear_it_does_not_matter_how_many_plans_are_imagined():
    found = [
        plan(
            planner(num_rollouts=imagined),
            lambda plans: -(plans - torch.tensor([0.03, -0.06])).square().sum((-1, -2)),
            torch.zeros(1, 2),
        )
        for imagined in (1, 8, 64)
    ]
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=1e-4, rtol=0)


def test_where_nothing_is_known_of_slopes_the_imagined_plans_decide():
    class Steep(Known):
        def predict_features(self, plans):
            followed = plans.clone()
            followed[:, MppiConfig.num_rollouts :] = torch.nan
            return followed

    def score(plans):
        return -(plans - 0.4).square().sum((-1, -2))

    def of_few(plans):
        few = torch.arange(plans.shape[1]) < MppiConfig.num_rollouts
        return torch.where(few, score(plans), torch.nan)

    hold = torch.zeros(1, 2)
    found, without = plan(planner(), Steep(score), hold), plan(planner(refine_iterations=0), of_few, hold)
    assert torch.equal(found, without) and found.isfinite().all()


def test_a_robot_without_a_finite_score_gets_no_plan_and_starts_anew():
    def broken(plans):
        return torch.where(torch.arange(2)[:, None] == 1, torch.nan, -plans.square().sum((-1, -2)))

    mppi, hold = planner(), torch.zeros(2, 2)
    first = plan(mppi, broken, hold)
    assert first[0].isfinite().all() and first[1].isnan().all()
    assert plan(mppi, lambda plans: -plans.square().sum((-1, -2)), hold).isfinite().all()


def counted(mppi, score, calls):
    improve = improving(mppi, score)

    def counting(mean, noise, hold):
        calls.append(mean)
        return improve(mean, noise, hold)

    return counting


def test_a_plan_of_many_iterations_is_that_many_improvements_of_the_plan_before_one_step_on():
    def score(plans):
        return -(plans - 0.4).square().sum((-1, -2))

    hold, mppi, reference = np.zeros((2, 2), np.float32), planner(num_iterations=3), planner(num_iterations=3)
    last = plan(mppi, score, torch.from_numpy(hold)).numpy()
    found = plan(mppi, score, torch.from_numpy(hold)).numpy()
    improve, expected = improving(reference, score), np.repeat(hold[:, None], 10, 1)
    for number in range(6):
        if number == 3:
            np.testing.assert_array_equal(expected, last)
            expected = np.concatenate([expected[:, 1:], expected[:, -1:]], 1)
        expected = improve(expected, reference._sample_noise(2), hold)
    np.testing.assert_array_equal(found, np.clip(expected, reference.low, reference.high))


@pytest.mark.parametrize("iterations", [1, 4])
def test_a_plan_that_is_carried_over_is_the_one_before_one_step_on_and_not_searched(iterations):
    mppi, calls, hold = planner(num_iterations=iterations), [], np.zeros((1, 2), np.float32)
    improve = counted(mppi, lambda plans: plans.sum((-1, -2)), calls)
    last = mppi.plan(improve, hold)
    assert len(calls) == iterations and mppi.replanned
    mppi.reuse_shifted_plan()
    found = mppi.plan(improve, last[:, 0])
    assert len(calls) == iterations and not mppi.replanned
    np.testing.assert_allclose(found, np.concatenate([last[:, 1:], last[:, -1:]], 1), rtol=1e-6)
    # The next one is searched again, and from there.
    mppi.plan(improve, found[:, 0])
    assert len(calls) == 2 * iterations and mppi.replanned
    np.testing.assert_array_equal(calls[iterations], np.concatenate([found[:, 1:], found[:, -1:]], 1))


def test_a_planner_with_an_interval_searches_at_its_steps_and_shifts_the_plan_between():
    mppi, calls, action = planner(interval=3), [], np.zeros((1, 2), np.float32)
    improve = counted(mppi, lambda plans: plans.sum((-1, -2)), calls)
    searched = []
    for _ in range(7):
        action = mppi.plan(improve, action)[:, 0]
        searched.append(mppi.replanned)
    assert searched == [True, False, False, True, False, False, True] and len(calls) == 3
    # A step without time for a search leaves one out, and the interval counts from the next.
    for _ in range(3):
        mppi.reuse_shifted_plan()
        mppi.plan(improve, action)
        assert not mppi.replanned
    mppi.reset()
    mppi.plan(improve, action)
    assert mppi.replanned


@pytest.mark.parametrize("interval", [0, 10])
def test_a_plan_as_short_as_the_interval_is_refused(interval):
    with pytest.raises(ConfigError, match=f"every {interval} steps, and a plan has 10. Set plan_rate"):
        planner(interval=interval)


def test_a_plan_that_is_carried_over_keeps_range_and_rate_from_where_the_robot_really_is():
    mppi, rng = planner(), np.random.default_rng(0)
    for _ in range(20):
        plan(mppi, lambda plans: plans.sum((-1, -2)), torch.zeros(1, 2))
        mppi.reuse_shifted_plan()
        hold = rng.uniform(LOW, HIGH, (1, 2)).astype(np.float32)
        found = plan(mppi, None, torch.from_numpy(hold)).numpy()
        steps = np.diff(np.concatenate([hold[:, None], found], 1), axis=1)
        assert (
            (np.abs(steps) <= STEP + 1e-5).all()
            and (found >= LOW - 1e-6).all()
            and (found <= HIGH + 1e-6).all()
        )


def test_plans_are_smooth():
    score, mppi = Known(lambda plans: plans.sum((-1, -2))), planner(noise_std=0.2)
    plan(mppi, score, torch.zeros(1, 2))
    plans = score.asked[0][0, : mppi.config.num_samples, :, 0]
    along = plans[:, :-1] - plans[:, :-1].mean(0)
    after = plans[:, 1:] - plans[:, 1:].mean(0)
    correlation = (along * after).mean() / (along.std() * after.std())
    assert correlation > 0.7


def test_with_fewer_plans_than_elites_all_of_them_count():
    hold = torch.zeros(1, 2)
    few = plan(planner(num_samples=8, num_elites=12), lambda plans: plans.sum((-1, -2)), hold)
    all_of_them = plan(planner(num_samples=8, num_elites=8), lambda plans: plans.sum((-1, -2)), hold)
    assert torch.equal(few, all_of_them)


def test_a_search_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="planner.num_samples is 0; it must be at least 1"):
        MppiConfig(num_samples=0)
    with pytest.raises(ConfigError, match="planner.refine_iterations is -1; it must be at least 0"):
        MppiConfig(refine_iterations=-1)
