"""Braking distance of a target with limited deceleration. Exact for a discrete-time loop.

A target that moved by `step` in the last period moves by `step - change`, `step - 2 change` … in the next ones.
"""

import numpy as np


def compute_braking_distance(step: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Compute the distance until the target stands still, in the unit of the action.

    Args:
        step: Distance moved in the last period, at least 0.
        change: Largest decrease of `step` per period, above 0.
    """
    periods = np.floor(step / change)
    return periods * step - change * periods * (periods + 1) / 2


def compute_furthest_step(room: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Compute the longest step after which the target can still stop within `room`.

    The inverse of `step + braking_distance(step)`.

    Args:
        room: Distance to the limit, at least 0.
        change: Largest decrease of a step per period, above 0.
    """
    periods = np.floor((np.sqrt(1 + 8 * room / change) - 1) / 2)
    return room / (periods + 1) + change * periods / 2
