"""Input faults: what an agent is shown in place of the readings of its plant."""

from collections import deque

import numpy as np
from jaxtyping import Float

from wm_robot.evaluation.validation.scenario import InputFault
from wm_robot.spec import RobotSpec

MAX_LATENCY = 64
"""Readings that are kept for latency, in steps."""


class FaultyInput:
    """Readings of one robot on their way to its agent. Every random number is a function of seed and step."""

    def __init__(self, spec: RobotSpec, faults: tuple[InputFault, ...], *, seed: int):
        self._faults, self._seed = faults, seed
        self._limits = np.array(spec.layout.limits, np.float32)
        self._past: deque[np.ndarray] = deque(maxlen=MAX_LATENCY)
        self._held: dict[int, np.ndarray] = {}
        self._step = -1

    def show(self, obs: Float[np.ndarray, "O"]) -> Float[np.ndarray, "O"] | None:
        """Return what the agent is shown of the next observation; None if it is lost."""
        self._step += 1
        step = self._step
        self._past.append(obs.copy())
        shown = obs.copy()
        for number, fault in enumerate(self._faults):
            if not fault.is_active(step):
                self._held.pop(number, None)
                continue
            rng = np.random.default_rng([self._seed, number, step])
            channels = list(fault.channels) if fault.channels else slice(None)
            limits = self._limits[channels]
            if fault.kind == "loss":
                if rng.random() < fault.size:
                    return None
            elif fault.kind == "noise":
                shown[channels] += fault.size * limits * rng.standard_normal(len(limits))
            elif fault.kind == "bias":
                shown[channels] += fault.size * limits
            elif fault.kind == "freeze":
                shown[channels] = self._held.setdefault(number, shown[channels].copy())
            elif fault.kind == "spikes":
                struck = rng.random(len(limits)) < fault.size
                shown[channels] = np.where(struck, limits * rng.uniform(-1, 1, len(limits)), shown[channels])
            else:
                age = (
                    round(fault.size) if fault.kind == "latency" else int(rng.integers(round(fault.size) + 1))
                )
                age = min(age, len(self._past) - 1)
                shown[channels] = self._past[-1 - age][channels]
        return shown
