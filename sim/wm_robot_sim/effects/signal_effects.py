"""Signal effects: effects that change commands on their way to motors, or the age of readings."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from wm_robot_sim.effects.effect import Effect

if TYPE_CHECKING:
    from wm_robot_sim.plant import Plant
    from wm_robot_sim.signal_changes import SignalChanges

OFFSET = 0.08
"""Largest offset of a command, as a share of its range: 0.4 rad of a joint that turns by 300 degrees."""
SCALE = 0.3
"""Largest change of the logarithm of a command's scale."""
MIXING = 0.4
"""Size of what a motor gets of the commands of others."""
LAG = 0.06
"""Age of a lagging reading, in s."""


def change_signals(plant: "Plant", changes: "SignalChanges", effect: Effect) -> "SignalChanges":
    """Return signal changes with an effect added; the same ones if it has none on signals."""
    rng, size, strength = effect.make_generator(), len(changes.scale), effect.strength
    if effect.kind == "command_offset":
        drawn = strength * OFFSET * rng.uniform(-1, 1, size)
        return replace(
            changes, offset=changes.offset + drawn * (plant.spec.action_high - plant.spec.action_low)
        )
    if effect.kind == "command_scale":
        return replace(changes, scale=changes.scale * np.exp(strength * SCALE * rng.uniform(-1, 1, size)))
    if effect.kind == "command_mixing":
        drawn = strength * MIXING * rng.standard_normal((size, size)) / np.sqrt(size)
        return replace(changes, mixing=(np.eye(size) + drawn) @ changes.mixing)
    if effect.kind == "exchanged_cables" and strength and size > 1:
        order = np.arange(size)
        for _ in range(max(1, round(strength))):
            pair = rng.choice(size, 2, replace=False)
            order[pair] = order[pair[::-1]]
        return replace(changes, mixing=np.eye(size)[order] @ changes.mixing)
    if effect.kind == "sensor_lag":
        # Whole control periods: what a step before it saw.
        late = max(bool(strength), round(strength * LAG / plant.spec.dt))
        return replace(changes, lag=changes.lag + late * plant.substeps)
    return changes
