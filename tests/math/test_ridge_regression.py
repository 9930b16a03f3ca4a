import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.math.ridge_regression import (
    Evidence,
    compute_ridge_variance,
    ridge_scan,
    ridge_update,
    solve_ridge_weights,
)

K, V = 4, 3


def steps(count: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return draw(2, count, K), draw(2, count, V), draw(2, count).exp(), -0.1 * draw(2, count).square()


def nothing() -> Evidence:
    return Evidence(torch.zeros(2, K, K).double(), torch.zeros(2, K, V).double())


PRIOR = torch.tensor([[0.5, 1.0, 2.0, 0.1]] * 2, dtype=torch.float64)


def test_weights_are_those_of_ridge_regression():
    key, value, noise, _ = steps(20)
    _, evidence = ridge_scan(nothing(), PRIOR, key, key, value, noise, torch.zeros(2, 20).double())
    for row in range(2):
        x, y, r = key[row], value[row], noise[row, :, None]
        expected = torch.linalg.solve(x.T @ (x / r) + torch.diag(PRIOR[row]), x.T @ (y / r))
        torch.testing.assert_close(solve_ridge_weights(evidence, PRIOR)[row], expected, atol=1e-9, rtol=0)


def test_without_forgetting_it_is_recursive_least_squares():
    key, value, noise, _ = steps(20)
    weights, covariance = torch.zeros(2, K, V).double(), torch.diag_embed(1 / PRIOR)
    evidence = nothing()
    for t in range(20):
        k, v = key[:, t, :, None], value[:, t, None]
        gain = covariance @ k / (k.mT @ covariance @ k + noise[:, t, None, None])
        weights = weights + gain @ (v - k.mT @ weights)
        covariance = covariance - gain @ k.mT @ covariance
        evidence = ridge_update(evidence, key[:, t], value[:, t], noise[:, t], torch.zeros(2).double())
        torch.testing.assert_close(solve_ridge_weights(evidence, PRIOR), weights, atol=1e-9, rtol=0)
    said = compute_ridge_variance(evidence, PRIOR, key)
    torch.testing.assert_close(said, (key @ covariance * key).sum(-1), atol=1e-9, rtol=0)


@pytest.mark.parametrize("count", [1, 2, 33])
def test_a_scan_reads_before_each_write(count):
    key, value, noise, log_decay = steps(count)
    query, evidence = steps(count, seed=1)[0], ridge_update(nothing(), *(x[:, 0] for x in steps(1, seed=2)))
    reads, last = ridge_scan(evidence, PRIOR, query, key, value, noise, log_decay)
    for t in range(count):
        expected = (query[:, t, None] @ solve_ridge_weights(evidence, PRIOR))[:, 0]
        torch.testing.assert_close(reads[:, t], expected, atol=1e-9, rtol=0)
        evidence = ridge_update(evidence, key[:, t], value[:, t], noise[:, t], log_decay[:, t])
    for found, wanted in zip(last, evidence, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-9, rtol=0)


def test_evidence_added_is_evidence_of_both():
    first, second = steps(9), steps(7, seed=1)
    one, other = (ridge_scan(nothing(), PRIOR, s[0], *s[:3], 0 * s[3])[1] for s in (first, second))
    joint = [torch.cat(pair, 1) for pair in zip(first, second, strict=True)]
    _, both = ridge_scan(nothing(), PRIOR, joint[0], *joint[:3], 0 * joint[3])
    pooled = Evidence(one.gram + other.gram, one.moment + other.moment)
    torch.testing.assert_close(
        solve_ridge_weights(pooled, PRIOR), solve_ridge_weights(both, PRIOR), atol=1e-9, rtol=0
    )


def test_gradients_are_exact():
    key, value, noise, log_decay = (x[:1, :9].clone().requires_grad_() for x in steps(9))
    prior = PRIOR[:1].clone().requires_grad_()
    empty = Evidence(*(x[:1] for x in nothing()))
    assert torch.autograd.gradcheck(
        lambda *x: ridge_scan(empty, x[0], x[1], *x[1:])[0], (prior, key, value, noise, log_decay)
    )
