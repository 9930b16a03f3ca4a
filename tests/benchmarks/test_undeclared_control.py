"""Control with undeclared effects: scenes, figures, and what MuJoCo itself would plan."""

from dataclasses import replace

import numpy as np
import pytest

pytestmark = [pytest.mark.learn, pytest.mark.sim]
torch = pytest.importorskip("torch")
pytest.importorskip("mujoco")

from wm_robot.errors import ConfigError
from wm_robot.evaluation.gap import Comparison
from wm_robot.memory.lifetime_state import LearnedState, LifetimeState
from wm_robot.memory.registry import DEFAULT_MEMORY
from wm_robot.model.backend import Prediction
from wm_robot.progress import ignore_progress
from wm_robot.robots import load_spec
from wm_robot.types import Step
from wm_robot_benchmarks.control import ControlBench
from wm_robot_benchmarks.measures import undeclared_control, undeclared_episodes
from wm_robot_benchmarks.measures.false_histories import OtherLife, ResetMemory
from wm_robot_benchmarks.measures.simulator_planner import SimulatorTwin
from wm_robot_benchmarks.measures.undeclared_control import Phases, compute_figures, split_phases
from wm_robot_benchmarks.measures.undeclared_episodes import (
    BEFORE_S,
    EFFECT_S,
    FROZEN,
    OTHER_LIFE,
    RESET,
    RETURN_S,
    SIMULATORS,
    make_agents,
    make_scene,
    time_plans,
)
from wm_robot_sim.effects.strengths import load_strengths

ARM = load_spec("arm")
NOMINAL, TRUE = SIMULATORS
LENGTHS = (6, 12, 4)


def scene(kind: str, episodes=range(2), seed: int = 0):
    return make_scene(ARM, "reach", kind, load_strengths("arm")[kind], seed, episodes, LENGTHS)


def phases(effect: float, *, after: float = 1.0, seeds: int = 2, episodes: int = 8) -> Phases:
    one = np.ones((seeds, episodes))
    return Phases(before=one, effect=effect * one, after=after * one, first=one)


def test_an_effect_begins_in_mid_episode_and_ends_again():
    sim, goals, (begin, end) = scene("pendulum")
    assert (begin.step, end.step, goals.shape) == (6, 18, (2, 23, 3))
    assert not any(world.effects for world in sim.worlds)
    begin.apply()
    seeds = [world.effects[0].seed for world in sim.worlds]
    assert [world.effects[0].kind for world in sim.worlds] == ["pendulum"] * 2 and len(set(seeds)) == 2
    end.apply()
    assert not any(world.effects for world in sim.worlds)
    # The declared physics, which an oracle is told, is nominal all the time.
    np.testing.assert_array_equal(begin.truth_after, end.truth_before)
    np.testing.assert_array_equal(begin.truth_after[0], sim.worlds[0].to_vector())


def test_an_episode_does_not_depend_on_those_beside_it():
    both, goals, (begin, _) = scene("pendulum", range(2))
    second, own_goals, (own, _) = scene("pendulum", range(1, 2))
    np.testing.assert_array_equal(goals[1:], own_goals)
    np.testing.assert_array_equal(both.obs[1:], second.obs)
    begin.apply(), own.apply()
    assert both.worlds[1].effects == second.worlds[0].effects


def test_the_first_second_of_each_phase_is_left_out():
    rate = 10
    times = np.arange(round((BEFORE_S + EFFECT_S + RETURN_S) * rate)) / rate
    starts = (0.0, BEFORE_S, BEFORE_S + EFFECT_S)
    error = np.select([times >= start + 1 for start in reversed(starts)], [3.0, 2.0, 1.0], 9.0)
    for start in starts[1:]:
        error[(times >= start) & (times < start + 1)] = 9.0
    found = split_phases(error[None, None], rate)
    assert [each.item() for each in found] == [1.0, 2.0, 3.0, 9.0]


def test_figures_are_ratios_to_robust_in_the_episodes_that_both_have():
    robust = phases(2.0, after=2.0)
    # Episodes in which MuJoCo does not plan do not count against it.
    robust.effect[:, 2:] = 100.0
    own = phases(1.0)
    own.effect[:, 2:] = 50.0
    variants = {FROZEN: robust, DEFAULT_MEMORY: own, RESET: phases(2.0), OTHER_LIFE: phases(4.0)}
    variants |= {NOMINAL: phases(3.0, episodes=2), TRUE: phases(0.5, episodes=2)}
    worse = variants | {DEFAULT_MEMORY: robust._replace(after=3 * robust.after)}
    times = {DEFAULT_MEMORY: 2.0, NOMINAL: 10.0, TRUE: 20.0}
    figures = compute_figures({"pendulum": variants, "backlash": worse}, DEFAULT_MEMORY, times)
    assert figures["error_vs_robust"] == pytest.approx((0.5 + 1.0) / 2)
    assert figures["worst_kind"] == pytest.approx(1.0)
    assert figures["error_vs_robust_after_return"] == pytest.approx((0.5 + 3.0) / 2)
    assert figures["worst_kind_after_return"] == pytest.approx(3.0)
    assert figures["mujoco_nominal_vs_robust"] == pytest.approx(1.5)
    assert figures["error_vs_mujoco_true"] == pytest.approx((1.0 / 0.5 + 2.0 / 0.5) / 2)
    assert (figures["plan_time_ratio_mujoco_nominal"], figures["plan_time_ratio_mujoco_true"]) == (5.0, 10.0)
    assert figures["oracle_vs_robust"] == Comparison(None, "'oracle' was not measured")


def test_the_bench_measures_every_kind_with_every_variant(monkeypatch):
    steps = round((BEFORE_S + EFFECT_S + RETURN_S) * ARM.rate)
    level = {DEFAULT_MEMORY: 0.4, OTHER_LIFE: 3.0, RESET: 1.5, NOMINAL: 2.0, TRUE: 0.1}
    asked = []

    def measure(part, jobs, progress):
        asked.extend(jobs)
        return [np.full((job[-1], steps), level.get(job[3], 1.0)) for job in jobs]

    monkeypatch.setattr(undeclared_control, "in_processes", measure)
    monkeypatch.setattr(undeclared_control, "time_plans", lambda *_: np.array([3.0]))
    bench = ControlBench(undeclared=True, episodes=70, simulated_episodes=3, kinds=("backlash", "pendulum"))
    result = bench.run(ignore_progress)
    assert bench.make_setting().seeds == (0, 1, 2) and ControlBench().make_setting().seeds == (0, 1)
    assert result.values["error_vs_robust"] == result.values["worst_kind"] == pytest.approx(0.4)
    assert result.values["control_other_life"] == pytest.approx(3.0)
    assert result.values["mujoco_true_vs_robust"] == pytest.approx(0.1)
    count = {row["variant"]: row["episodes"] for row in result.table if row.get("effect") == "pendulum"}
    assert (count[DEFAULT_MEMORY], count[RESET], count[TRUE]) == (210, 48, 9)
    # No part has one episode alone: it would be its own other life.
    assert min(job[-1] for job in asked if job[3] not in SIMULATORS) >= 2


def test_kinds_are_of_undeclared_effects_alone():
    with pytest.raises(ConfigError, match="kinds needs undeclared effects. Add --undeclared"):
        ControlBench(kinds=("pendulum",)).run(ignore_progress)


@pytest.mark.parametrize("kind", ["thermal_derating", "sensor_lag", "exchanged_cables"])
def test_a_twin_that_knows_the_effect_predicts_the_robot_and_a_nominal_one_does_not(kind):
    sim, _, (begin, _) = scene(kind)
    twins = [SimulatorTwin(sim, knows_effects=knows) for knows in (True, False)]
    rng, errors = np.random.default_rng(0), []
    for step in range(24):
        if step == begin.step:
            begin.apply()
        for twin in twins:
            twin.record_step()
        if step == 20:
            plans = sim.last_action[:, None, None] + rng.uniform(0.02, 0.05, (2, 3, 4, 6)).cumsum(2)
            plans = torch.from_numpy(np.clip(plans, ARM.action_low, ARM.action_high).astype(np.float32))
            seen = [twin.predict_obs(sim.obs, plans).numpy() for twin in twins]
            assert seen[0].shape == (2, 3, 4, ARM.obs_dim)
        now = plans[:, 1, step - 20].numpy() if step >= 20 else sim.last_action + 0.1
        sim.step(now)
        if step >= 20:
            true = sim.compute_true_obs()[:, :6]
            errors.append([np.abs(each[:, 1, step - 20, :6] - true).max() for each in seen])
    known, nominal = np.max(errors, 0)
    # The reading has a noise of 0.0005 rad, and 0.01 rad/s.
    assert known < 0.008 and nominal > 2 * known


def test_the_twin_searches_as_an_agent_does():
    sim, goals, _ = scene("pendulum")
    setting = ControlBench().make_setting()
    agents = make_agents(setting, DEFAULT_MEMORY, "reach", NOMINAL, sim, 0)
    agents.begin(sim.last_action)
    distance = []
    for _ in range(20):
        obs = sim.obs.copy()
        action = agents.act(obs, goals[:, 0])
        next_obs, applied = sim.step(action)
        agents.observe(obs, applied, next_obs)
        distance.append(np.linalg.norm(sim.compute_gripper_position() - goals[:, 0, :3], axis=-1).mean())
    assert distance[-1] < 0.7 * distance[0]


def test_plans_of_one_robot_are_timed_after_a_warm_up(monkeypatch):
    monkeypatch.setattr(undeclared_episodes, "NUM_TIMED_PLANS", 3)
    times = time_plans(ControlBench().make_setting(), "reach", TRUE, "backlash", 1.0)
    assert times.shape == (3,) and (times > 0).all()


class Sums:
    """A model backend whose memory sums what it saw."""

    def initial_state(self, *, initial_action, truth=None):
        count = len(initial_action)
        memory = ({"sum": np.zeros((count, 1), np.float32)},)
        return LifetimeState(np.zeros(count, np.int64), initial_action[:, None], LearnedState(memory))

    def predict(self, state, obs, action):
        return Prediction(obs + state.memory[0]["sum"], np.zeros_like(obs))

    def update(self, state, step):
        after = replace(state, step=state.step + 1, recent=step.action[:, None])
        return self.predict(state, step.obs, step.action), after.with_memory(
            0, sum=state.memory[0]["sum"] + step.obs
        )


def live(backend) -> LifetimeState:
    state = backend.initial_state(initial_action=np.zeros((3, 1), np.float32))
    for size in (1.0, 10.0):
        obs = size * np.array([[1.0], [2.0], [3.0]], np.float32)
        _, state = backend.update(state, Step(obs, obs / 2, obs, np.ones(3, np.float32)))
    return state


def test_false_histories_know_their_own_actions_and_not_their_own_life():
    own, reset, other = live(Sums()), live(ResetMemory(Sums())), live(OtherLife(Sums()))
    for state in (reset, other):
        np.testing.assert_array_equal(state.recent, own.recent)
    assert not reset.memory[0]["sum"].any()
    np.testing.assert_array_equal(own.memory[0]["sum"].ravel(), [11, 22, 33])
    np.testing.assert_array_equal(other.memory[0]["sum"].ravel(), [33, 11, 22])
