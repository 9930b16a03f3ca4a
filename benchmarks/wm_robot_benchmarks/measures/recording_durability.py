"""Recording durability: kills recorders during a recording, and reads the rest with our and with other readers."""

import struct
from pathlib import Path

import numpy as np

from wm_robot.errors import MissingExtraError, SnapshotError, SpecError
from wm_robot.io.durable import make_folder
from wm_robot.recording.episode_file import ARROW_ERRORS, read_episode
from wm_robot.recording.episode_folder import EpisodeFolder, get_episode_number, list_episodes
from wm_robot.recording.episode_origin import EpisodeOrigin
from wm_robot.recording.session_file import SessionWriter, load_typestore
from wm_robot.recording.session_recovery import recover_session
from wm_robot_benchmarks.measures.snapshot_durability import Acknowledge, DurabilityFinding

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from mcap.exceptions import McapError
    from mcap.reader import make_reader
except ImportError as error:
    raise MissingExtraError("killing recorders", "ros,episodes") from error

CHANNELS = tuple(f"joint{number}/{kind}" for kind in ("position", "velocity") for number in range(6))
ACTIONS = tuple(f"joint{number}" for number in range(6))
ORIGIN = EpisodeOrigin(robot="none", rate=50.0, spec_digest="c" * 64, observation=CHANNELS, action=ACTIONS)
PERIOD = 20_000_000
SYNCED = 25
"""Steps between two acknowledgements."""
CLOSED = "closed"


def write_episodes(folder: Path, number: int, size: int, acknowledge: Acknowledge) -> None:
    """Write episodes of `size` steps like the recorder, with a unique value for every number."""
    with EpisodeFolder(folder) as place:
        while True:
            episode = place.start_episode(ORIGIN)
            name = get_episode_number(episode.path)
            for step in range(size + 1):
                episode.append(PERIOD * step, make_marked_row(name, step), action=np.full(6, step))
                if step % SYNCED == SYNCED - 1:
                    episode.flush()
                    acknowledge(f"{name} {step}")
            place.end_episode(episode, truncated=True)
            acknowledge(f"{name} {CLOSED}")


def make_marked_row(number: int, step: int) -> np.ndarray:
    """Return an observation that identifies its episode and step."""
    return np.arange(12) + 1000.0 * step + 1e9 * number


class EpisodeFolderCheck:
    """Checks a folder of `write_episodes` after each kill; files that were checked before are not read again."""

    def __init__(self, size: int):
        self._size, self._known = size, 0

    def __call__(self, folder: Path, acknowledged: list[str]) -> DurabilityFinding:
        """Check that all acknowledged steps exist, without gaps in the numbers, and can be read."""
        # As the next recorder would: it recovers the data of the killed one.
        EpisodeFolder(folder).close()
        files = list_episodes(folder)
        lost = [get_episode_number(path) for path in files] != list(range(len(files)))
        unreadable, steps = False, dict[int, int]()
        for path in files[self._known :]:
            try:
                steps[get_episode_number(path)] = _read_with_both_readers(path)
            except (SnapshotError, SpecError, *ARROW_ERRORS):
                unreadable = True
        self._known = len(files)
        for said in acknowledged:
            number, step = said.split()
            expected = self._size if step == CLOSED else int(step)
            lost |= steps.get(int(number), 0) < expected
        return DurabilityFinding(len(acknowledged), lost, unreadable, len(files))


def _read_with_both_readers(path: Path) -> int:
    """Return the steps of an episode after two readers agree on its content."""
    episode, table = read_episode(path), pq.read_table(path, use_threads=False)
    expected = [make_marked_row(get_episode_number(path), step) for step in range(len(episode) + 1)]
    others = np.stack([table[name].to_numpy() for name in CHANNELS], -1)
    if not (np.array_equal(episode.obs, expected) and np.array_equal(others, expected)):
        raise SnapshotError(f"{path} holds other numbers than were written")
    return len(episode)


def write_one_file(folder: Path, number: int, size: int, acknowledge: Acknowledge) -> None:
    """Write one Parquet file part by part, as the control: it has no footer until it is closed."""
    make_folder(folder)
    schema = pa.schema([(name, pa.float64()) for name in CHANNELS])
    writer = pq.ParquetWriter(folder / f"{number}.parquet", schema)
    step = 0
    while True:
        rows = np.array([make_marked_row(number, step + more) for more in range(SYNCED)])
        writer.write_table(pa.table(dict(zip(CHANNELS, rows.T, strict=True)), schema))
        step += SYNCED
        acknowledge(f"{number} {step}")


def check_one_file(folder: Path, acknowledged: list[str]) -> DurabilityFinding:
    """Check whether the newest file of the control can be read."""
    files = sorted(folder.glob("*.parquet"), key=lambda path: int(path.stem))
    if not files or not acknowledged:
        return DurabilityFinding(len(acknowledged), False, False, len(files))
    try:
        whole = pq.read_table(files[-1], use_threads=False).num_rows >= int(acknowledged[-1].split()[1])
        return DurabilityFinding(len(acknowledged), not whole, False, int(files[-1].stem))
    except ARROW_ERRORS:
        return DurabilityFinding(len(acknowledged), True, True, int(files[-1].stem))


def write_session(folder: Path, number: int, size: int, acknowledge: Acknowledge) -> None:
    """Write a session like the recorder: messages numbered from 0, acknowledged when they are flushed."""
    make_folder(folder)
    writer = SessionWriter(folder / f"{number}.mcap")
    channel = writer.add_topic("/one/count", "std_msgs/msg/Int64")
    while True:
        for _ in range(SYNCED):
            data = struct.pack("<Iq", 0x0100, writer.num_written)
            writer.write(channel, PERIOD * writer.num_written, data)
        writer.flush()
        acknowledge(str(writer.num_written))


def load_recording_libraries() -> None:
    """Load the libraries that a forked writer would otherwise spend most of its time on."""
    load_typestore().hash_rihs01("std_msgs/msg/Int64")
    load_typestore().generate_msgdef("std_msgs/msg/Int64", ros_version=2)


def check_session(folder: Path, acknowledged: list[str]) -> DurabilityFinding:
    """Check whether an indexed reader finds all messages of the newest session after recovery."""
    newest = _find_newest_session(folder)
    if newest is not None and newest.stat().st_size:
        recover_session(newest)
    return check_unrecovered_session(folder, acknowledged)


def check_unrecovered_session(folder: Path, acknowledged: list[str]) -> DurabilityFinding:
    """Check an unrecovered session in the same way, as the control."""
    newest = _find_newest_session(folder)
    if newest is None or not acknowledged:
        return DurabilityFinding(len(acknowledged), False, False, 0 if newest is None else int(newest.stem))
    number, expected = int(newest.stem), int(acknowledged[-1])
    try:
        with newest.open("rb") as file:
            counts = [message.sequence for _, _, message in make_reader(file).iter_messages()]
    except (McapError, *ARROW_ERRORS):
        return DurabilityFinding(len(acknowledged), True, True, number)
    whole = len(counts) >= expected and counts == list(range(len(counts)))
    return DurabilityFinding(len(acknowledged), not whole, False, number)


def _find_newest_session(folder: Path) -> Path | None:
    files = list(folder.glob("*.mcap"))
    return max(files, key=lambda path: int(path.stem)) if files else None
