"""Recordings of simulated arms, and lifetimes that lived them, for the verbs that replay recordings."""

import numpy as np

from wm_robot.adaptation.context_bank import ContextBank
from wm_robot.recording.episode_file import write_episode
from wm_robot.recording.episode_origin import EpisodeOrigin
from wm_robot.robots import load_spec
from wm_robot.sharing.assimilate import RecordedSteps, replay_recordings
from wm_robot.store.store import Store
from wm_robot.types import Episode


def episode_of(lives, row, start=0, stop=None):
    """An episode of a robot of a batch, with stamps of its own clock."""
    stop = lives.num_steps if stop is None else stop
    hold = lives.action[row, start - 1] if start else lives.initial_action[row]
    return Episode(
        stamp=np.arange(start, stop + 1) * 20_000_000,
        obs=lives.obs[row, start : stop + 1],
        action=lives.action[row, start:stop],
        initial_action=hold,
        reward=np.full(stop - start, np.nan),
        goal=np.zeros((stop - start + 1, 0)),
        valid=np.ones(stop - start, bool),
    )


def write_recording(path, episode, spec=None):
    write_episode(path, episode, EpisodeOrigin.from_robot(spec or load_spec("arm")))


def save_lived(store, base, backend, episodes, *, branch="main"):
    """Save the lifetime state of a robot that lived these episodes; return the snapshot."""
    spec = load_spec("arm")
    stretches = [RecordedSteps.from_episode(each, spec) for each in episodes]
    born = ContextBank(backend).initial_state(initial_action=stretches[0].initial_action)
    state = replay_recordings(backend, born, stretches)
    return Store(store).save(
        {name: np.ascontiguousarray(value) for name, value in state.flatten().items()},
        base_digest=base.digest,
        spec_digest=spec.compute_digest(),
        branch=branch,
    )
