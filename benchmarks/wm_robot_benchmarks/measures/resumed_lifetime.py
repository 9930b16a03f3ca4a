"""Resumed lifetime: tests whether a lifetime with many stops equals one that was never stopped."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from wm_robot.agent.agent import Agent
from wm_robot.agent.onnx_files import load_functions
from wm_robot.model.base import load_base
from wm_robot.progress import Progress, ignore_progress
from wm_robot.spec import RobotSpec
from wm_robot.store.store import Store


@dataclass(frozen=True, kw_only=True)
class RobotLog:
    """Log of the observations and actions of one robot."""

    obs: np.ndarray
    """`T+1 O`."""
    action: np.ndarray
    """`T A`."""
    initial_action: np.ndarray
    """`A`."""
    valid: np.ndarray
    """`T`, bool."""

    def last_actions(self, step: int, count: int) -> np.ndarray:
        """Return the last `count` actions before a step, the newest last."""
        before = self.action[max(0, step - count) : step]
        return np.concatenate([np.repeat(self.initial_action[None], count - len(before), 0), before])


def resume_lifetime(
    base: Path,
    spec: RobotSpec,
    log: RobotLog,
    place: Path,
    *,
    every: int,
    die_at: int = -1,
    forgetful: bool = False,
    progress: Progress = ignore_progress,
) -> None:
    """Continue the lifetime in a store to the end of the log, with regular saves.

    Args:
        every: Steps between saves.
        die_at: Step after which the process kills itself, without warning.
        forgetful: Control condition: ignores the actions in transit to the motors, except for the first.
        progress: Progress over the log's steps.
    """
    torch.set_num_threads(1)
    loaded, store = load_base(base), Store(place)
    agent = Agent(loaded, spec, task=next(iter(spec.tasks)), functions=load_functions(base, loaded))
    lived = bool(store.read_branches())
    start = int(store.read_manifest().note) if lived else 0
    under_way = log.last_actions(0 if forgetful else start, loaded.model.config.recent)
    agent.begin(under_way, place if lived else None)
    for t in range(start, len(log.action)):
        agent.observe(log.obs[t], log.action[t], log.obs[t + 1], valid=bool(log.valid[t]))
        if (t + 1) % every == 0 or t + 1 == len(log.action):
            agent.save(place, note=str(t + 1))
        progress(t + 1, len(log.action))
        if t == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
