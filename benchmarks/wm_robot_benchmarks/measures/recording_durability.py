"""Recording durability: kills recorders during a recording, and reads the rest with our and with other readers."""

import struct
from pathlib import Path

import numpy as np

from wm_robot.errors import MissingExtraError, SnapshotError, SpecError
from wm_robot.io.durable import make_folder
from wm_robot.recording.episode_file import DAMAGE, Origin, read_episode
from wm_robot.recording.episode_folder import EpisodeFolder, episodes_in, number_of
from wm_robot.recording.session_file import SessionWriter, typestore
from wm_robot.recording.session_recovery import recover_session
from wm_robot_benchmarks.measures.snapshot_durability import Acknowledge, Found

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from mcap.exceptions import McapError
    from mcap.reader import make_reader
except ImportError as error:
    raise MissingExtraError("killing recorders", "ros,episodes") from error

CHANNELS = tuple(f"joint{number}/{kind}" for kind in ("position", "velocity") for number in range(6))
ACTIONS = tuple(f"joint{number}" for number in range(6))
ORIGIN = Origin(robot="none", rate=50.0, spec_digest="c" * 64, observation=CHANNELS, action=ACTIONS)
PERIOD = 20_000_000
SYNCED = 25
"""Steps between two acknowledgements."""
CLOSED = "closed"


def to_episodes(folder: Path, number: int, size: int, acknowledge: Acknowledge) -> None:
    """Write episodes of `size` steps like the recorder, with a unique value for every number."""
    with EpisodeFolder(folder) as place:
        while True:
            episode = place.begin(ORIGIN)
            name = number_of(episode.path)
            for step in range(size + 1):
                episode.append(PERIOD * step, row_of(name, step), action=np.full(6, step))
                if step % SYNCED == SYNCED - 1:
                    episode.flush()
                    acknowledge(f"{name} {step}")
            place.end(episode, truncated=True)
            acknowledge(f"{name} {CLOSED}")


def row_of(number: int, step: int) -> np.ndarray:
    """Return an observation that identifies its episode and step."""
    return np.arange(12) + 1000.0 * step + 1e9 * number


class EpisodesFound:
    """Checks a folder of `write_episodes` after each kill; files that were checked before are not read again."""

    def __init__(self, size: int):
        self._size, self._known = size, 0

    def __call__(self, folder: Path, acknowledged: list[str]) -> Found:
        """Check that all acknowledged steps exist, without gaps in the numbers, and can be read."""
        # As the next recorder would: it recovers the data of the killed one.
        EpisodeFolder(folder).close()
        files = episodes_in(folder)
        lost = [number_of(path) for path in files] != list(range(len(files)))
        unreadable, steps = False, dict[int, int]()
        for path in files[self._known :]:
            try:
                steps[number_of(path)] = _read_by_both(path)
            except (SnapshotError, SpecError, *DAMAGE):
                unreadable = True
        self._known = len(files)
        for said in acknowledged:
            number, step = said.split()
            expected = self._size if step == CLOSED else int(step)
            lost |= steps.get(int(number), 0) < expected
        return Found(len(acknowledged), lost, unreadable, len(files))


def _read_by_both(path: Path) -> int:
    """Return the steps of an episode after two readers agree on its content."""
    episode, table = read_episode(path), pq.read_table(path, use_threads=False)
    expected = [row_of(number_of(path), step) for step in range(len(episode) + 1)]
    others = np.stack([table[name].to_numpy() for name in CHANNELS], -1)
    if not (np.array_equal(episode.obs, expected) and np.array_equal(others, expected)):
        raise SnapshotError(f"{path} holds other numbers than were written")
    return len(episode)


def to_one_file(folder: Path, number: int, size: int, acknowledge: Acknowledge) -> None:
    """Write one Parquet file part by part, as the control: it has no footer until it is closed."""
    make_folder(folder)
    schema = pa.schema([(name, pa.float64()) for name in CHANNELS])
    writer = pq.ParquetWriter(folder / f"{number}.parquet", schema)
    step = 0
    while True:
        rows = np.array([row_of(number, step + more) for more in range(SYNCED)])
        writer.write_table(pa.table(dict(zip(CHANNELS, rows.T, strict=True)), schema))
        step += SYNCED
        acknowledge(f"{number} {step}")


def found_in_one_file(folder: Path, acknowledged: list[str]) -> Found:
    """Check whether the newest file of the control can be read."""
    files = sorted(folder.glob("*.parquet"), key=lambda path: int(path.stem))
    if not files or not acknowledged:
        return Found(len(acknowledged), False, False, len(files))
    try:
        whole = pq.read_table(files[-1], use_threads=False).num_rows >= int(acknowledged[-1].split()[1])
        return Found(len(acknowledged), not whole, False, int(files[-1].stem))
    except DAMAGE:
        return Found(len(acknowledged), True, True, int(files[-1].stem))


def to_session(folder: Path, number: int, size: int, acknowledge: Acknowledge) -> None:
    """Write a session like the recorder: messages numbered from 0, acknowledged when they are flushed."""
    make_folder(folder)
    writer = SessionWriter(folder / f"{number}.mcap")
    channel = writer.add_topic("/one/count", "std_msgs/msg/Int64")
    while True:
        for _ in range(SYNCED):
            data = struct.pack("<Iq", 0x0100, writer.written)
            writer.write(channel, PERIOD * writer.written, data)
        writer.flush()
        acknowledge(str(writer.written))


def warm_up() -> None:
    """Load the libraries that a forked writer would otherwise spend most of its time on."""
    typestore().hash_rihs01("std_msgs/msg/Int64")
    typestore().generate_msgdef("std_msgs/msg/Int64", ros_version=2)


def found_in_session(folder: Path, acknowledged: list[str]) -> Found:
    """Check whether an indexed reader finds all messages of the newest session after recovery."""
    newest = _newest_session(folder)
    if newest is not None and newest.stat().st_size:
        recover_session(newest)
    return found_unrecovered(folder, acknowledged)


def found_unrecovered(folder: Path, acknowledged: list[str]) -> Found:
    """Check an unrecovered session in the same way, as the control."""
    newest = _newest_session(folder)
    if newest is None or not acknowledged:
        return Found(len(acknowledged), False, False, 0 if newest is None else int(newest.stem))
    number, expected = int(newest.stem), int(acknowledged[-1])
    try:
        with newest.open("rb") as file:
            counts = [message.sequence for _, _, message in make_reader(file).iter_messages()]
    except (McapError, *DAMAGE):
        return Found(len(acknowledged), True, True, number)
    whole = len(counts) >= expected and counts == list(range(len(counts)))
    return Found(len(acknowledged), not whole, False, number)


def _newest_session(folder: Path) -> Path | None:
    files = list(folder.glob("*.mcap"))
    return max(files, key=lambda path: int(path.stem)) if files else None
