"""What is no bundle, or no file. Each attack puts something at `Target.path`."""

import os
import zlib

import numpy as np

from wm_robot.sharing.bundle import HEADER, LARGEST, LARGEST_MANIFEST, MAGIC
from wm_robot_benchmarks.tampering.target import Target
from wm_robot_benchmarks.tampering.tensor_attacks import PICKLE, ZIP

BEGINNINGS = (
    PICKLE,
    ZIP,
    b"",
    MAGIC,
    b"\x7fELF",
    b"{}",
    b"\x89PNG\r\n\x1a\n",
    b"#!/bin/sh\n",
    zlib.compress(bytes(1 << 20)),
)


def other_file(target: Target, rng: np.random.Generator) -> None:
    """A file of another format, or noise."""
    target.path.write_bytes(BEGINNINGS[rng.integers(len(BEGINNINGS))] + rng.bytes(int(rng.integers(0, 4096))))


def claims_much(target: Target, rng: np.random.Generator) -> None:
    """A header that claims a longer manifest than there is, or than there may be."""
    lengths = (0, LARGEST_MANIFEST, LARGEST_MANIFEST + 1, (1 << 32) - 1, int(rng.integers(1, 1 << 32)))
    identity, length = bytes.fromhex(target.owner.id), lengths[rng.integers(len(lengths))]
    target.path.write_bytes(HEADER.pack(MAGIC, identity, rng.bytes(64), length) + rng.bytes(1000))


def huge(target: Target, rng: np.random.Generator) -> None:
    """A true beginning and very many zeros after it."""
    target.path.write_bytes(target.newest)
    os.truncate(target.path, (LARGEST, LARGEST + 1, 10 << 30)[rng.integers(3)])


def link(target: Target, rng: np.random.Generator) -> None:
    """A link: to the true bundle, to what never ends, to nothing, to itself."""
    ends = (target.genuine, "/dev/zero", "nowhere", target.path.name, "/proc/self/mem", ".")
    target.path.symlink_to(ends[rng.integers(len(ends))])


def pipe(target: Target, rng: np.random.Generator) -> None:
    """A pipe to which nobody writes."""
    os.mkfifo(target.path)


def folder(target: Target, rng: np.random.Generator) -> None:
    """A folder."""
    target.path.mkdir()


def nothing(target: Target, rng: np.random.Generator) -> None:
    """No file."""
