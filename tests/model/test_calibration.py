"""What is foreseen has deviations that hold, and a calibration is of one base."""

import json

import numpy as np
import pytest

pytestmark = pytest.mark.learn
torch = pytest.importorskip("torch")

from wm_robot.errors import SnapshotError
from wm_robot.math.ridge_regression import Evidence, compute_ridge_variance
from wm_robot.model.backend import Prediction
from wm_robot.model.base import load_base, save_base
from wm_robot.model.calibration import Calibration, load_calibration, save_calibration
from wm_robot.model.config import ModelConfig
from wm_robot.model.uncertainty import predict_uncertainty
from wm_robot.model.world_model import WorldModel
from wm_robot.spec import RobotSpec


def model(memory: str) -> WorldModel:
    torch.manual_seed(0)
    return WorldModel(
        ModelConfig(obs=4, action=2, truth=5, dt=0.02, servo=(-1, 1), memory=memory, width=16, outcome=8)
    )


def lived(made: WorldModel, steps: int):
    state = made.initial_state(initial_action=torch.zeros(2, 2))
    torch.manual_seed(1)
    with torch.no_grad():
        return made.scan(state, torch.randn(2, steps + 1, 4), torch.randn(2, steps, 2), torch.ones(2, steps))[
            1
        ]


@torch.no_grad()
def foreseen(made: WorldModel, state, **options) -> Prediction:
    z = made.observe(state, torch.zeros(2, 4))
    return predict_uncertainty(made, state, z, torch.ones(2, 6, 2), **options)


@pytest.mark.parametrize("memory", ["gru", "delta", "ridge", "kalman", "ekf"])
def test_what_is_foreseen_is_what_is_imagined_with_all_the_noise_on_the_way(memory):
    made = model(memory)
    state = lived(made, 8)
    found = foreseen(made, state)
    with torch.no_grad():
        imagined = made.imagine(state, made.observe(state, torch.zeros(2, 4)), torch.ones(2, 1, 6, 2))
    torch.testing.assert_close(found.mean, imagined.mean[:, 0])
    noise = imagined.log_variance[:, 0].exp().cumsum(1)
    unknown = found.log_variance.exp() - noise
    assert (unknown >= -1e-6).all()
    if memory in ("gru", "delta"):
        assert unknown.max() < 1e-6
    else:
        assert unknown[:, -1].max() > 1e-6
    again = foreseen(made, state)
    assert torch.equal(found.log_variance, again.log_variance)


@pytest.mark.parametrize("family", ["ridge", "kalman"])
def test_samples_have_the_posterior_variance(family):
    made = model(family)
    memory = made.memories[0]
    (state,) = lived(made, 50).memory
    query = memory._normalize_heads(memory.query(torch.randn(2, 1, 16)))
    read = (query[:, None] @ memory.sample_posterior(state, 4000)["S"].unflatten(0, (2, 4000)))[..., 0, :]
    if family == "ridge":
        exact = compute_ridge_variance(Evidence(state["H"], state["R"]), memory._compute_prior(2), query)[
            ..., 0
        ]
    else:
        exact = (query @ state["P"] @ query.mT)[..., 0, 0]
    torch.testing.assert_close(read.var(1).mean(-1), exact, rtol=0.1, atol=1e-3)


def test_a_fitted_calibration_covers_as_it_should():
    rng = np.random.default_rng(0)
    size = np.array([[0.5, 2.0], [3.0, 1.0]])
    errors = rng.normal(size=(20_000, 2, 2)) * size
    errors[:200] *= 1000
    calibration = Calibration.fit((1, 4), errors)
    expected = Prediction(torch.zeros(1, 6, 2), torch.zeros(1, 6, 2))
    deviation = calibration.apply_factors(expected).log_variance[0].mul(0.5).exp().numpy()
    np.testing.assert_allclose(deviation[[0, 3]], size, rtol=0.05)
    # Between two horizons by the logarithm, and flat beyond the last.
    np.testing.assert_allclose(deviation[1], np.sqrt(size[0] * size[1]), rtol=0.05)
    np.testing.assert_allclose(deviation[5], size[1], rtol=0.05)


@pytest.fixture
def base(tmp_path):
    spec = RobotSpec.from_dict(
        {
            "name": "one",
            "rate": 50,
            "model": "one.xml",
            "joints": [{"name": "a", "position": [-1.0, 1.0], "velocity": 1.0, "effort": 1.0}],
            "actuators": [{"name": "a", "joint": "a", "kind": "position", "range": [-1.0, 1.0], "rate": 1.0}],
        }
    )
    save_base(tmp_path, WorldModel(ModelConfig.from_spec(spec, truth=2, memory="gru", width=8)), spec, {})
    return load_base(tmp_path)


def test_it_is_read_back_as_it_was_written(tmp_path, base):
    calibration = Calibration(horizons=(1, 8), log_scale=np.array([[0.5, 0.25], [0.0, -1.0]]))
    save_calibration(tmp_path, base, calibration)
    found = load_calibration(tmp_path, base)
    assert found.horizons == (1, 8)
    np.testing.assert_array_equal(found.log_scale, calibration.log_scale)


@pytest.mark.parametrize(
    "change", [{"base": "0" * 64}, {"format": 9}, {"log_scale": [[0.0]]}, {"horizons": None}]
)
def test_one_that_does_not_belong_is_refused(tmp_path, base, change):
    save_calibration(tmp_path, base, Calibration(horizons=(1,), log_scale=np.zeros((1, 2))))
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(SnapshotError, match="wm-robot calibrate"):
        load_calibration(tmp_path, base)


def test_a_missing_one_says_how_to_make_it(tmp_path, base):
    with pytest.raises(SnapshotError, match="no calibration.*wm-robot calibrate"):
        load_calibration(tmp_path, base)
