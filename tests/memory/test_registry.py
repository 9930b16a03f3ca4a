from functools import partial

import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from tests.contracts.memory_contract import MemoryContract
from wm_robot.errors import ConfigError
from wm_robot.memory.hope import HopeMemory
from wm_robot.memory.registry import FAMILIES, make_memory

LONG = partial(pytest.param, marks=pytest.mark.soak)


class TestGru(MemoryContract):
    family = "gru"


class FastWeightsContract(MemoryContract):
    def test_a_head_forgets_by_half_in_its_half_life_at_any_rate(self):
        for dt in (0.02, 0.005):
            memory = make_memory(self.family, width=16, outcome=10, dt=dt, channels=4, commands=2)
            for parameter in (memory.forget.weight, memory.forget.bias):
                parameter.data.zero_()
            self.silence(memory)
            state = memory.initial_state(1) | {"S": memory.initial.detach()[None] + 1.0}
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

    def test_merged_lives_are_one_life_that_lived_both(self, memory):
        for name in ("forget.weight", "forget.bias"):
            memory.get_parameter(name).data.fill_(0.0)
        memory.log_half_life.data.fill_(30.0)
        h, e, w = torch.randn(3, 40, 16), torch.randn(3, 40, 10), torch.ones(3, 40)
        parts = [
            memory.scan(memory.initial_state(3), h[:, p], e[:, p], w[:, p])[1]
            for p in (slice(0, 25), slice(25, 40))
        ]
        _, both = memory.scan(memory.initial_state(3), h, e, w)
        for name, value in memory.merge_states(parts).items():
            torch.testing.assert_close(value, both[name], atol=1e-3, rtol=1e-3)

    @pytest.mark.parametrize("parts", [8, LONG(20)])
    def test_the_covariance_stays_one_over_a_long_life(self, memory, parts):
        state = memory.initial_state(2)
        for _ in range(parts):
            h, e = torch.randn(2, 250, 16), torch.randn(2, 250, 10)
            # Most of the time nothing new happens: what once wound covariances up.
            h[:, 20:] = h[:, 20:21]
            state = {k: v.detach() for k, v in memory.scan(state, h, e, torch.ones(2, 250))[1].items()}
            for t in range(30):
                state = memory.update(state, h[:, t], e[:, t], torch.ones(2))
        values = torch.linalg.eigvalsh(state["P"].double())
        assert values.min() > 0 and values.max() < 1 + 1e-4
        torch.testing.assert_close(state["P"], state["P"].transpose(-1, -2), atol=1e-5, rtol=0)


class TestRidge(MemoryContract):
    family = "ridge"

    def test_evidence_fades_by_half_in_a_half_life_at_any_rate(self):
        for dt in (0.02, 0.005):
            memory = make_memory(self.family, width=16, outcome=10, dt=dt, channels=4, commands=2)
            for parameter in (memory.forget.weight, memory.forget.bias, memory.key.weight):
                parameter.data.zero_()
            state = memory.initial_state(1)
            state["H"] = torch.ones_like(state["H"])
            steps = round(memory.log_half_life.exp()[0].item() / dt)
            _, after = memory.scan(
                state, torch.randn(1, steps, 16), torch.randn(1, steps, 10), torch.ones(1, steps)
            )
            torch.testing.assert_close(after["H"][0, 0].mean().item(), 0.5, rtol=0.05, atol=0)

    def test_merged_lives_are_one_life_that_lived_both(self, memory):
        for name in ("forget.weight", "forget.bias"):
            memory.get_parameter(name).data.fill_(0.0)
        memory.log_half_life.data.fill_(30.0)
        h, e, w = torch.randn(3, 40, 16), torch.randn(3, 40, 10), torch.ones(3, 40)
        parts = [
            memory.scan(memory.initial_state(3), h[:, p], e[:, p], w[:, p])[1]
            for p in (slice(0, 25), slice(25, 40))
        ]
        _, both = memory.scan(memory.initial_state(3), h, e, w)
        merged = memory.merge_states(parts)
        for name in both:
            torch.testing.assert_close(merged[name], both[name], atol=1e-4, rtol=1e-5)

    def test_a_query_that_was_lived_is_less_unknown(self, memory):
        memory.key.weight.data = memory.query.weight.data
        h, e = torch.randn(2, 1, 16), torch.randn(2, 1, 10)
        born = memory.initial_state(2)
        _, lived = memory.scan(born, h.expand(-1, 20, -1), e.expand(-1, 20, -1), torch.ones(2, 20))
        assert (memory.compute_variance(lived, h) < 0.5 * memory.compute_variance(born, h)).all()

    @pytest.mark.parametrize("parts", [10, LONG(40)])
    def test_a_long_still_life_stays_finite(self, memory, parts):
        h, e = torch.randn(1, 1, 16), torch.randn(1, 1, 10)
        state = memory.initial_state(1)
        for _ in range(parts):
            _, state = memory.scan(state, h.expand(-1, 500, -1), e.expand(-1, 500, -1), torch.ones(1, 500))
            state = {name: value.detach() for name, value in state.items()}
        assert all(value.isfinite().all() for value in state.values())


class TestKv(MemoryContract):
    family = "kv"

    def steps(self, memory, state, first, last):
        """Live steps whose value is their number, as far as the slots are concerned."""
        h, e = torch.randn(2, last - first, 16), torch.randn(2, last - first, 10)
        return memory.scan(state, h, e, torch.ones(2, last - first))[1]

    def test_half_of_the_slots_hold_the_last_steps(self, memory):
        state = self.steps(memory, memory.initial_state(2), 0, 300)
        half = memory.num_recent
        assert sorted(state["written_at"][0, :half].tolist()) == list(range(300 - half, 300))
        assert (state["weight"][:, :half] == 1).all()

    def test_the_other_half_is_a_fair_sample_and_every_step_is_counted(self, memory):
        state = memory.initial_state(2)
        for first in range(0, 3000, 100):
            state = {k: v.detach() for k, v in self.steps(memory, state, first, first + 100).items()}
            assert (state["weight"].sum(1) == first + 100).all()
        born = state["written_at"][0, memory.num_recent :].double()
        assert len(set(born.tolist())) == len(born)
        # Uniform over the life: mean and spread within three standard errors.
        assert abs(born.mean() - 1468) < 3 * 2936 / 12**0.5 / len(born) ** 0.5
        assert 0.6 < born.std() / (2936 / 12**0.5) < 1.4

    def test_counters_are_exact_after_many_years(self, memory):
        state = memory.initial_state(2) | {
            "count": torch.full((2,), 2**40),
            "written_at": torch.full((2, 128), 2**40 - 5),
        }
        assert (self.steps(memory, state, 0, 3)["count"] == 2**40 + 3).all()


class TestHope(FastWeightsContract):
    family = "hope"
    reach = 2050
    """The slowest level has learned after its first period, and forgotten some of it after its second."""

    def silence(self, memory):
        memory.strength.weight.data.zero_()
        memory.strength.bias.data.fill_(-1e9)

    def lived_on(self, memory, state, steps):
        h, e = torch.randn(2, steps, 16), torch.randn(2, steps, 10)
        return memory.scan(state, h, e, torch.ones(2, steps))[1]

    @pytest.mark.parametrize("start", [LONG(0), 2**24, LONG(2**40)])
    def test_a_level_changes_at_multiples_of_its_period_and_at_no_other_step(self, memory, start):
        state = memory.initial_state(2) | {"steps": torch.full((2,), start)}
        for step in range(1, 300):
            after = self.lived_on(memory, state, 1)
            assert (after["steps"] == start + step).all()
            for part, period in [("M", 16), ("level0", 16), ("level1", 64), ("level2", 256)]:
                assert torch.equal(after[part], state[part]) == (step % period != 0), (part, step)
            assert torch.equal(after["level3"], state["level3"])
            state = after

    def test_rows_of_different_age_keep_their_own_schedule(self, memory):
        old = self.lived_on(memory, memory.initial_state(2), 5)
        both = {
            name: torch.cat([value[:1], old[name][:1]]) for name, value in memory.initial_state(1).items()
        }
        after = self.lived_on(memory, both, 11)
        assert torch.equal(after["level0"][0], both["level0"][0])
        assert not torch.equal(after["level0"][1], both["level0"][1])

    @pytest.mark.parametrize("periods", [(24,), (16, 40), (32, 48)])
    def test_a_period_that_cuts_a_faster_one_is_refused(self, periods):
        with pytest.raises(ConfigError, match="periods are .*multiple of the one before"):
            HopeMemory(width=4, outcome=4, dt=0.02, periods=periods)

    @pytest.mark.parametrize("parts", [12, LONG(32)])
    def test_it_stays_bounded_where_neighbouring_steps_are_alike(self, memory, parts):
        state = memory.initial_state(2)
        h, e = torch.randn(2, 1, 16), torch.randn(2, 1, 10)
        for _ in range(parts):
            walk = torch.randn(2, 256, 16), torch.randn(2, 256, 10)
            near = [x + 0.03 * noise for x, noise in zip((h, e), walk, strict=True)]
            _, state = memory.scan(state, *near, torch.ones(2, 256))
            state = {name: value.detach() for name, value in state.items()}
        for name, value in state.items():
            # Evidence is a sum: as large as what is remembered is long.
            bound = 1e5 if name.startswith(("gram", "moment", "new_")) else 100
            assert value.abs().max() < bound or name == "steps", name


class TestOracle(MemoryContract):
    family = "oracle"


class TestSemiparametric(MemoryContract):
    """Told the physics, as in training; what it infers by itself is in `test_semiparametric`."""

    family = "semiparametric"

    def test_the_gradient_reaches_every_parameter_through_the_writes(self, memory):
        h, e = torch.randn(3, 12, 16), torch.randn(3, 12, 10)
        reads, _ = memory.scan(memory.initial_state(3), h, e, torch.ones(3, 12))
        reads[:, -1].square().sum().backward()
        # The correction is trained after the network that is told the physics.
        without = {name for name, parameter in memory.named_parameters() if parameter.grad is None}
        correction = {f"linear.{name}" for name, _ in memory.linear.named_parameters()}
        assert without == correction


def test_an_unknown_family_is_named_with_the_known_ones():
    with pytest.raises(ConfigError, match="'lstm' is unknown; known are .*gru"):
        make_memory("lstm", width=4, outcome=4, dt=0.02, channels=4, commands=2)


@pytest.mark.parametrize("family", ["gru", "kv", "delta", "hope"])
def test_lives_that_cannot_be_merged_say_what_to_do(family):
    memory = make_memory(family, width=4, outcome=4, dt=0.02, channels=4, commands=2)
    with pytest.raises(ConfigError, match="cannot merge 2 states.*recorded experience"):
        memory.merge_states([memory.initial_state(1)] * 2)


def test_no_memory_stays_empty():
    memory = make_memory("null", width=4, outcome=4, dt=0.02, channels=4, commands=2)
    state = memory.initial_state(2)
    after = memory.update(state, torch.randn(2, 4), torch.randn(2, 4), torch.ones(2))
    assert torch.equal(after["s"], state["s"])


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_registry_says_without_torch_what_the_class_says(family):
    assert FAMILIES[family].uses_privileged_state == FAMILIES[family].memory_class.uses_privileged_state
