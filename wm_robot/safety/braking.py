"""How far a target still goes that can only slow down so fast. Exact for a loop in steps.

A target that moved by `step` in the last period moves by `step - change`, `step - 2 change` … in the next ones.
"""

import numpy as np


def braking_distance(step: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Way until it stands, in the unit of the action.

    Args:
        step: Its way in the last period, not below 0.
        change: What each period can take from that, above 0.
    """
    periods = np.floor(step / change)
    return periods * step - change * periods * (periods + 1) / 2


def furthest_step(room: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Longest step after which it still can stop within `room`: the inverse of `step + braking_distance(step)`.

    Args:
        room: Way to the limit, not below 0.
        change: What each period can take from a step, above 0.
    """
    periods = np.floor((np.sqrt(1 + 8 * room / change) - 1) / 2)
    return room / (periods + 1) + change * periods / 2
