import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from tests.contracts.memory_contract import MemoryContract
from wm_robot.errors import ConfigError
from wm_robot.lifetime.families import make_memory


class TestGru(MemoryContract):
    family = "gru"


class FastWeightsContract(MemoryContract):
    def test_a_head_forgets_by_half_in_its_half_life_at_any_rate(self):
        for dt in (0.02, 0.005):
            memory = make_memory(self.family, width=16, outcome=10, dt=dt)
            for parameter in (memory.forget.weight, memory.forget.bias):
                parameter.data.zero_()
            self.silence(memory)
            state = memory.birth(1) | {"S": memory.initial.detach()[None] + 1.0}
            half_life = memory.log_half_life.exp()[0].item()
            steps = round(half_life / dt)
            h, e = torch.randn(1, steps, 16), torch.randn(1, steps, 10)
            _, after = memory.scan(state, h, e, torch.ones(1, steps))
            left = (after["S"] - memory.initial)[0, 0].mean().item()
            assert left == pytest.approx(0.5, rel=0.05)


class TestDelta(FastWeightsContract):
    family = "delta"

    def silence(self, memory):
        """Make every step write nothing."""
        memory.strength.weight.data.zero_()
        memory.strength.bias.data.fill_(-1e9)


class TestKalman(FastWeightsContract):
    family = "kalman"

    def silence(self, memory):
        memory.noise.weight.data.zero_()
        memory.noise.bias.data.fill_(1e9)

    def test_the_covariance_stays_one_over_a_long_life(self, memory):
        state = memory.birth(2)
        for _ in range(20):
            h, e = torch.randn(2, 250, 16), torch.randn(2, 250, 10)
            # Most of the time nothing new happens: what once wound covariances up.
            h[:, 20:] = h[:, 20:21]
            state = {k: v.detach() for k, v in memory.scan(state, h, e, torch.ones(2, 250))[1].items()}
            for t in range(30):
                state = memory.write(state, h[:, t], e[:, t], torch.ones(2))
        values = torch.linalg.eigvalsh(state["P"].double())
        assert values.min() > 0 and values.max() < 1 + 1e-4
        torch.testing.assert_close(state["P"], state["P"].transpose(-1, -2), atol=1e-5, rtol=0)


class TestTold(MemoryContract):
    family = "told"


def test_an_unknown_family_is_named_with_the_known_ones():
    with pytest.raises(ConfigError, match="'lstm' is unknown; known are .*gru"):
        make_memory("lstm", width=4, outcome=4, dt=0.02)


def test_no_memory_stays_empty():
    memory = make_memory("none", width=4, outcome=4, dt=0.02)
    state = memory.birth(2)
    after = memory.write(state, torch.randn(2, 4), torch.randn(2, 4), torch.ones(2))
    assert torch.equal(after["s"], state["s"])
