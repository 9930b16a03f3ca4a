import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from tests.contracts.memory_contract import MemoryContract
from wm_robot.errors import ConfigError
from wm_robot.lifetime.families import make_memory


class TestGru(MemoryContract):
    family = "gru"


class TestDelta(MemoryContract):
    family = "delta"

    def test_a_head_forgets_by_half_in_its_half_life_at_any_rate(self):
        for dt in (0.02, 0.005):
            memory = make_memory("delta", width=16, outcome=10, dt=dt)
            for parameter in (memory.forget.weight, memory.forget.bias, memory.strength.weight):
                parameter.data.zero_()
            memory.strength.bias.data.fill_(-1e9)
            state = {"S": memory.initial.detach()[None] + 1.0}
            half_life = memory.log_half_life.exp()[0].item()
            steps = round(half_life / dt)
            h, e = torch.randn(1, steps, 16), torch.randn(1, steps, 10)
            _, after = memory.scan(state, h, e, torch.ones(1, steps))
            left = (after["S"] - memory.initial)[0, 0].mean().item()
            assert left == pytest.approx(0.5, rel=0.05)


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
