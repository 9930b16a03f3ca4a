"""Episode file: one immutable Parquet file, with a row for each of its `T+1` observations.

::

    step, stamp       0 … T; time of measurement on the robot's clock, in ns
    JOINT/INTERFACE   a column for each observation channel, as measured; that of an optional sensor is null
                      where it had no valid reading
    new/SENSOR/FIELD  whether a field of a sensor beyond the joints is a new reading, and not one that was held
    goal/N            the goal at that moment; null before the first
    action/ACTUATOR   applied action from this row's observation to the next; null in the last row
    reward, valid     of the same transition; null in the last row, and `reward` where there is none

The schema's metadata holds JSON under `wm_robot`: origin of the episode, its end, and a digest of all.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from wm_robot.errors import MissingExtraError, SnapshotError, SpecError
from wm_robot.io.durable import write_file
from wm_robot.recording.episode_origin import EpisodeOrigin, check_same_robot
from wm_robot.spec import RobotSpec, encode_canonical_json
from wm_robot.types import Episode

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as error:
    raise MissingExtraError("an episode file", "episodes") from error

FORMAT, KIND = 1, "episode"
METADATA_KEY = b"wm_robot"
SUFFIX = ".parquet"
MAX_EPISODE_BYTES = 1 << 30
"""Bytes, and eight times as many numbers; a larger file is refused before it is read."""
FLOAT_TYPES = (np.dtype(np.float32), np.dtype(np.float64))
ARROW_ERRORS = (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError)
"""Errors that Arrow raises for a damaged or foreign file."""


def write_episode(path: Path, episode: Episode, origin: EpisodeOrigin) -> str:
    """Write an episode, whole or not at all, and return its digest.

    Raises:
        SpecError: If its channels are not those of the origin's robot.
        OSError: If it could not be written; then there is no file.
    """
    _check_shapes(episode, origin)
    episode = _conform_channels(episode, origin)
    about = _describe_episode(episode, origin)
    about["digest"] = _compute_digest(episode, about)
    table = _make_table(episode, origin).replace_schema_metadata({METADATA_KEY: encode_canonical_json(about)})
    sink = pa.BufferOutputStream()
    delta = dict.fromkeys(("step", "stamp"), "DELTA_BINARY_PACKED")
    pq.write_table(
        table, sink, compression="zstd", use_dictionary=False, column_encoding=delta, write_page_checksum=True
    )
    write_file(path, sink.getvalue().to_pybytes())
    return str(about["digest"])


def read_episode(path: Path, spec: RobotSpec | None = None) -> Episode:
    """Return an episode, with every number as it was written.

    Args:
        spec: Robot to which it must belong.

    Raises:
        SnapshotError: If the file is missing, damaged, too large or of another version.
        SpecError: If it belongs to another robot.
    """
    try:
        content = _read_content(path)
        about = _read_metadata(path, pq.read_schema(pa.BufferReader(content)))
        origin = EpisodeOrigin.from_dict(about)
        if spec is not None:
            check_same_robot(origin, spec, "the episode")
        episode = _make_episode(_read_rows(path, content, origin, about["goal"]), origin, about)
        if _compute_digest(episode, about) != about["digest"]:
            raise SnapshotError(f"{path} is damaged: its content has another digest. Use another copy of it")
        if spec is not None and origin.sensor_fields:
            # What is required is no part of the digest of a spec.
            episode = replace(episode, is_required=spec.layout.is_required)
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from error
    except ARROW_ERRORS as error:
        raise SnapshotError(f"{path} is no whole episode file: {error}") from error
    return episode


def read_origin(path: Path) -> tuple[EpisodeOrigin, str]:
    """Return the origin and digest of an episode; nothing else is read or checked.

    Raises:
        SnapshotError: If the file is no episode.
    """
    try:
        about = _read_metadata(path, pq.read_schema(path))
        return EpisodeOrigin.from_dict(about), str(about["digest"])
    except ARROW_ERRORS as error:
        raise SnapshotError(f"{path} is no whole episode file: {error}") from error


def compute_episode_digest(episode: Episode, origin: EpisodeOrigin) -> str:
    """Return the digest that the episode's file has, or would have."""
    episode = _conform_channels(episode, origin)
    return _compute_digest(episode, _describe_episode(episode, origin))


def make_columns(names: Sequence[str], values: np.ndarray) -> dict[str, pa.Array]:
    """Return a column for each channel of `T C`."""
    return {name: pa.array(np.ascontiguousarray(values[:, i])) for i, name in enumerate(names)}


def make_observation_columns(origin: EpisodeOrigin, obs: np.ndarray) -> dict[str, pa.Array]:
    """Return a column for each channel of `T O`; NaN is null in those of optional sensors."""
    columns, required = make_columns(origin.observation, obs), origin.is_required
    for i in () if required is None else np.flatnonzero(~required):
        columns[origin.observation[i]] = pa.array(obs[:, i], mask=np.isnan(obs[:, i]))
    return columns


def new_columns(origin: EpisodeOrigin) -> list[str]:
    return [f"new/{each.kind}" for each in origin.sensor_fields]


def make_new_columns(origin: EpisodeOrigin, is_new: np.ndarray | None) -> dict[str, pa.Array]:
    """Return a column for each field of a sensor from `T O`; none where all channels are of joints."""
    if is_new is None:
        return {}
    firsts = [channels.start for _, channels in origin.list_slices()]
    return make_columns(new_columns(origin), is_new[:, firsts])


def read_new_channels(table: pa.Table, origin: EpisodeOrigin) -> np.ndarray | None:
    """Return which channels are new readings, `T O`; None where all channels are of joints."""
    if not origin.sensor_fields:
        return None
    found = np.ones((len(table), len(origin.observation)), bool)
    for (_, channels), name in zip(origin.list_slices(), new_columns(origin), strict=True):
        found[:, channels] = table[name].to_numpy(zero_copy_only=False)[:, None]
    return found


def action_columns(origin: EpisodeOrigin) -> list[str]:
    return [f"action/{name}" for name in origin.action]


def goal_columns(goal_size: int) -> list[str]:
    return [f"goal/{number}" for number in range(goal_size)]


def stack_columns(table: pa.Table, names: Sequence[str]) -> np.ndarray:
    """Return the array `T C` of some columns; null becomes NaN."""
    columns = [table[name].to_numpy(zero_copy_only=False) for name in names]
    return np.stack(columns, axis=-1) if columns else np.zeros((len(table), 0))


def _conform_channels(episode: Episode, origin: EpisodeOrigin) -> Episode:
    """Return an episode as its file has it: with what the origin requires, and one NaN for all missing readings."""
    required = origin.is_required
    if required is None:
        return replace(episode, is_required=None, is_new=None)
    obs, is_new = episode.obs, episode.is_new
    missing = np.where(np.isnan(obs) & ~required, obs.dtype.type(np.nan), obs)
    known = np.ones(obs.shape, bool) if is_new is None else is_new
    return replace(episode, obs=missing, is_required=required, is_new=known)


def _check_shapes(episode: Episode, origin: EpisodeOrigin) -> None:
    for name, array, channels in (
        ("obs", episode.obs, origin.observation),
        ("action", episode.action, origin.action),
    ):
        if array.ndim != 2 or array.shape[1] != len(channels) or array.dtype not in FLOAT_TYPES:
            raise SpecError(
                f"{name} is {array.dtype} {array.shape}; robot '{origin.robot}' has {len(channels)} channels, "
                "float32 or float64"
            )


def _describe_episode(episode: Episode, origin: EpisodeOrigin) -> dict[str, Any]:
    return {
        **origin.to_dict(),
        "format": FORMAT,
        "kind": KIND,
        "steps": len(episode),
        "goal": episode.goal.shape[1],
        "initial_action": [float(value) if np.isfinite(value) else None for value in episode.initial_action],
        "terminated": episode.terminated,
        "truncated": episode.truncated,
    }


def _compute_digest(episode: Episode, about: Mapping[str, Any]) -> str:
    """Return the SHA-256 of an episode's content, independent of its encoding in Parquet."""
    hashed = hashlib.sha256(encode_canonical_json({k: v for k, v in about.items() if k != "digest"}))
    names = ("stamp", "obs", "action", "reward", "goal", "valid")
    for name in names if episode.is_new is None else (*names, "is_new"):
        array = np.ascontiguousarray(getattr(episode, name))
        if name in ("reward", "goal"):
            array = np.where(np.isnan(array), np.nan, array).astype(np.float64)
        hashed.update(f"{name} {array.dtype.str} {array.shape}".encode())
        hashed.update(array.tobytes())
    return hashed.hexdigest()


def _make_table(episode: Episode, origin: EpisodeOrigin) -> pa.Table:
    columns = {"step": pa.array(np.arange(len(episode) + 1)), "stamp": pa.array(episode.stamp, pa.int64())}
    columns |= make_observation_columns(origin, episode.obs) | make_new_columns(origin, episode.is_new)
    for name, goal in zip(goal_columns(episode.goal.shape[1]), episode.goal.T, strict=True):
        columns[name] = pa.array(goal.astype(np.float64), mask=np.isnan(goal))
    last = np.arange(len(episode) + 1) == len(episode)
    for name, values in zip(action_columns(origin), episode.action.T, strict=True):
        columns[name] = pa.array(np.append(values, values.dtype.type(0)), mask=last)
    columns["reward"] = pa.array(
        np.append(episode.reward, 0.0), mask=last | np.append(np.isnan(episode.reward), True)
    )
    columns["valid"] = pa.array(np.append(episode.valid, False), mask=last)
    return pa.table(columns)


def _read_content(path: Path) -> bytes:
    if path.stat().st_size > MAX_EPISODE_BYTES:
        raise SnapshotError(f"{path} is larger than {MAX_EPISODE_BYTES >> 20} MiB, the most for an episode")
    return path.read_bytes()


def _read_metadata(path: Path, schema: pa.Schema) -> dict[str, Any]:
    """Return the values in the metadata."""
    about = json.loads((schema.metadata or {})[METADATA_KEY])
    if (about["format"], about["kind"]) != (FORMAT, KIND):
        raise SnapshotError(
            f"{path} is a {about['kind']!r} of format {about['format']}; this version reads a {KIND!r} of format "
            f"{FORMAT}. Use the version that wrote it"
        )
    return dict(about)


def _read_rows(path: Path, content: bytes, origin: EpisodeOrigin, goal_size: int) -> pa.Table:
    file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
    if file.metadata.num_rows * file.metadata.num_columns > MAX_EPISODE_BYTES:
        raise SnapshotError(
            f"{path} claims {file.metadata.num_rows} observations, more than an episode can have"
        )
    moments = ["step", "stamp", *origin.observation, *new_columns(origin), *goal_columns(goal_size)]
    expected = [*moments, *action_columns(origin), "reward", "valid"]
    if file.schema_arrow.names != expected:
        odd = sorted(set(expected) ^ set(file.schema_arrow.names))
        raise SnapshotError(
            f"{path} has other columns than its metadata lists: {odd or 'their order'} differ"
        )
    return file.read(use_threads=False)


def _make_episode(table: pa.Table, origin: EpisodeOrigin, about: Mapping[str, Any]) -> Episode:
    kept = table.slice(0, len(table) - 1)
    action = stack_columns(kept, action_columns(origin))
    return Episode(
        stamp=table["stamp"].to_numpy(),
        obs=stack_columns(table, origin.observation),
        action=action,
        initial_action=np.array(
            [np.nan if value is None else value for value in about["initial_action"]], action.dtype
        ),
        reward=kept["reward"].to_numpy(),
        goal=stack_columns(table, goal_columns(about["goal"])),
        valid=kept["valid"].to_numpy(zero_copy_only=False).astype(bool),
        terminated=about["terminated"],
        truncated=about["truncated"],
        is_required=origin.is_required,
        is_new=read_new_channels(table, origin),
    )
