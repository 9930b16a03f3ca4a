"""Strict JSON: one text for each value; every other text is refused."""

import pytest

from wm_robot.errors import SnapshotError
from wm_robot.io.strict_json import parse_canonical_json, parse_json


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"a":1,"a":1}',
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"\xff",
        b"[" * 200_000,
        b"9" * 5000,
        b"1 2",
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(content):
    with pytest.raises(SnapshotError, match="it is not valid JSON"):
        parse_json(content, "it")


def test_a_spelling_of_its_own_is_read_where_it_is_nobodys_signature():
    assert parse_json(b' {"b": 1.50, "a": [] }\n', "it") == {"a": [], "b": 1.5}


@pytest.mark.parametrize("content", [b'{"a": 1}', b'{"b":1,"a":2}', b"1.50", b'"\\u0061"', b"1\n", b"1E2"])
def test_a_second_spelling_is_refused_where_one_is_signed(content):
    assert parse_json(content, "it") is not None
    with pytest.raises(SnapshotError, match="not in canonical form"):
        parse_canonical_json(content, "it")


def test_the_one_spelling_is_read():
    assert parse_canonical_json(b'{"a":[1,2.5,"\\u00e4"],"b":null}', "it") == {"a": [1, 2.5, "ä"], "b": None}
