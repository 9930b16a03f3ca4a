"""An agent whose residual is learned beside it, at once or in a process of its own."""

import time

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.adaptation.candidate import CandidateErrors, ResidualCandidate, ResidualFitConfig
from wm_robot.adaptation.consolidation import SynchronousLearner
from wm_robot.adaptation.learner_process import LearnerProcess
from wm_robot.adaptation.residual_fit import ResidualFitter
from wm_robot.adaptation.transition_filter import TransitionFilter
from wm_robot.agent.agent import Agent
from wm_robot.memory.lifetime_state import list_values, map_values
from wm_robot.model.base import load_base, save_base
from wm_robot.model.config import ModelConfig
from wm_robot.model.residual import has_residual
from wm_robot.model.torch_backend import TorchBackend
from wm_robot.model.world_model import WorldModel
from wm_robot.planning.mppi import MppiConfig

PLANNER = MppiConfig(num_samples=16, horizon=4, num_iterations=1, num_elites=4)
CONFIG = ResidualFitConfig(updates=5, segment_interval=2, num_held_out=1)
STEPS = 64 * CONFIG.segment_interval


@pytest.fixture(scope="module")
def base(tmp_path_factory, spec):
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    shape = ModelConfig.from_spec(spec, truth=1, memory="gru", width=16, context=4, outcome=8)
    save_base(folder, WorldModel(shape), spec, {})
    return load_base(folder)


def agent(base, spec, learner, **options) -> Agent:
    return Agent(base, spec, task="reach", planner=PLANNER, learner=learner, **options)


def life(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """A robot that obeys, which an untrained base does not expect."""
    action = 0.5 * np.random.default_rng(0).normal(size=(steps, 1)).astype(np.float32)
    obs = np.zeros((steps + 1, 2), np.float32)
    for t in range(steps):
        obs[t + 1] = 0.7 * obs[t] + 0.3 * action[t]
    return obs, action


def learning(base, spec) -> Agent:
    """An agent with a learner that answers at once."""
    return agent(base, spec, SynchronousLearner(ResidualFitter(base.model, CONFIG)))


@pytest.fixture(scope="module")
def never_stopped(base, spec):
    """What a life that never stops says, and its state at the end."""
    acting = learning(base, spec)
    acting.begin(np.zeros(1, np.float32))
    return live(acting, 0, STEPS + 70), acting._batch.snapshot_state().flatten()


def live(agent: Agent, start: int, stop: int) -> list[float]:
    obs, action = life(stop)
    return [agent.observe(obs[t], action[t], obs[t + 1]).nll for t in range(start, stop)]


def test_an_agent_comes_to_believe_what_was_learned_beside_it(base, spec):
    config = ResidualFitConfig(updates=60, segment_interval=4, num_held_out=2)
    learner = SynchronousLearner(ResidualFitter(base.model, config))
    acting = agent(base, spec, learner)
    acting.begin(np.zeros(1, np.float32))
    live(acting, 0, 64 * config.segment_interval + 200)
    counters = acting.counters
    assert counters["segments_offered"] == 7
    assert counters["candidates"] == counters["residuals_evaluated"] == 1
    assert counters["residuals_accepted"] >= 1
    assert has_residual(acting.state).all()
    said = [event.description for event in acting.events]
    assert said[0].startswith("candidate under evaluation: error") and "residual accepted" in said


@pytest.mark.parametrize("stop", [100, STEPS + 1, STEPS + 60])
def test_saved_and_resumed_equals_never_stopped(base, spec, tmp_path, never_stopped, stop):
    acting = learning(base, spec)
    acting.begin(np.zeros(1, np.float32))
    told = live(acting, 0, stop)
    acting.save(tmp_path / "state")
    acting = learning(base, spec)
    acting.begin(life(stop)[1][-base.model.config.recent :], tmp_path / "state")
    told += live(acting, stop, STEPS + 70)
    resumed, (heard, whole) = acting._batch.snapshot_state().flatten(), never_stopped
    assert heard == told and any(name.startswith("experience.") for name in whole)
    for name, value in whole.items():
        np.testing.assert_array_equal(resumed[name], value, err_msg=name)


def test_a_life_saved_without_a_learner_goes_on_with_one(base, spec, tmp_path):
    plain = Agent(base, spec, task="reach", planner=PLANNER)
    plain.begin(np.zeros(1, np.float32))
    live(plain, 0, 70)
    plain.save(tmp_path / "state")
    resumed = learning(base, spec)
    resumed.begin(np.zeros(1, np.float32), tmp_path / "state")
    live(resumed, 70, 80)
    assert resumed.counters["num_steps"] == 80 and not has_residual(resumed.state).any()


def test_what_is_doubted_is_neither_written_nor_learned_from(base, spec):
    acting = agent(
        base,
        spec,
        SynchronousLearner(ResidualFitter(base.model, CONFIG)),
        transition_filter=TransitionFilter(spec),
    )
    acting.begin(np.zeros(1, np.float32))
    obs, action = life(64)
    for t in range(64):
        acting.observe(obs[t], action[t], obs[t + 1], intervention=t == 20)
    assert acting.counters["intervention"] == 10 and acting.counters["num_steps"] == 54
    chapter = acting._batch.consolidation.experience.latest[-1]
    assert np.flatnonzero(chapter.steps.valid[0] == 0).tolist() == list(range(20, 30))


class Stubborn:
    """A learner whose candidates are always accepted by a verdict that is a lie."""

    def __init__(self, residual):
        self.residual = residual

    def reset_experience(self, experience):
        self.asked = 0

    def offer_segment(self, segment):
        return False

    def poll_candidate(self):
        self.asked += 1
        lie = CandidateErrors(np.zeros(1), np.ones(1), np.ones(1), 0.0)
        return ResidualCandidate(self.residual, lie, 0) if self.asked == 5 else None


def test_a_lie_about_a_bad_residual_is_found_out_and_what_was_dropped_is_counted(base, spec):
    born = base.model.initial_state(initial_action=torch.zeros(1, 1))
    bad = map_values(lambda v: 5 * np.ones(v.shape, np.float32), born.residual)
    acting = agent(base, spec, Stubborn(bad))
    acting.begin(np.zeros(1, np.float32))
    live(acting, 0, 300)
    assert acting.counters["residuals_evaluated"] == 1 and acting.counters["segments_dropped"] == 4
    assert acting.counters["residuals_accepted"] == acting.counters["residuals_rejected"]
    assert not has_residual(acting.state).any()


def test_a_learner_in_a_process_of_its_own_gives_the_same_candidate(base, spec):
    learner, at_once = (
        # Beside other tests it would get no time at all.
        LearnerProcess(base.folder, base, CONFIG, backend=TorchBackend(base.model), nice=0),
        SynchronousLearner(ResidualFitter(base.model, CONFIG)),
    )
    try:
        for each in (learner, at_once):
            acting = agent(base, spec, each)
            acting.begin(np.zeros(1, np.float32))
            live(acting, 0, STEPS)
        deadline = time.monotonic() + 120
        while (found := learner.poll_candidate()) is None and time.monotonic() < deadline:
            assert learner.is_alive
            time.sleep(0.05)
        wanted = at_once.poll_candidate()
        assert found is not None and found.segment_number == wanted.segment_number
        np.testing.assert_allclose(np.stack(found.errors[:3]), np.stack(wanted.errors[:3]), rtol=1e-3)
        pairs = zip(list_values(wanted.residual), list_values(found.residual), strict=True)
        for value, elsewhere in pairs:
            np.testing.assert_allclose(elsewhere, value, atol=1e-4, rtol=1e-3)
    finally:
        learner.close()
    assert not learner.is_alive
