import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.math.kalman_rule import kalman_scan, kalman_update

K, V = 4, 3


def steps(count: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    noise = 0.05 + torch.rand(2, count, generator=generator, dtype=torch.float64)
    return normal(2, count, K), normal(2, count, K), normal(2, count, V), noise, -0.1 * noise


def born(batch: int = 2):
    mean = torch.zeros(batch, K, V, dtype=torch.float64)
    return mean, torch.eye(K, dtype=torch.float64).expand(batch, -1, -1)


@pytest.mark.parametrize("count", [1, 2, 9])
def test_a_scan_is_its_writes(count):
    query, key, value, noise, decay = steps(count)
    belief = born()
    for _, k, v, r, g in zip(*(x.unbind(1) for x in steps(5, seed=1)), strict=True):
        belief = kalman_update(belief, k, v, r, g)
    reads, after = kalman_scan(belief, query, key, value, noise, decay)
    for t in range(count):
        torch.testing.assert_close((query[:, t, None] @ belief[0])[:, 0], reads[:, t])
        belief = kalman_update(belief, key[:, t], value[:, t], noise[:, t], decay[:, t])
    torch.testing.assert_close(after, belief)


def test_its_gradient_is_that_of_finite_differences():
    inputs = [x.requires_grad_() for x in steps(6)]

    def reads_and_belief(*inputs):
        reads, belief = kalman_scan(born(), *inputs)
        return reads, *belief

    assert torch.autograd.gradcheck(reads_and_belief, inputs)


def test_without_forgetting_it_is_ridge_regression():
    _, key, value, noise, decay = steps(12)
    _, (mean, covariance) = kalman_scan(born(), key, key, value, noise, torch.zeros_like(decay))
    precision = torch.eye(K) + (key / noise[..., None]).transpose(1, 2) @ key
    torch.testing.assert_close(covariance, torch.linalg.inv(precision))
    torch.testing.assert_close(
        mean, torch.linalg.solve(precision, (key / noise[..., None]).transpose(1, 2) @ value)
    )


def test_evidence_of_a_noiseless_world_makes_it_exact_and_sure():
    _, key, _, _, decay = steps(40)
    weights = torch.randn(2, K, V, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    small = torch.full_like(decay, 1e-6)
    _, (mean, covariance) = kalman_scan(born(), key, key, key @ weights, small, torch.zeros_like(decay))
    torch.testing.assert_close(mean, weights, atol=1e-5, rtol=1e-5)
    assert covariance.abs().max() < 1e-5


def test_what_is_forgotten_is_unknown_again():
    _, key, value, noise, _ = steps(6)
    _, belief = kalman_scan(born(), key, key, value, noise, torch.zeros_like(noise))
    mean, covariance = kalman_update(
        belief,
        torch.zeros(2, K).double(),
        torch.zeros(2, V).double(),
        noise[:, 0],
        torch.full((2,), -30.0).double(),
    )
    torch.testing.assert_close((mean, covariance), born(), atol=1e-9, rtol=0)
