import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.math.delta_rule import delta_scan, delta_update


def problem(steps: int, size: int = 4, dtype=torch.float64):
    torch.manual_seed(0)
    unit = torch.nn.functional.normalize
    return (
        torch.randn(2, size, size, dtype=dtype),
        unit(torch.randn(2, steps, size, dtype=dtype), dim=-1),
        unit(torch.randn(2, steps, size, dtype=dtype), dim=-1),
        torch.randn(2, steps, size, dtype=dtype),
        torch.rand(2, steps, dtype=dtype),
        -torch.rand(2, steps, dtype=dtype),
    )


@pytest.mark.parametrize("steps", [1, 9, 64])
def test_the_parallel_form_equals_the_loop(steps):
    state, query, key, value, strength, log_decay = problem(steps)
    read, last = delta_scan(state, query, key, value, strength, log_decay)
    for t in range(steps):
        torch.testing.assert_close(read[:, t], (query[:, t, None] @ state)[:, 0], atol=1e-10, rtol=1e-10)
        state = delta_update(state, key[:, t], value[:, t], strength[:, t], log_decay[:, t])
    torch.testing.assert_close(last, state, atol=1e-10, rtol=1e-10)


def test_its_gradient_is_that_of_finite_differences():
    inputs = [x.requires_grad_() for x in problem(9)]
    assert torch.autograd.gradcheck(lambda *x: delta_scan(*x), inputs)


def test_orthonormal_keys_are_recalled_exactly_after_many_writes():
    keys, values = torch.eye(8, dtype=torch.float64), torch.randn(8, 8, dtype=torch.float64)
    state = torch.zeros(8, 8, dtype=torch.float64)
    half, none = torch.tensor(0.5, dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64)
    for i in range(400):
        state = delta_update(state, keys[i % 8], values[i % 8], half, none)
    torch.testing.assert_close(keys @ state, values, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("pairs", "passes", "worst"), [(8, 1, 0.2), (16, 8, 0.02)])
def test_as_many_random_keys_are_held_as_their_size_allows(pairs, passes, worst):
    torch.manual_seed(0)
    errors = []
    for _ in range(32):
        key = torch.nn.functional.normalize(torch.randn(pairs, 32, dtype=torch.float64), dim=-1)
        value = torch.randn(pairs, 32, dtype=torch.float64)
        state = torch.zeros(32, 32, dtype=torch.float64)
        ones = torch.ones(pairs * passes, dtype=torch.float64)
        again = key.repeat(passes, 1)
        _, state = delta_scan(state, again, again, value.repeat(passes, 1), ones, 0 * ones)
        errors.append((key @ state - value).square().mean())
    assert torch.stack(errors).mean() < worst


@pytest.mark.parametrize("chunk", [16, 64])
def test_nearly_equal_keys_do_not_blow_up(chunk):
    torch.manual_seed(1)
    key = torch.empty(2048, 32)
    key[0] = torch.randn(32)
    for t in range(1, 2048):
        key[t] = 0.999 * key[t - 1] + (1 - 0.999**2) ** 0.5 * torch.randn(32)
    key = torch.nn.functional.normalize(key, dim=-1)
    target = torch.randn(32, 8)
    value, state = key @ target, torch.zeros(32, 8)
    ones, zeros, reads = torch.ones(chunk), torch.zeros(chunk), []
    for start in range(0, 2048, chunk):
        part = slice(start, start + chunk)
        read, state = delta_scan(state, key[part], key[part], value[part], ones, zeros)
        reads.append(read)
    assert state.isfinite().all()
    error = (torch.cat(reads) - value)[256:].square().mean() / value.var()
    assert error < 0.1
