"""Graphs of a base store its large weights as references, and compute the same to the bit."""

import gc
import json

import numpy as np
import pytest
from safetensors.numpy import save

pytestmark = pytest.mark.learn
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper

from wm_robot.errors import SnapshotError
from wm_robot.io.base_file import BASE_FOLDERS
from wm_robot.model.base import load_base
from wm_robot.model.graph_weights import (
    NO_WEIGHTS,
    REFERENCES_KEY,
    BaseWeights,
    WeightReference,
    encode_references,
    read_references,
)
from wm_robot.model.onnx_session import OnnxFunction
from wm_robot.training.export.reference_runtime import ReferenceFunction
from wm_robot.training.export.weight_sharing import MIN_SHARED_BYTES, inline_weights, share_weights

SIZE, WIDE = 16, 48
SHIPPED = sorted(path.parent.name for path in BASE_FOLDERS[0].glob("*/graphs.json"))


def random(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


TENSORS = {"encoder": random(0, SIZE, WIDE), "decoder": random(1, SIZE, WIDE), "bias": random(2, SIZE)}
"""A weight that the graph uses as it is, one that it transposes, and one that is too small."""
WEIGHTS = BaseWeights(save(TENSORS))
COMPUTED = random(3, SIZE, SIZE)
"""A constant that no tensor of the base equals."""
REFERENCES = {
    "val_1": WeightReference(tensor="encoder", shape=(SIZE, WIDE)),
    "val_2": WeightReference(tensor="decoder", shape=(SIZE, WIDE), transposed=True),
}


def make_graph():
    """A graph whose constants have no names of weights."""
    constants = {
        "val_1": TENSORS["encoder"],
        "val_2": np.ascontiguousarray(TENSORS["decoder"].T),
        "val_3": TENSORS["bias"],
        "val_4": COMPUTED,
    }
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["obs", "val_1"], ["wide"]),
            helper.make_node("MatMul", ["wide", "val_2"], ["narrow"]),
            helper.make_node("Add", ["narrow", "val_3"], ["shifted"]),
            helper.make_node("MatMul", ["shifted", "val_4"], ["found"]),
        ],
        "g",
        [helper.make_tensor_value_info("obs", TensorProto.FLOAT, [1, SIZE])],
        [helper.make_tensor_value_info("found", TensorProto.FLOAT, [1, SIZE])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, {"author": "x" * 300})
    return model.SerializeToString()


def run(function):
    return function({}, {"obs": random(9, 1, SIZE)})["found"]


@pytest.fixture
def plain():
    return make_graph()


@pytest.fixture
def shared(plain):
    return share_weights(plain, WEIGHTS)


def test_a_graph_with_references_computes_the_same_and_is_smaller(plain, shared):
    np.testing.assert_array_equal(
        run(OnnxFunction(shared, "plan", WEIGHTS)), run(OnnxFunction(plain, "plan", WEIGHTS))
    )
    saved = TENSORS["encoder"].nbytes + TENSORS["decoder"].nbytes
    assert len(shared) < len(plain) - saved + 600
    assert all(TENSORS[name].tobytes() not in shared for name in ("encoder", "decoder"))


def test_small_and_computed_constants_stay_in_the_graph(plain, shared):
    assert read_references(shared) == REFERENCES and read_references(plain) == {}
    assert TENSORS["bias"].nbytes < MIN_SHARED_BYTES <= COMPUTED.nbytes
    assert TENSORS["bias"].tobytes() in shared and COMPUTED.tobytes() in shared


def test_a_graph_without_references_needs_no_weights(plain):
    assert share_weights(plain, BaseWeights(save({}))) == inline_weights(plain, NO_WEIGHTS) == plain
    assert run(OnnxFunction(plain, "plan")).shape == (1, SIZE)


def test_sharing_again_changes_nothing(shared):
    assert share_weights(shared, WEIGHTS) == shared


def test_inlined_weights_are_the_graph_before_sharing(plain, shared):
    assert inline_weights(shared, WEIGHTS) == plain
    np.testing.assert_array_equal(
        run(ReferenceFunction(shared, "plan", WEIGHTS)), run(ReferenceFunction(plain, "plan"))
    )


def test_sessions_share_one_copy_and_keep_it(shared):
    weights = BaseWeights(save(TENSORS))
    first, second = (OnnxFunction(shared, "plan", weights) for _ in range(2))
    for reference in REFERENCES.values():
        value = weights.find_session_value(reference)
        assert value is weights.find_session_value(reference)
    assert not weights.tensors["encoder"].flags.owndata
    expected = run(second)
    del weights, value, second
    gc.collect()
    np.testing.assert_array_equal(run(first), expected)


def test_no_file_is_read(shared, tmp_path, monkeypatch):
    # The stubs name the weight file; a file of that name in the working folder is not the base's.
    monkeypatch.chdir(tmp_path)
    expected = run(OnnxFunction(shared, "plan", WEIGHTS))
    (tmp_path / "weights.safetensors").write_bytes(bytes(10_000))
    np.testing.assert_array_equal(run(OnnxFunction(shared, "plan", WEIGHTS)), expected)
    with pytest.raises(SnapshotError, match="the base has no tensor 'encoder'"):
        OnnxFunction(shared, "plan")


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({}, "the base has no tensor 'encoder'"),
        (TENSORS | {"decoder": TENSORS["decoder"].T.copy()}, r"'decoder' of the base has shape \(48, 16\)"),
        (TENSORS | {"encoder": TENSORS["encoder"].astype(np.float64)}, "type"),
    ],
)
def test_weights_that_do_not_fit_say_to_export_again(shared, tensors, reason):
    expected = f"(?s)graph 'plan.onnx' cannot be opened .*{reason}.* Export it again: wm-robot export BASE"
    with pytest.raises(SnapshotError, match=expected):
        OnnxFunction(shared, "plan.onnx", BaseWeights(save(tensors)))


def list_in(content, text):
    model = onnx.load_from_string(content)
    helper.set_model_props(model, {REFERENCES_KEY: text})
    return model.SerializeToString()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: b"\xff" * 20,
        lambda content: list_in(content, "{"),
        lambda content: list_in(content, "[1]"),
        lambda content: list_in(content, json.dumps({"val_1": {"tensor": "encoder"}})),
        lambda content: list_in(content, encode_references({"no constant": REFERENCES["val_1"]})),
        lambda content: list_in(content, encode_references({"val_2": REFERENCES["val_1"]})),
    ],
)
def test_a_malformed_list_says_to_export_again(shared, damage):
    with pytest.raises(SnapshotError, match="Export it again: wm-robot export BASE"):
        OnnxFunction(damage(shared), "plan.onnx", WEIGHTS)


@pytest.mark.parametrize("name", SHIPPED)
def test_graphs_that_ship_contain_no_weight_of_their_base(name):
    base = load_base(name)
    weights = BaseWeights(base.weights)
    graphs = [path.read_bytes() for path in BASE_FOLDERS[0].joinpath(name).glob("*.onnx")]
    assert graphs
    for content in graphs:
        assert read_references(content) and share_weights(content, weights) == content
