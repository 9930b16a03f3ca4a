"""Open episode: a file that grows row by row; a kill loses at most the last second.

It is an Arrow stream of small batches, each synced before the next one is written. A row is an observation and the
transition to it: its action is the previous one, and that of the first row the last action before the episode.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from wm_robot.errors import MissingExtraError, SnapshotError, SpecError
from wm_robot.io.durable import sync_folder
from wm_robot.recording.episode_file import (
    ARROW_ERRORS,
    FLOAT_TYPES,
    FORMAT,
    MAX_EPISODE_BYTES,
    action_columns,
    goal_columns,
    make_columns,
    make_new_columns,
    make_observation_columns,
    new_columns,
    read_new_channels,
    stack_columns,
)
from wm_robot.recording.episode_origin import EpisodeOrigin
from wm_robot.spec import encode_canonical_json
from wm_robot.types import Episode

try:
    import pyarrow as pa
except ImportError as error:
    raise MissingExtraError("an open episode", "episodes") from error

FLUSH_PERIOD = 1.0
"""Seconds on the robot's clock after which rows are synced."""
METADATA_KEY, END_KEY, KIND = b"wm_robot.open", "end", "open episode"
STREAM_PREFIX = b"\xff\xff\xff\xff"
"""First bytes of every Arrow stream."""


class OpenEpisode:
    """Writer of the file of an episode in progress. One thread only."""

    def __init__(self, path: Path, origin: EpisodeOrigin, *, goal_size: int = 0, dtype: Any = np.float64):
        """Args:
        goal_size: Size of the goal.
        dtype: Of observations and actions, float32 or float64.

        Raises:
            OSError: If the file exists already, or cannot be made.
        """
        self.path = path
        self.num_steps = -1
        """Transitions so far; -1 before the first observation."""
        self._dtype = np.dtype(dtype)
        if self._dtype not in FLOAT_TYPES:
            raise SpecError(f"dtype is {self._dtype}; it must be float32 or float64")
        self._origin, self._goal_size = origin, goal_size
        self._schema = _make_schema(origin, goal_size, self._dtype)
        self._rows: list[tuple[int, np.ndarray, np.ndarray, np.ndarray, float, bool, np.ndarray]] = []
        self._last_stamp = self._synced_stamp = 0
        self._file = path.open("xb")
        with _explain_write_errors(path):
            self._stream = pa.ipc.new_stream(self._file, self._schema)
        self._folder_synced = False

    def append(
        self,
        stamp: int,
        obs: np.ndarray,
        *,
        action: np.ndarray | None,
        goal: np.ndarray | None = None,
        reward: float = np.nan,
        valid: bool = True,
        is_new: np.ndarray | None = None,
    ) -> None:
        """Add an observation, `O`, and the transition to it.

        Args:
            stamp: Of the measurement, in ns; later than the one before.
            action: Applied action before it, `A`; None if there was none, as before a first step.
            goal: Current goal, `G`.
            reward: Of the transition to it; NaN if there was none.
            valid: False if that transition must not be learned from.
            is_new: Whether each channel is a new reading, bool `O`; None: all are.

        Raises:
            SpecError: If the stamp does not rise, or an array has another size.
            OSError: If the rows of the last second could not be written. Earlier rows are saved.
        """
        if self.num_steps >= 0 and stamp <= self._last_stamp:
            raise SpecError(
                f"stamp {stamp} is not after {self._last_stamp}; end the episode and start another"
            )
        action = np.full(len(self._origin.action), np.nan) if action is None else action
        goal = np.full(self._goal_size, np.nan) if goal is None else goal
        is_new = np.ones(len(self._origin.observation), bool) if is_new is None else is_new
        for name, array, size in (
            ("obs", obs, len(self._origin.observation)),
            ("is_new", is_new, len(self._origin.observation)),
            ("action", action, len(self._origin.action)),
            ("goal", goal, self._goal_size),
        ):
            if np.shape(array) != (size,):
                raise SpecError(f"{name} has shape {np.shape(array)}; it must have {size} numbers")
        if self.num_steps < 0:
            self._synced_stamp = stamp
        self._rows.append(
            (stamp, np.array(obs), np.array(action), np.array(goal), reward, valid, np.array(is_new))
        )
        self._last_stamp = stamp
        self.num_steps += 1
        if stamp - self._synced_stamp >= FLUSH_PERIOD * 1e9:
            self.flush()

    def flush(self) -> None:
        """Sync all rows; when this returns, they survive a power cut.

        Raises:
            OSError: If it could not be written.
        """
        with _explain_write_errors(self.path):
            if self._rows:
                self._stream.write_batch(_make_batch(self._rows, self._schema, self._origin, self._dtype))
                self._rows.clear()
            self._sync()
        self._synced_stamp = self._last_stamp

    def end(self, *, terminated: bool = False, truncated: bool = False) -> None:
        """Write how the episode ended, and close the file.

        Raises:
            OSError: If it could not be written.
        """
        how = encode_canonical_json({"terminated": terminated, "truncated": truncated})
        self.flush()
        with _explain_write_errors(self.path):
            nothing = pa.RecordBatch.from_pylist([], schema=self._schema)
            self._stream.write_batch(nothing, custom_metadata={END_KEY: how})
            self._stream.close()
            self._sync()
        self.close()

    def close(self) -> None:
        """Close the file. Without `end`, it is equal to the file of a killed process."""
        self._file.close()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        if not self._folder_synced:
            sync_folder(self.path.parent)
            self._folder_synced = True


@dataclass(frozen=True, kw_only=True)
class OpenEpisodeContent:
    """Content of the file of an open episode."""

    episode: Episode | None
    """None if not even one transition was synced."""
    origin: EpisodeOrigin | None
    """None if not even the header of the file was synced."""
    has_end: bool
    """False: the process was killed, and up to one second is lost."""


def read_open_episode(path: Path) -> OpenEpisodeContent:
    """Return the synced content of an open episode.

    Raises:
        SnapshotError: If the file is something else.
    """
    if path.stat().st_size > MAX_EPISODE_BYTES:
        raise SnapshotError(f"{path} is larger than {MAX_EPISODE_BYTES >> 20} MiB, the most for an episode")
    reader = _open_stream(path, path.read_bytes())
    if reader is None:
        return OpenEpisodeContent(episode=None, origin=None, has_end=False)
    about = _read_metadata(path, reader.schema)
    batches, end = [], None
    for batch, said in _iterate_whole_batches(reader):
        batches.append(batch)
        end = json.loads(said[END_KEY.encode()]) if said else end
    origin = replace(EpisodeOrigin.from_dict(about), salvaged=end is None)
    table = pa.Table.from_batches(batches, reader.schema)
    try:
        how = {"truncated": True} if end is None else end
        episode = _make_episode(table, origin, about["goal"], how) if len(table) > 1 else None
    except (SpecError, KeyError, TypeError) as error:
        raise SnapshotError(f"{path} is a damaged open episode: {error}") from error
    return OpenEpisodeContent(episode=episode, origin=origin, has_end=end is not None)


def _open_stream(path: Path, content: bytes) -> Any:
    """Return a reader of the batches; None if the file ends before the first."""
    try:
        return pa.ipc.open_stream(content)
    except ARROW_ERRORS as error:
        beginning = content[: len(STREAM_PREFIX)]
        if not STREAM_PREFIX.startswith(beginning) and content.strip(b"\0"):
            raise SnapshotError(f"{path} is no open episode: {error}") from error
        return None


def _read_metadata(path: Path, schema: pa.Schema) -> dict[str, Any]:
    try:
        about = json.loads((schema.metadata or {})[METADATA_KEY])
        if (about["format"], about["kind"]) != (FORMAT, KIND):
            raise SnapshotError(
                f"{path} is a {about['kind']!r} of format {about['format']}; this version reads a {KIND!r} of "
                f"format {FORMAT}. Use the version that wrote it"
            )
        return dict(about)
    except ARROW_ERRORS as error:
        raise SnapshotError(f"{path} is no open episode: {error}") from error


def _iterate_whole_batches(reader: Any) -> Iterator[tuple[pa.RecordBatch, Any]]:
    while True:
        try:
            batch, said = reader.read_next_batch_with_custom_metadata()
            batch.validate(full=True)
        # The end; a partly written batch was never acknowledged.
        except (StopIteration, *ARROW_ERRORS):
            return
        yield batch, said


def _make_schema(origin: EpisodeOrigin, goal_size: int, dtype: np.dtype[Any]) -> pa.Schema:
    about = {**origin.to_dict(), "format": FORMAT, "kind": KIND, "goal": goal_size}
    number = pa.from_numpy_dtype(dtype)
    named = [(name, number) for name in origin.observation]
    named += [(name, pa.bool_()) for name in new_columns(origin)]
    named += [(name, number) for name in action_columns(origin)]
    named += [(name, pa.float64()) for name in goal_columns(goal_size)]
    columns = [("stamp", pa.int64()), *named, ("reward", pa.float64()), ("valid", pa.bool_())]
    return pa.schema(columns, metadata={METADATA_KEY: encode_canonical_json(about)})


def _make_batch(
    rows: list[Any], schema: pa.Schema, origin: EpisodeOrigin, dtype: np.dtype[Any]
) -> pa.RecordBatch:
    stamp, obs, action, goal, reward, valid, is_new = (np.array(part) for part in zip(*rows, strict=True))
    columns = {
        "stamp": pa.array(stamp, pa.int64()),
        **make_observation_columns(origin, obs.astype(dtype)),
        **make_new_columns(origin, is_new),
        **make_columns(action_columns(origin), action.astype(dtype)),
        **make_columns(goal_columns(goal.shape[1]), goal.astype(np.float64)),
        "reward": pa.array(reward.astype(np.float64)),
        "valid": pa.array(valid.astype(bool)),
    }
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=schema)


def _make_episode(table: pa.Table, origin: EpisodeOrigin, goal_size: int, end: dict[str, bool]) -> Episode:
    led = stack_columns(table, action_columns(origin))
    return Episode(
        stamp=table["stamp"].to_numpy(),
        obs=stack_columns(table, origin.observation),
        action=led[1:],
        initial_action=led[0],
        reward=table["reward"].to_numpy()[1:],
        goal=stack_columns(table, goal_columns(goal_size)),
        valid=table["valid"].to_numpy()[1:],
        is_required=origin.is_required,
        is_new=read_new_channels(table, origin),
        **end,
    )


@contextmanager
def _explain_write_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"{error.strerror or error}: the episode's last second is lost, earlier rows are saved. Make "
            "room; the episode is written when its folder is used again, or by wm-robot recover",
            str(path),
        ) from error
