"""The learning rate over a training."""

import pytest

pytestmark = pytest.mark.learn

from wm_robot.training.optimizers import compute_rate_share


def test_the_rate_rises_and_then_falls():
    rates = [compute_rate_share(update, updates=1000, warmup=100) for update in range(1000)]
    assert rates[0] == pytest.approx(0.01) and rates[99] == pytest.approx(1.0)
    assert max(rates) <= 1.0 and rates[-1] == pytest.approx(0.01, abs=1e-3)
    assert all(later <= earlier for earlier, later in zip(rates[99:], rates[100:], strict=False))
