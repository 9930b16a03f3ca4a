import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.math.extended_kalman import ekf_update, reduce_covariance


def measured(seed: int = 0, many: int = 20):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    truth, slope = normal(2, 5), normal(many, 2, 3, 5)
    noise = 0.05 + torch.rand(many, 2, 3, generator=generator, dtype=torch.float64)
    value = (slope @ truth[..., None])[..., 0] + noise.sqrt() * normal(many, 2, 3)
    return truth, slope, noise, value


def run(slope, noise, value):
    mean = torch.zeros(2, 5, dtype=torch.float64)
    covariance = torch.eye(5, dtype=torch.float64).expand(2, -1, -1)
    evidence = torch.zeros(2, dtype=torch.float64)
    for j, r, y in zip(slope, noise, value, strict=True):
        mean, half_gain, misfit, log_volume, _ = ekf_update(
            mean, covariance, y - (j @ mean[..., None])[..., 0], j, r
        )
        covariance = reduce_covariance(covariance, half_gain)
        evidence = evidence - 0.5 * misfit.square().sum(-1) - log_volume
    return mean, covariance, evidence


def test_of_a_linear_world_it_is_ridge_regression():
    _, slope, noise, value = measured()
    mean, covariance, _ = run(slope, noise, value)
    weighted = slope / noise[..., None]
    precision = torch.eye(5) + (weighted.mT @ slope).sum(0)
    torch.testing.assert_close(covariance, torch.linalg.inv(precision))
    towards = (weighted.mT @ value[..., None]).sum(0)
    torch.testing.assert_close(mean, torch.linalg.solve(precision, towards)[..., 0])


def test_its_likelihood_is_that_of_all_measurements_at_once():
    _, slope, noise, value = measured()
    rows = slope.transpose(0, 1).flatten(1, 2)
    spread = rows @ rows.mT + torch.diag_embed(noise.transpose(0, 1).flatten(1))
    whole = torch.distributions.MultivariateNormal(torch.zeros(60, dtype=torch.float64), spread)
    constant = 30 * torch.log(torch.tensor(2 * torch.pi, dtype=torch.float64))
    expected = whole.log_prob(value.transpose(0, 1).flatten(1)) + constant
    torch.testing.assert_close(run(slope, noise, value)[2], expected)


def test_a_covariance_that_rounding_broke_is_not_finite_and_no_error():
    _, slope, noise, value = measured()
    broken = -10 * torch.eye(5, dtype=torch.float64).expand(2, -1, -1)
    mean, half_gain, misfit, log_volume, _ = ekf_update(
        torch.zeros(2, 5, dtype=torch.float64), broken, value[0], slope[0], noise[0]
    )
    for part in (mean, reduce_covariance(broken, half_gain), misfit, log_volume):
        assert not torch.isfinite(part).any()
