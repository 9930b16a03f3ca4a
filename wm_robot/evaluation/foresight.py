"""What a model that watched a robot would have said of it, some steps before it happened."""

import numpy as np
import torch
from torch import Tensor

from wm_robot.models.world_model import WorldModel


@torch.inference_mode()
def foresee(
    model: WorldModel,
    obs: np.ndarray,
    applied: np.ndarray,
    *,
    horizon: int,
    span: tuple[int, int],
    state: dict[str, np.ndarray] | None = None,
    learning: bool = True,
) -> np.ndarray:
    """Observations as they were expected `horizon` steps ahead, from the actions that were then taken.

    Args:
        obs: One life, `T+1 O`.
        applied: What reached the motors, `T A`.
        span: Steps of `obs` to foresee, from and to.
        state: Saved life that it began with; without it, birth.
        learning: False: the life is read and never written.

    Returns:
        `span O`, in sensor units; NaN where the life is shorter than the horizon.
    """
    seen, done = _row(obs), _row(applied)
    weight = torch.full((1, done.shape[1]), float(learning))
    life = model.birth(1, hold=done[:, 0])
    if state is not None:
        life = {n: torch.from_numpy(v.copy()) for n, v in state.items()} | {"recent": life["recent"]}
    expected, lived = np.full((span[1] - span[0], obs.shape[1]), np.nan, np.float32), 0
    for row, step in enumerate(range(*span)):
        origin = step - horizon
        if origin < 0:
            continue
        if origin > lived:
            part = slice(lived, origin)
            _, life = model.scan(life, seen[:, lived : origin + 1], done[:, part], weight[:, part])
            lived = origin
        mean, _ = model.imagine(life, model.observe(life, seen[:, origin]), done[:, None, origin:step])
        expected[row] = mean[0, 0, -1].numpy()
    return expected


def _row(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values[None], dtype=np.float32))
