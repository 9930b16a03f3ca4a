"""What every family of memory must keep; inherit it and name the family."""

import pytest
import torch

from wm_robot.memory.memory import Memory, MemoryState
from wm_robot.memory.registry import make_memory

WIDTH, OUTCOME = 16, 10


class MemoryContract:
    family: str
    reach = 12
    """Steps after which every parameter has had a part in what is read."""

    @pytest.fixture
    def memory(self) -> Memory:
        torch.manual_seed(0)
        return make_memory(self.family, width=WIDTH, outcome=OUTCOME, dt=0.02, channels=4, commands=2)

    def lived(self, memory: Memory, batch: int = 3) -> MemoryState:
        """A state that something happened to."""
        h, e = torch.randn(batch, 20, WIDTH), torch.randn(batch, 20, OUTCOME)
        return {
            k: v.detach()
            for k, v in memory.scan(memory.initial_state(batch), h, e, torch.ones(batch, 20))[1].items()
        }

    @pytest.mark.parametrize(
        "steps", [1, 7, 32, 70, *(pytest.param(n, marks=pytest.mark.soak) for n in (33, 64, 200))]
    )
    def test_scan_equals_single_steps(self, memory, steps):
        state = self.lived(memory)
        h, e = torch.randn(3, steps, WIDTH), torch.randn(3, steps, OUTCOME)
        w = (torch.rand(3, steps) > 0.3).float()
        reads, after = memory.scan(state, h, e, w)
        for t in range(steps):
            torch.testing.assert_close(
                memory.read(state, h[:, t : t + 1])[:, 0], reads[:, t], atol=1e-5, rtol=1e-5
            )
            state = memory.update(state, h[:, t], e[:, t], w[:, t])
        for name in after:
            torch.testing.assert_close(after[name], state[name], atol=1e-5, rtol=1e-5)

    def test_scan_equals_single_steps_to_the_last_digits_of_double_precision(self, memory):
        memory.double()
        h, e = torch.randn(2, 70, WIDTH).double(), torch.randn(2, 70, OUTCOME).double()
        w = (torch.rand(2, 70) > 0.3).double()
        reads, after = memory.scan(self.double(memory), h, e, w)
        state = self.double(memory)
        for t in range(70):
            read = memory.read(state, h[:, t : t + 1])[:, 0]
            torch.testing.assert_close(read, reads[:, t], atol=1e-10, rtol=1e-10)
            state = memory.update(state, h[:, t], e[:, t], w[:, t])
        for name in after:
            torch.testing.assert_close(after[name], state[name], atol=1e-10, rtol=1e-10)

    def double(self, memory: Memory) -> MemoryState:
        """A newborn in double precision, counters aside."""
        return {k: v.double() if v.is_floating_point() else v for k, v in memory.initial_state(2).items()}

    def test_scan_of_two_parts_equals_the_scan_of_the_whole(self, memory):
        state, w = self.lived(memory), torch.ones(3, 60)
        h, e = torch.randn(3, 60, WIDTH), torch.randn(3, 60, OUTCOME)
        _, whole = memory.scan(state, h, e, w)
        _, part = memory.scan(state, h[:, :23], e[:, :23], w[:, :23])
        _, part = memory.scan(part, h[:, 23:], e[:, 23:], w[:, 23:])
        for name in whole:
            torch.testing.assert_close(part[name], whole[name], atol=1e-5, rtol=1e-5)

    def test_read_changes_nothing_and_many_queries_equal_single_ones(self, memory):
        state = self.lived(memory)
        kept = {name: value.clone() for name, value in state.items()}
        h = torch.randn(3, 9, WIDTH)
        together = memory.read(state, h)
        for n in range(9):
            torch.testing.assert_close(
                memory.read(state, h[:, n : n + 1])[:, 0], together[:, n], atol=1e-6, rtol=1e-6
            )
        for name, value in state.items():
            assert torch.equal(value, kept[name])

    def test_a_masked_step_leaves_every_bit(self, memory):
        state = self.lived(memory)
        h, e = torch.randn(3, 5, WIDTH), torch.randn(3, 5, OUTCOME)
        after = memory.update(state, h[:, 0], e[:, 0], torch.zeros(3))
        scanned = memory.scan(state, h, e, torch.zeros(3, 5))[1]
        for name, value in state.items():
            assert torch.equal(after[name], value)
            assert torch.equal(scanned[name], value)

    def test_a_masked_step_may_hold_anything(self, memory):
        state = self.lived(memory)
        h, e, w = torch.randn(3, 6, WIDTH), torch.randn(3, 6, OUTCOME), torch.ones(3, 6)
        w[:, 2] = 0
        reads, after = memory.scan(state, h, e, w)
        h[:, 2] = e[:, 2] = torch.nan
        broken, same = memory.scan(state, h, e, w)
        for name in after:
            torch.testing.assert_close(same[name], after[name], atol=0, rtol=0)
        kept = [0, 1, 3, 4, 5]
        torch.testing.assert_close(broken[:, kept], reads[:, kept], atol=0, rtol=0)

    def test_one_masked_row_does_not_touch_another(self, memory):
        state = self.lived(memory)
        h, e, w = torch.randn(3, 6, WIDTH), torch.randn(3, 6, OUTCOME), torch.ones(3, 6)
        alone = memory.scan(state, h, e, w)[1]
        w[1] = 0
        mixed = memory.scan(state, h, e, w)[1]
        for name, value in state.items():
            assert torch.equal(mixed[name][1], value[1])
            torch.testing.assert_close(mixed[name][[0, 2]], alone[name][[0, 2]], atol=1e-6, rtol=1e-6)

    def test_an_outcome_changes_later_reads_and_no_earlier_one(self, memory):
        state, w = self.lived(memory), torch.ones(3, 12)
        h, e = torch.randn(3, 12, WIDTH), torch.randn(3, 12, OUTCOME)
        before, _ = memory.scan(state, h, e, w)
        e[:, 5] += 1
        after, _ = memory.scan(state, h, e, w)
        assert (before[:, :6] - after[:, :6]).abs().max() < 1e-6
        assert (before[:, 6] - after[:, 6]).abs().max() > 1e-4

    def test_the_gradient_reaches_every_parameter_through_the_writes(self, memory):
        h, e = torch.randn(3, self.reach, WIDTH), torch.randn(3, self.reach, OUTCOME)
        reads, _ = memory.scan(memory.initial_state(3), h, e, torch.ones(3, self.reach))
        reads[:, -1].square().sum().backward()
        for name, parameter in memory.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name

    def test_a_state_is_float32_or_counts_and_of_fixed_shape(self, memory):
        born, lived = memory.initial_state(3), self.lived(memory)
        assert {k: v.shape for k, v in born.items()} == {k: v.shape for k, v in lived.items()}
        assert {k: v.dtype for k, v in born.items()} == {k: v.dtype for k, v in lived.items()}
        assert all(value.dtype in (torch.float32, torch.int64) for value in lived.values())
