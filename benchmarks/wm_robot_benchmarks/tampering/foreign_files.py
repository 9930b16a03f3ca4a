"""Foreign files: attacks with objects that are no bundle or no file. Each makes an object at `AttackTarget.path`."""

import os
import zlib

import numpy as np

from wm_robot.sharing.bundle import HEADER, MAGIC, MAX_BUNDLE_BYTES, MAX_MANIFEST_BYTES
from wm_robot_benchmarks.tampering.target import AttackTarget
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


def write_other_file(target: AttackTarget, rng: np.random.Generator) -> None:
    """Write a file of another format, or noise."""
    target.path.write_bytes(BEGINNINGS[rng.integers(len(BEGINNINGS))] + rng.bytes(int(rng.integers(0, 4096))))


def write_false_length(target: AttackTarget, rng: np.random.Generator) -> None:
    """Write a header with a manifest length beyond the file or the limit."""
    lengths = (0, MAX_MANIFEST_BYTES, MAX_MANIFEST_BYTES + 1, (1 << 32) - 1, int(rng.integers(1, 1 << 32)))
    identity, length = bytes.fromhex(target.owner.id), lengths[rng.integers(len(lengths))]
    target.path.write_bytes(HEADER.pack(MAGIC, identity, rng.bytes(64), length) + rng.bytes(1000))


def write_huge_file(target: AttackTarget, rng: np.random.Generator) -> None:
    """Write a valid start followed by very many zeros."""
    target.path.write_bytes(target.newest)
    os.truncate(target.path, (MAX_BUNDLE_BYTES, MAX_BUNDLE_BYTES + 1, 10 << 30)[rng.integers(3)])


def create_link(target: AttackTarget, rng: np.random.Generator) -> None:
    """Create a link: to the genuine bundle, to an endless device, to nothing or to itself."""
    ends = (target.genuine, "/dev/zero", "nowhere", target.path.name, "/proc/self/mem", ".")
    target.path.symlink_to(ends[rng.integers(len(ends))])


def create_pipe(target: AttackTarget, rng: np.random.Generator) -> None:
    """Create a pipe without a writer."""
    os.mkfifo(target.path)


def create_folder(target: AttackTarget, rng: np.random.Generator) -> None:
    """Create a folder."""
    target.path.mkdir()


def leave_empty(target: AttackTarget, rng: np.random.Generator) -> None:
    """Leave the path empty."""
