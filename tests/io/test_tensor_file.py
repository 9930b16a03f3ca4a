"""Tensor file: equal to the result of the reference library; a wrong header is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.numpy import load, save

from wm_robot.errors import SnapshotError
from wm_robot.io.tensor_file import describe_tensors, parse_tensors
from wm_robot_benchmarks.tampering.tensor_attacks import FILES

VALUES = {
    "x": np.arange(6, dtype=np.float32).reshape(2, 3),
    "step": np.array([2**40, 7], np.int64),
    "flag": np.array([True, False]),
    "empty": np.zeros((2, 0), np.float32),
    "half": np.array([0.5], np.float16),
    "byte": np.array([[255]], np.uint8),
    "scalar": np.array(1.5),
}


def test_what_the_reference_writes_is_read_as_the_reference_reads_it():
    content = save(VALUES)
    ours, theirs = parse_tensors(content, "it"), load(content)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert ours[name].dtype == value.dtype and ours[name].shape == value.shape
        assert ours[name].tobytes() == value.tobytes() == VALUES[name].tobytes()


def test_what_is_read_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        parse_tensors(save(VALUES), "it")["x"][0, 0] = 1


def test_a_description_says_where_a_number_is_none():
    found = describe_tensors({"x": np.array([1.0, np.nan], np.float32), "n": np.array([1])})
    assert found == {
        "x": {"dtype": "float32", "shape": [2], "finite": False},
        "n": {"dtype": "int64", "shape": [1], "finite": True},
    }


@pytest.mark.parametrize("name", sorted(set(FILES) - {"no tensors"}))
def test_a_header_that_lies_is_refused(name):
    with pytest.raises(SnapshotError, match="of it|it is no"):
        parse_tensors(FILES[name](), "it")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_is_read_at_all_the_reference_reads_alike(data):
    content = bytearray(save(VALUES))
    for at, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=4)
    ):
        content[at] = value
    try:
        ours = parse_tensors(bytes(content), "it")
    except SnapshotError:
        return
    try:
        theirs = load(bytes(content))
    except SafetensorError:
        # The reference library is stricter about alignment.
        return
    assert {name: value.tobytes() for name, value in ours.items()} == {
        name: value.tobytes() for name, value in theirs.items()
    }
