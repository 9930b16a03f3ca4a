"""Recorded experience of a robot with sensors is assimilated as it would have been lived."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.adaptation.frozen_readings import FrozenReadingsConfig
from wm_robot.adaptation.reading_checks import ReadingChecks
from wm_robot.agent.agent import Agent
from wm_robot.evaluation.acceptance import HORIZON, compute_errors
from wm_robot.model.base import load_base, save_base
from wm_robot.model.config import ModelConfig
from wm_robot.model.torch_backend import TorchBackend
from wm_robot.model.world_model import WorldModel
from wm_robot.planning.mppi import MppiConfig
from wm_robot.sharing import assimilate
from wm_robot.sharing.assimilate import RecordedSteps, assimilate_experience, replay_recordings
from wm_robot.spec import Actuator, Joint, RobotSpec, Sensor, Task
from wm_robot.types import Episode

STEPS = 60
FLOW = Sensor(name="flow", kind="vector", size=2, limits={"value": 5.0}, rate=10.0)
SPEC = RobotSpec(
    name="one",
    rate=50.0,
    model="none.xml",
    joints=(Joint(name="a", position=(-2.0, 2.0), velocity=5.0, effort=4.0),),
    actuators=(Actuator(name="a", joint="a", kind="velocity", range=(-2.0, 2.0), rate=10.0),),
    sensors=(FLOW,),
    tasks={"stay": Task(reward="hold")},
)
GAP, FROZEN = slice(5, 12), slice(20, 50)
"""Observations without a reading of the sensor, and with one whose bits repeat."""
find_sooner = partial(ReadingChecks, frozen=FrozenReadingsConfig(slack=0.0, min_change=0.1))
"""Detector that needs little evidence, since an untrained model predicts little."""


@pytest.fixture(params=["ekf", "gru", "semiparametric"])
def base(request, tmp_path):
    torch.manual_seed(0)
    shape = ModelConfig.from_spec(SPEC, truth=1, memory=request.param, width=16, context=4, outcome=8)
    save_base(tmp_path / "base", WorldModel(shape), SPEC, {})
    return load_base(tmp_path / "base")


def record_episode(**changes) -> Episode:
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(STEPS + 1, SPEC.obs_dim))
    obs[GAP, 2:], obs[FROZEN, 2:] = np.nan, obs[FROZEN.start, 2:]
    is_new = np.ones(obs.shape, bool)
    is_new[1::2, 2:] = False
    parts = {
        "stamp": np.arange(STEPS + 1) * 20_000_000,
        "obs": obs,
        "action": rng.normal(size=(STEPS, 1)),
        "initial_action": np.zeros(1),
        "reward": np.zeros(STEPS),
        "goal": np.zeros((STEPS + 1, 0)),
        "valid": np.arange(STEPS) != 15,
        "is_required": SPEC.layout.is_required,
        "is_new": is_new,
    }
    return Episode(**{**parts, **changes})


def observe_episode(base, episode: Episode, detector) -> Agent:
    planner = MppiConfig(num_samples=16, horizon=4, num_iterations=1, num_elites=4)
    agent = Agent(base, SPEC, task="stay", planner=planner, use_context_bank=False, reading_checks=detector)
    agent.begin(np.float32(episode.initial_action))
    for t, step in enumerate(episode):
        agent.observe(
            np.float32(step.obs),
            np.float32(step.action),
            np.float32(step.next_obs),
            valid=bool(step.valid),
            is_new=episode.is_new[t + 1],
        )
    return agent


def check_same_learned(found, expected) -> None:
    expected = expected.flatten_model_part()
    for name, value in found.flatten_model_part().items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
        assert np.isfinite(value).all()


@pytest.mark.parametrize("required", [False, True])
def test_replaying_an_episode_equals_having_lived_it(base, monkeypatch, required):
    monkeypatch.setattr(assimilate, "ReadingChecks", find_sooner)
    episode, detector = record_episode(), find_sooner(SPEC)
    if required:
        # A frozen joint makes its transitions invalid.
        obs = episode.obs.copy()
        obs[FROZEN, :2] = obs[FROZEN.start, :2]
        episode = record_episode(obs=obs)
    agent = observe_episode(base, episode, detector)
    assert detector.counts["frozen_readings"] > 0
    if required:
        assert agent.counters["num_invalid"] > 5
    state = TorchBackend(base.model).initial_state(initial_action=np.zeros((1, 1), np.float32))
    recording = RecordedSteps.from_episode(episode, SPEC)
    check_same_learned(replay_recordings(TorchBackend(base.model), state, [recording]), agent.state)


def test_a_slow_sensor_is_not_taken_for_a_frozen_one(base, monkeypatch):
    detectors = []

    def make(spec):
        detectors.append(find_sooner(spec))
        return detectors[-1]

    monkeypatch.setattr(assimilate, "ReadingChecks", make)
    episode = record_episode()
    # One new reading in all: the rest of the stretch is held.
    held = episode.is_new.copy()
    held[FROZEN.start + 1 : FROZEN.stop, 2:] = False
    state = TorchBackend(base.model).initial_state(initial_action=np.zeros((1, 1), np.float32))
    for is_new, expected in ((held, 0), (None, 1)):
        recording = RecordedSteps.from_episode(record_episode(is_new=is_new), SPEC)
        replay_recordings(TorchBackend(base.model), state, [recording])
        assert detectors[-1].counts["frozen_readings"] == expected


def test_gaps_change_neither_what_was_read_nor_the_error_of_other_channels(base):
    backend = TorchBackend(base.model)
    state = backend.initial_state(initial_action=np.zeros((1, 1), np.float32))
    lost = record_episode()
    lost.obs[:, 2:] = np.nan
    found = assimilate_experience(backend, state, [RecordedSteps.from_episode(lost, SPEC)])
    assert all(np.isfinite(value).all() for value in found.flatten().values())
    errors = compute_errors(base.model, backend, state, RecordedSteps.from_episode(lost, SPEC))
    valid = [lost.valid[t : t + HORIZON].all() for t in range(0, STEPS - HORIZON + 1, 4)]
    assert np.isfinite(errors[0]).tolist() == valid


def test_a_part_of_a_recording_has_its_own_flags():
    recording = RecordedSteps.from_episode(record_episode(), SPEC).select_steps(3, 9)
    np.testing.assert_array_equal(recording.is_new[0], record_episode().is_new[3:10])
    assert recording.spec is SPEC and recording.num_steps == 6
    plain = replace(record_episode(), is_new=None)
    assert RecordedSteps.from_episode(plain, SPEC).select_steps(3, 9).is_new is None
