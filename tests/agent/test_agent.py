"""An agent in a world that is easy to reason about: a point whose motor may be reversed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")


from wm_robot.agent import rollout_objective
from wm_robot.agent.agent import Agent
from wm_robot.agent.batch_agent import NUM_TREND_GOALS, BatchAgent
from wm_robot.agent.builder import RobotAgent
from wm_robot.agent.rollout_objective import TorchPlanner
from wm_robot.errors import InferenceError, SnapshotError
from wm_robot.model.base import load_base, save_base
from wm_robot.model.config import ModelConfig
from wm_robot.model.torch_backend import TorchBackend
from wm_robot.model.world_model import WorldModel
from wm_robot.planning.mppi import MppiConfig
from wm_robot.store.store import Store
from wm_robot.store.transfer import clone_branch
from wm_robot.store.verification import find_damage
from wm_robot.validation_record.session_error import BIN_WIDTH, read_session_metrics

PLANNER = MppiConfig(num_samples=16, horizon=4, num_iterations=1, num_elites=4)


@pytest.fixture(params=["ekf", "kalman", "semiparametric"])
def base(request, tmp_path, spec):
    torch.manual_seed(0)
    shape = ModelConfig.from_spec(spec, truth=1, memory=request.param, width=16, context=4, outcome=8)
    model = WorldModel(shape)
    save_base(tmp_path / "base", model, spec, {})
    return load_base(tmp_path / "base")


def agent(base, spec, **options) -> Agent:
    made = Agent(base, spec, task="reach", planner=PLANNER, **options)
    made.begin(np.zeros(1, np.float32))
    return made


def live(agent: Agent, steps: int, seed: int = 0) -> list[float]:
    rng = np.random.default_rng(seed)
    obs = rng.normal(size=(steps + 1, 2)).astype(np.float32)
    action = rng.normal(size=(steps, 1)).astype(np.float32)
    return [agent.observe(obs[t], action[t], obs[t + 1]).nll for t in range(steps)]


def agents_in_torch(base, spec, planner) -> BatchAgent:
    plans = TorchPlanner(base.model, spec, task="reach", planner=planner)
    return BatchAgent(TorchBackend(base.model), plans, spec)


@pytest.mark.parametrize(("steps", "saves"), [(50, 4), pytest.param(200, 10, marks=pytest.mark.soak)])
@pytest.mark.parametrize("memory", ["gru", "delta", "kalman", "hope", "kv", "ridge", "ekf"])
def test_saved_and_resumed_equals_never_stopped(tmp_path, spec, memory, steps, saves):
    torch.manual_seed(0)
    shape = ModelConfig.from_spec(spec, truth=1, memory=memory, width=16, context=4, outcome=8)
    save_base(tmp_path / "base", WorldModel(shape), spec, {})
    base = load_base(tmp_path / "base")
    rng = np.random.default_rng(0)
    obs, action = (rng.normal(size=(steps + 1, n)).astype(np.float32) for n in (2, 1))

    def lived(stops: set[int]) -> tuple[Agent, list[float]]:
        now, said = agent(base, spec), []
        for t in range(steps):
            if t in stops:
                now.save(tmp_path / "state")
                now = Agent(base, spec, task="reach", planner=PLANNER)
                # What is on its way to the motors comes from the body, not from the file.
                now.begin(action[max(0, t - shape.recent) : t], tmp_path / "state")
            said.append(now.observe(obs[t], action[t], obs[t + 1]).nll)
        return now, said

    stops = {shape.recent + int(t) for t in rng.choice(steps - shape.recent, saves, replace=False)}
    (whole, heard), (stopped, told) = lived(set()), lived(stops)
    assert heard == told
    assert whole.state.flatten().keys() == stopped.state.flatten().keys()
    for name, value in whole.state.flatten().items():
        np.testing.assert_array_equal(stopped.state.flatten()[name], value, err_msg=name)
    assert len(list(Store(tmp_path / "state").iterate_lineage())) == saves


def test_a_life_that_goes_on_draws_the_noise_of_plans_that_it_would_have_drawn(tmp_path, base, spec):
    obs, goal = np.zeros(2, np.float32), np.array([0.0, 1.0, 0.0], np.float32)
    # Where it does not know how far to go, and so does not always go as fast as it may.
    planner = replace(PLANNER, refine_iterations=0)
    whole = Agent(base, spec, task="reach", planner=planner)
    whole.begin(np.zeros(1, np.float32))
    for _ in range(3):
        whole.observe(obs, whole.act(obs, goal), obs)
    whole.save(tmp_path / "state")
    # A plan is of a moment, and a body that stood still for a while begins a new one.
    whole._batch._planner.reset()
    expected = [whole.act(obs, goal) for _ in range(3)]

    def acting(restore=None, seed=0) -> list[np.ndarray]:
        now = Agent(base, spec, task="reach", planner=planner, seed=seed)
        now.begin(whole.state.recent[0], restore)
        return [now.act(obs, goal) for _ in range(3)]

    for seed in (0, 1):
        np.testing.assert_array_equal(acting(tmp_path / "state", seed), expected)
    assert not np.array_equal(acting(), expected)


def test_a_frozen_or_invalid_step_changes_no_memory(base, spec):
    for options, valid in (({"learning": False}, True), ({}, False)):
        frozen = agent(base, spec, **options)
        before = {k: v.copy() for k, v in frozen.state.flatten().items()}
        frozen.observe(np.ones(2, np.float32), np.ones(1, np.float32), np.zeros(2, np.float32), valid=valid)
        after = frozen.state.flatten()
        assert all(np.array_equal(after[k], before[k]) for k in before if k not in ("recent", "step"))
        assert after["step"].item() == 0
        assert after["recent"][0, -1].item() == 1.0


def test_a_life_counts_its_steps_over_sessions_and_a_frozen_one_adds_none(tmp_path, base, spec):
    lived = agent(base, spec)
    live(lived, 5)
    assert lived.counters == {"num_steps": 5, "num_valid": 5, "num_invalid": 0}
    lived.save(tmp_path / "state")
    frozen = agent(base, spec, learning=False)
    frozen.begin(np.zeros(1, np.float32), tmp_path / "state")
    live(frozen, 3)
    assert frozen.counters == {"num_steps": 5, "num_valid": 3, "num_invalid": 0}
    frozen.save(tmp_path / "state")
    resumed = agent(base, spec)
    resumed.begin(np.zeros(1, np.float32), tmp_path / "state")
    live(resumed, 2)
    assert resumed.counters == {"num_steps": 7, "num_valid": 2, "num_invalid": 0}


def test_acting_before_a_step_is_lived_starts_from_what_was_applied(base, spec):
    rng = np.random.default_rng(0)
    obs, goal = rng.normal(size=(2, 2)).astype(np.float32), np.array([0.0, 1.0, 0.0], np.float32)
    applied = np.array([0.7], np.float32)
    first, frozen = agent(base, spec), agent(base, spec, learning=False)
    # A frozen life is the same before and after the step: only the action in force differs.
    frozen.observe(obs[0], applied, obs[1])
    np.testing.assert_array_equal(first.act(obs[1], goal, applied=applied), frozen.act(obs[1], goal))
    assert first.counters["num_steps"] == 0
    assert first.state.recent[0, -1].item() == 0.0


def test_a_life_saved_without_a_bank_goes_on_with_an_empty_one(base, spec, tmp_path):
    plain = agent(base, spec, use_context_bank=False)
    live(plain, 3)
    plain.save(tmp_path)
    resumed = agent(base, spec)
    resumed.begin(np.zeros(1, np.float32), tmp_path)
    state = resumed.state
    assert (state.bank.last_used == -1).all()
    for name, value in plain.state.flatten().items():
        if name != "recent":
            np.testing.assert_array_equal(state.flatten()[name], value, err_msg=name)


def test_every_action_keeps_the_limits_of_the_spec(base, spec):
    acting, hold = agent(base, spec), np.zeros(1, np.float32)
    for _ in range(20):
        obs = np.array([0.9, 0.0], np.float32)
        action = acting.act(obs, np.array([0.0, 1.0, 0.0], np.float32))
        assert np.isfinite(action).all()
        assert abs(action - hold).item() <= 5.0 / 50 + 1e-6
        assert -1.0 <= action.item() <= 1.0
        acting.observe(obs, action, obs)
        hold = action


class Noted:
    """A score that tells when it is asked to imagine."""

    def __init__(self, score, tell):
        self.score, self.evaluate, self.tell = score, score.evaluate, tell

    def predict_features(self, plans):
        self.tell()
        return self.score.predict_features(plans)


def test_a_plan_looks_at_its_moment_in_every_iteration_and_at_goals_as_they_will_move(
    base, spec, monkeypatch
):
    planner = MppiConfig(num_samples=16, horizon=4, num_iterations=3, num_elites=4)
    acting = agents_in_torch(base, spec, planner)
    acting.begin(np.zeros((2, 1)))
    seen, scoring = [], rollout_objective.make_objective

    def noted(model, reward, state, obs, goals, **options):
        score = scoring(model, reward, state, obs, goals, **options)
        return Noted(score, lambda: seen.append((obs, goals, state.recent)))

    monkeypatch.setattr(rollout_objective, "make_objective", noted)
    obs, goal = np.full((2, 2), 0.1, np.float32), np.array([[0.0, 1.0, 0.0]] * 2, np.float32)
    action = acting.act(obs, goal)
    assert len(seen) == 3
    acting.observe(obs, action, obs)
    assert len(seen) == 3
    acting.act(obs, goal)
    assert len(seen) == 6
    for expected, _, recent in seen[3:]:
        torch.testing.assert_close(expected, torch.tensor(obs))
        torch.testing.assert_close(recent[:, -1], torch.tensor(action))
    # A goal that moves is expected to go on as it did.
    for t in range(NUM_TREND_GOALS):
        acting.act(obs, goal + np.float32([0.01 * t**2, 0.0, 0.0]))
    now = torch.arange(NUM_TREND_GOALS, NUM_TREND_GOALS + 4) ** 2 / 100
    torch.testing.assert_close(seen[-1][1][0, :, 0], now, atol=1e-4, rtol=0)


@pytest.mark.parametrize("iterations", [1, 3])
def test_in_a_hurry_it_lives_as_ever_and_every_other_plan_is_not_searched(
    base, spec, monkeypatch, iterations
):
    planner = MppiConfig(num_samples=16, horizon=4, num_iterations=iterations, num_elites=4)
    steps, scored, scoring = {}, [], rollout_objective.make_objective

    def noted(*inputs, **options):
        return Noted(scoring(*inputs, **options), lambda: scored.append(inputs))

    monkeypatch.setattr(rollout_objective, "make_objective", noted)
    obs, action, goal = np.float32([0.1, 0.2]), np.float32([0.3]), np.float32([0.0, 1.0, 0.0])
    for hurry in (False, True):
        agent = Agent(base, spec, task="reach", planner=planner)
        agent.begin(np.zeros(1))
        searched = []
        for _ in range(4):
            before = len(scored)
            agent.act(obs, goal)
            told = agent.observe(obs, action, obs + np.float32(0.05), skip_optional=hurry)
            searched.append(len(scored) - before)
        steps[hurry] = searched, told.nll, agent.state
    assert steps[False][0] == [iterations] * 4
    assert steps[True][0] == [iterations, 0] * 2
    assert steps[False][1] == steps[True][1]
    for name, value in steps[False][2].flatten().items():
        np.testing.assert_array_equal(steps[True][2].flatten()[name], value, err_msg=name)


def test_a_plan_that_was_not_searched_is_none_where_sensors_tell_nothing(base, spec):
    acting, obs, goal = agent(base, spec), np.zeros(2, np.float32), np.float32([0.0, 1.0, 0.0])
    action = acting.act(obs, goal)
    acting.observe(obs, action, obs, skip_optional=True)
    with pytest.raises(InferenceError, match="Sensors .* are not finite"):
        acting.act(np.float32([np.nan, 0.0]), goal)


def test_a_goal_that_jitters_is_not_chased(base, spec):
    planner, rng = MppiConfig(horizon=10), np.random.default_rng(0)
    acting = agents_in_torch(base, spec, planner)
    jitter = 0.001 * rng.standard_normal((300, 1, 3)).astype(np.float32)
    expected = np.stack([acting._extrapolate_goals(goal) for goal in jitter])[NUM_TREND_GOALS:]
    assert expected[:, 0, 0].std() < 0.002
    assert expected[:, 0, 9].std() < 0.016


def test_surprise_is_the_gaussian_likelihood_of_what_came(base, spec):
    said = agent(base, spec).observe(np.zeros(2, np.float32), np.zeros(1, np.float32), np.ones(2, np.float32))
    expected = -np.log(
        np.exp(-0.5 * ((1 - said.mean) / said.deviation) ** 2) / (said.deviation * np.sqrt(2 * np.pi))
    )
    assert said.nll == pytest.approx(expected.mean(), rel=1e-4)


def test_many_agents_live_as_each_would_alone(base, spec):
    rng = np.random.default_rng(0)
    obs, action = rng.normal(size=(3, 11, 2)), rng.normal(size=(3, 10, 1))
    together = agents_in_torch(base, spec, PLANNER)
    together.begin(np.zeros((3, 1)))
    for t in range(10):
        together.observe(obs[:, t], action[:, t], obs[:, t + 1])
    alone = agents_in_torch(base, spec, PLANNER)
    alone.begin(np.zeros((1, 1)))
    for t in range(10):
        alone.observe(obs[1:2, t], action[1:2, t], obs[1:2, t + 1])
    many = together.state.flatten()
    for name, value in alone.state.flatten().items():
        np.testing.assert_allclose(value[0], many[name][1], atol=1e-5, rtol=1e-5)


def test_a_damaged_state_and_one_of_another_base_are_refused(tmp_path, base, spec):
    lived = agent(base, spec)
    live(lived, 3)
    lived.save(tmp_path / "state")
    torch.manual_seed(1)
    other = WorldModel(ModelConfig.from_spec(spec, truth=1, width=16, context=4, outcome=8))
    save_base(tmp_path / "other", other, spec, {})
    with pytest.raises(SnapshotError, match="base_digest"):
        agent(load_base(tmp_path / "other"), spec).begin(np.zeros(1), tmp_path / "state")
    tensors = next(Path(tmp_path / "state").rglob("*.safetensors"))
    content = bytearray(tensors.read_bytes())
    content[-1] ^= 1
    tensors.write_bytes(content)
    with pytest.raises(SnapshotError, match="damaged"):
        agent(base, spec).begin(np.zeros(1), tmp_path / "state")


def test_a_life_saved_again_goes_on_in_its_line(tmp_path, base, spec):
    lived = agent(base, spec)
    for _ in range(3):
        live(lived, 2)
        lived.save(tmp_path / "state")
    assert [each.steps for each in Store(tmp_path / "state").iterate_lineage()] == [6, 4, 2]


def test_a_life_goes_on_in_another_store_with_all_it_comes_from(tmp_path, base, spec):
    lived = agent(base, spec)
    live(lived, 3)
    first = lived.save(tmp_path / "pretrained")
    other = agent(base, spec)
    other.begin(np.zeros(1, np.float32), tmp_path / "pretrained")
    live(other, 2)
    second = other.save(f"{tmp_path / 'robot'}@left")
    line = list(Store(tmp_path / "robot").iterate_lineage("left"))
    assert [(each.digest, each.steps) for each in line] == [(second, 5), (first, 3)]
    assert find_damage(Store(tmp_path / "robot")) == []


def test_a_copy_that_was_rescued_brings_the_life_back_to_where_it_was(tmp_path, base, spec):
    lived = agent(base, spec)
    live(lived, 3)
    lived.save(tmp_path / "state")
    live(lived, 2)
    copied = lived.rescue(tmp_path / "second")
    store, second = Store(tmp_path / "state"), Store(tmp_path / "second")
    # What it comes from takes no room there.
    assert [second.is_pruned(each) for each in second.iterate_lineage()] == [False, True]
    assert clone_branch(store, second, "main") == copied and [
        each.steps for each in store.iterate_lineage()
    ] == [5, 3]
    back = agent(base, spec)
    back.begin(np.zeros(1, np.float32), tmp_path / "state")
    for name, value in lived.state.flatten().items():
        if name != "recent":
            np.testing.assert_array_equal(back.state.flatten()[name], value)


def test_a_life_that_was_copied_still_goes_on_from_where_it_was_saved(tmp_path, base, spec):
    lived = agent(base, spec)
    live(lived, 3)
    first = lived.save(tmp_path / "state")
    lived.rescue(tmp_path / "second")
    live(lived, 2)
    second = lived.save(tmp_path / "state")
    assert [each.digest for each in Store(tmp_path / "state").iterate_lineage()] == [second, first]


def test_a_life_whose_store_is_gone_is_copied_without_its_line(tmp_path, base, spec):
    lived = agent(base, spec)
    live(lived, 3)
    lived.save(tmp_path / "state")
    live(lived, 2)
    (tmp_path / "state").rename(tmp_path / "unplugged")
    copied = lived.rescue(tmp_path / "second")
    (line,) = Store(tmp_path / "second").iterate_lineage()
    assert (line.digest, line.steps) == (copied, 5)
    # Nor does it look like a lifetime from the initial state, whose validation record would then count.
    assert line.origin == {"snapshot": Store(tmp_path / "unplugged").read_manifest().digest, "parents": []}


def test_a_saved_session_has_its_prediction_error_in_the_manifest(tmp_path, base, spec):
    lived = agent(base, spec)
    lived.begin(np.zeros(1, np.float32))
    nll = live(lived, 40)
    lived.save(tmp_path / "state")
    steps, errors = read_session_metrics(Store(tmp_path / "state").read_manifest().metrics)
    assert steps == 40 and errors == lived.session_error.compute_errors()
    exact = np.quantile(nll, 0.5, method="inverted_cdf")
    assert exact <= errors["surprise_p50"] <= exact + BIN_WIDTH
    other = agent(base, spec)
    other.begin(np.zeros(1, np.float32), tmp_path / "state")
    assert other.session_error.num_steps == 0, "a session begins anew"


def test_an_agent_says_what_it_runs(tmp_path, base, spec):
    lived = agent(base, spec)
    lived.begin(np.zeros(1, np.float32))
    lineage = RobotAgent(lived, None, None).lineage
    assert (lineage.base, lineage.store, lineage.snapshot, lineage.steps) == (base.digest, None, "", 0)
    live(lived, 3)
    saved = lived.save(tmp_path / "state")
    live(lived, 2)
    lineage = RobotAgent(lived, None, None).lineage
    assert (lineage.store.folder, lineage.snapshot, lineage.steps) == (tmp_path / "state", saved, 5)


def test_a_newborn_does_not_take_the_place_of_a_life(tmp_path, base, spec):
    lived = agent(base, spec)
    live(lived, 3)
    lived.save(tmp_path / "state")
    newborn = agent(base, spec)
    newborn.begin(np.zeros(1, np.float32))
    with pytest.raises(
        SnapshotError, match="branch 'main' in .* is at .*, from which this state does not continue"
    ):
        newborn.save(tmp_path / "state")
    newborn.save(f"{tmp_path / 'state'}@new")
    assert Store(tmp_path / "state").read_manifest().steps == 3


def test_a_broken_life_is_not_saved_over_a_good_one(tmp_path, base, spec):
    lived = agent(base, spec)
    live(lived, 3)
    digest = lived.save(tmp_path / "state")
    name, value = max(lived.state.memory[0].items())
    lived._batch._state = lived.state.with_memory(0, **{name: value * float("nan")})
    lived._batch._update_snapshot_content()
    with pytest.raises(SnapshotError, match=rf"\['0.{name}'\] of the lifetime state are not finite"):
        lived.save(tmp_path / "state")
    agent(base, spec).begin(np.zeros(1, np.float32), tmp_path / "state")
    assert Store(tmp_path / "state").read_manifest().digest == digest


def test_it_imagines_what_it_then_expects_of_the_plan_that_it_acts_on(base, spec):
    acting = agent(base, spec)
    assert acting.predict_plan() is None
    live(acting, 10)
    obs, goal = np.float32([0.3, -0.2]), np.float32([0.1, 0.0, 0.0])
    action = acting.act(obs, goal)
    imagined = acting.predict_plan()
    np.testing.assert_array_equal(imagined.action[0], action)
    assert imagined.mean.shape == imagined.deviation.shape == (PLANNER.horizon, 2)
    assert (np.diff(imagined.deviation, axis=0) > 0).all(), "it is no less sure of what comes later"
    # Nothing is changed by it, and the first step is what it says that it expected when that was lived.
    before = {name: value.copy() for name, value in acting.state.flatten().items()}
    acting.predict_plan()
    after = acting.state.flatten()
    assert all(np.array_equal(after[name], value) for name, value in before.items())
    surprise = acting.observe(obs, action, obs)
    np.testing.assert_allclose(imagined.mean[0], surprise.mean, atol=1e-5)
    np.testing.assert_allclose(imagined.deviation[0], surprise.deviation, rtol=1e-4)
