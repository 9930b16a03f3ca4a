"""Noise blocks: standard normal noise of simulated robots, drawn in blocks of steps."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

NOISE_BLOCK_STEPS = 64
"""Steps of noise drawn at a time."""


class NoiseBlocks:
    """Standard normal noise of `B` robots. Each number is a function of its row and step alone."""

    def __init__(
        self,
        num_robots: int,
        num_channels: int,
        make_generator: Callable[[int, int], np.random.Generator],
    ):
        """Args:
        make_generator: Makes the generator of a row and a block.
        """
        self._make_generator = make_generator
        self._block, self._values = -1, np.zeros((num_robots, NOISE_BLOCK_STEPS, num_channels), np.float32)

    def draw(self, start: int, count: int) -> Float[np.ndarray, "B T C"]:
        """Draw the noise of `count` steps from a step on, float32."""
        parts, at, stop = [], start, start + count
        while at < stop:
            block, offset = divmod(at, NOISE_BLOCK_STEPS)
            if block != self._block:
                for row, values in enumerate(self._values):
                    self._make_generator(row, block).standard_normal(dtype=np.float32, out=values)
                self._block = block
            taken = min(NOISE_BLOCK_STEPS - offset, stop - at)
            # A copy, because the next block overwrites this one.
            parts.append(self._values[:, offset : offset + taken].copy())
            at += taken
        return parts[0] if len(parts) == 1 else np.concatenate(parts, 1)
