"""ROS bags: every form that `ros2 bag record` writes is read exactly, or refused with its cause."""

import shutil
import sqlite3
import sys

import numpy as np
import pytest
import zstandard

pytestmark = [pytest.mark.ros, pytest.mark.episodes]

from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.typesys import Stores, get_typestore

from tests.recording.bags import INFORMATION, read_metadata, write_bag, write_metadata, write_split_bag
from tests.recording.sessions import JOINTS, SPEC, START, record, step_of
from wm_robot.errors import MissingExtraError, SnapshotError
from wm_robot.recording.recorded_experience import list_robots, load_experience
from wm_robot.recording.rosbag import list_bag_files
from wm_robot.recording.session_file import (
    iterate_raw_messages,
    load_typestore,
    read_session,
    read_topics,
    was_closed,
)
from wm_robot.types import Episode

SAID = [one for step in [*range(1, 61), *range(150, 181)] for one in step_of(step)]
"""Of two episodes."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> list[Episode]:
    """Return the episodes of the same messages in a session file."""
    path = tmp_path_factory.mktemp("plain") / "session.mcap"
    record(path, SAID)
    episodes = load_experience(path, SPEC)
    assert [len(episode) for episode in episodes] == [59, 30]
    return episodes


def check_same(found: list[Episode], expected: list[Episode]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for name in other.__dataclass_fields__:
            assert np.asarray(getattr(one, name)).tobytes() == np.asarray(getattr(other, name)).tobytes(), (
                name
            )


FORMS = [
    ("mcap", "none", 8),
    ("mcap", "none", 9),
    ("mcap", "file", 9),
    ("mcap", "message", 9),
    ("mcap", "storage", 9),
    ("sqlite3", "none", 8),
    ("sqlite3", "none", 9),
    ("sqlite3", "file", 9),
    ("sqlite3", "message", 9),
]


@pytest.mark.parametrize(("storage", "compression", "version"), FORMS)
@pytest.mark.parametrize("parts", [1, 3])
def test_every_form_of_a_bag_gives_the_same_episodes(tmp_path, plain, storage, compression, version, parts):
    options = {"storage": storage, "compression": compression, "version": version}
    folder = write_split_bag(tmp_path / "bag", SAID, parts, **options)
    assert list_robots(folder) == ["one"] and was_closed(folder)
    check_same(load_experience(folder, SPEC), plain)


@pytest.mark.parametrize(("storage", "compression", "version"), FORMS)
def test_one_file_of_a_bag_is_a_bag(tmp_path, plain, storage, compression, version):
    folder = write_bag(tmp_path / "bag", SAID, storage=storage, compression=compression, version=version)
    (file,) = list_bag_files(folder)
    (folder / "metadata.yaml").unlink()
    # A name with special characters of a URI, and another ending than the recorder gives.
    other = file.rename(tmp_path / "ünser bag?#%20")
    check_same(load_experience(other, SPEC), plain)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_metadata_may_spell_topics_and_profiles_otherwise_than_the_files(tmp_path, plain, storage):
    """As in bags of `ros2 bag convert`, and of programs that write bags themselves."""
    folder = write_split_bag(tmp_path / "bag", SAID, 2, storage=storage)
    about = read_metadata(folder)
    for topic in about[INFORMATION]["topics_with_message_count"]:
        topic["topic_metadata"]["offered_qos_profiles"] = "- history: 1\n  depth: 7\n  reliability: 2\n"
    # Old recorders wrote the folder's name, too; here the folder was renamed later.
    names = about[INFORMATION]["relative_file_paths"]
    about[INFORMATION]["relative_file_paths"] = [f"old_name/{name}" for name in names]
    write_metadata(folder, about)
    check_same(load_experience(folder, SPEC), plain)
    if storage == "sqlite3":
        for file in list_bag_files(folder):
            database = sqlite3.connect(file)
            database.execute("UPDATE topics SET name = ltrim(name, '/')")
            database.commit()
            database.close()
        check_same(load_experience(folder, SPEC), plain)


def test_a_bag_is_read_as_its_messages_were_recorded(tmp_path):
    record(tmp_path / "session.mcap", SAID)
    said = list(iterate_raw_messages(tmp_path / "session.mcap"))
    for storage in ("mcap", "sqlite3"):
        folder = write_split_bag(tmp_path / storage, SAID, 2, storage=storage, compression="file")
        assert list(iterate_raw_messages(folder)) == said
        assert read_topics(folder) == read_topics(tmp_path / "session.mcap")
        session = read_session(folder)
        assert session.is_whole and len(session.topics["/one/joint_states"]) == 91


@pytest.mark.parametrize("compression", [CompressionType.NONE, CompressionType.LZ4, CompressionType.ZSTD])
@pytest.mark.parametrize("chunked", [True, False])
def test_chunks_may_be_compressed_in_any_way_that_mcap_knows(tmp_path, plain, compression, chunked):
    path = tmp_path / "bag.mcap"
    write_mcap(path, compression, chunked)
    check_same(load_experience(path, SPEC), plain)


def test_a_topic_without_its_slash_is_that_topic(tmp_path, plain):
    path = tmp_path / "bag.mcap"
    write_mcap(path, space="one")
    assert list_robots(path) == ["one"]
    check_same(load_experience(path, SPEC), plain)


def write_mcap(
    path, compression=CompressionType.ZSTD, chunked=True, encoding="cdr", said=SAID, space="/one"
) -> None:
    with path.open("wb") as file:
        writer = McapWriter(file, chunk_size=4096, compression=compression, use_chunking=chunked)
        writer.start(profile="ros2")
        channels = {}
        for number, (name, kind, message) in enumerate(said):
            if name not in channels:
                schema = writer.register_schema(kind, "ros2msg", b"")
                channels[name] = writer.register_channel(f"{space}/{name}", encoding, schema)
            data, time = bytes(load_typestore().serialize_cdr(message, kind)), START + number * 10**6
            writer.add_message(channels[name], time, data, time, number)
        writer.finish()


def test_a_killed_recorder_leaves_files_without_metadata_which_are_read_in_their_order(tmp_path, plain):
    # Twelve, so that the order by number is not the order by name.
    folder = write_split_bag(tmp_path / "bag", SAID, 12)
    (folder / "metadata.yaml").unlink()
    check_same(load_experience(folder, SPEC), plain)
    last = folder / "bag_11.mcap"
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 4])
    (folder / "bag_12.mcap").touch()
    found = load_experience(folder, SPEC)
    assert not was_closed(folder) and not read_session(folder).is_whole
    check_same(found[:1], plain[:1])
    # The last of twelve parts holds 23 of 364 messages, and its only chunk was cut.
    assert len(found[1]) == 24
    np.testing.assert_array_equal(found[1].obs, plain[1].obs[:25])


def test_a_file_that_was_being_compressed_when_the_recorder_was_killed_is_read_once(tmp_path, plain):
    folder = write_split_bag(tmp_path / "bag", SAID, 2, compression="file")
    whole = write_split_bag(tmp_path / "whole", SAID, 2)
    (folder / "metadata.yaml").unlink()
    shutil.copy(whole / "whole_1.mcap", folder / "bag_1.mcap")
    cut = folder / "bag_1.mcap.zstd"
    cut.write_bytes(cut.read_bytes()[:1000])
    assert [file.name for file in list_bag_files(folder)] == ["bag_0.mcap.zstd", "bag_1.mcap"]
    check_same(load_experience(folder, SPEC), plain)


def test_a_compressed_file_that_was_cut_holds_a_true_beginning(tmp_path):
    said = [one for step in range(1, 501) for one in step_of(step)]
    plain, compressed = tmp_path / "bag.mcap", tmp_path / "bag.mcap.zstd"
    write_mcap(plain, CompressionType.NONE, said=said)
    (whole,), content = load_experience(plain, SPEC), zstandard.compress(plain.read_bytes())
    compressed.write_bytes(content)
    assert was_closed(compressed)
    compressed.write_bytes(content[: 3 * len(content) // 4])
    assert not was_closed(compressed)
    (found,) = load_experience(compressed, SPEC)
    assert 50 < len(found) < 499
    np.testing.assert_array_equal(found.obs, whole.obs[: len(found) + 1])
    compressed.write_bytes(content[:100])
    with pytest.raises(SnapshotError, match="is compressed, and was cut within its first block"):
        load_experience(compressed, SPEC)


def test_what_a_killed_recorder_left_in_the_journal_of_sqlite_is_read(tmp_path, plain):
    folder = write_bag(tmp_path / "bag", SAID, storage="sqlite3")
    (file,) = list_bag_files(folder)
    database = sqlite3.connect(file)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA wal_autocheckpoint=0")
    rows = database.execute("SELECT topic_id, timestamp, data FROM messages WHERE id > 200").fetchall()
    database.execute("DELETE FROM messages WHERE id > 200")
    database.commit()
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.executemany("INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)", rows)
    database.commit()
    # Files while the recorder runs, or after its kill.
    shutil.copytree(folder, tmp_path / "left")
    database.close()
    assert (tmp_path / "left" / f"{file.name}-wal").stat().st_size
    check_same(load_experience(tmp_path / "left", SPEC), plain)


@pytest.mark.parametrize(("storage", "compression", "version"), FORMS)
def test_reading_leaves_a_bag_as_it_was(tmp_path, storage, compression, version):
    folder = write_split_bag(tmp_path / "bag", SAID, 2, storage=storage, compression=compression)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    load_experience(folder, SPEC)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_folder_with_several_recordings_asks_for_one(tmp_path):
    for name in ("monday", "tuesday"):
        record(tmp_path / f"{name}.mcap", SAID)
    with pytest.raises(SnapshotError, match=r"holds several recordings: \['monday.mcap', 'tuesday.mcap'\]"):
        load_experience(tmp_path, SPEC)


def test_a_folder_without_a_bag_is_refused_with_what_it_has(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        SnapshotError, match="is no bag: it has neither metadata.yaml nor a file of MCAP or SQLite. "
    ):
        list_bag_files(tmp_path / "empty")
    write_bag(tmp_path / "monday", SAID[:8])
    with pytest.raises(SnapshotError, match=r"MCAP or SQLite, but the bags \['monday'\]. Expected"):
        list_bag_files(tmp_path)
    (tmp_path / "empty" / "episode_000000.parquet").touch()
    with pytest.raises(
        SnapshotError, match="MCAP or SQLite, but episode files, which are split already. Expected"
    ):
        list_bag_files(tmp_path / "empty")


def change(folder, **values) -> None:
    about = read_metadata(folder)
    about[INFORMATION].update(values)
    write_metadata(folder, about)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("storage", "is a bag with storage 'cassette'; supported: mcap and sqlite3"),
        ("compression", "is a bag with compression 'gzip'; supported: zstd"),
        ("a file that is gone", r"is a bag without its files \['bag_1.mcap'\]. .* ros2 bag reindex"),
        ("no file", "is a bag without files: nothing was recorded"),
        ("no YAML", r"does not describe a bag \(ScannerError: .*ros2 bag reindex"),
        ("no bag", r"does not describe a bag \(KeyError: 'rosbag2_bagfile_information'\)"),
        ("nothing", r"does not describe a bag \(TypeError: "),
        ("a list", r"does not describe a bag \(TypeError: "),
    ],
)
def test_a_bag_that_cannot_be_read_is_refused_with_the_cause(tmp_path, what, words):
    folder = write_split_bag(tmp_path / "bag", SAID[:40], 2)
    metadata = folder / "metadata.yaml"
    if what == "storage":
        change(folder, storage_identifier="cassette")
    if what == "compression":
        change(folder, compression_mode="FILE", compression_format="gzip")
    if what == "a file that is gone":
        (folder / "bag_1.mcap").unlink()
    if what == "no file":
        change(folder, relative_file_paths=[])
    if what == "no YAML":
        metadata.write_text("rosbag2: '")
    if what == "no bag":
        metadata.write_text("name: elbow")
    if what == "nothing":
        metadata.write_text("")
    if what == "a list":
        metadata.write_text("rosbag2_bagfile_information: [mcap]")
    with pytest.raises(SnapshotError, match=words):
        load_experience(folder, SPEC)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty: its recorder wrote nothing into it"),
        (b"\x89MCAP0\r\n", "is no session: it ends before the first message"),
        (b"SQLite format 3\0" + bytes(600), "is a SQLite file that cannot be read as a bag"),
        (b"\x28\xb5\x2f\xfd" + bytes(range(200)), "is damaged: .*Copy it again"),
        (b"#ROSBAG V2.0\n", "is a bag of ROS 1. Convert it: rosbags-convert --src"),
        (b"%PDF-1.7 and so on", "is no session: it is neither MCAP nor SQLite. Expected: a folder"),
    ],
)
def test_a_file_that_is_no_bag_is_refused_with_what_it_is(tmp_path, content, words):
    path = tmp_path / "bag.mcap"
    path.write_bytes(content)
    with pytest.raises(SnapshotError, match=f"^{path} {words}"):
        load_experience(path, SPEC)


def test_a_database_of_something_else_is_refused(tmp_path):
    path = tmp_path / "bag.db3"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE songs (name TEXT)")
    database.commit()
    database.close()
    with pytest.raises(SnapshotError, match="cannot be read as a bag: no such table: topics"):
        load_experience(path, SPEC)


def test_a_damaged_message_is_refused_by_its_topic(tmp_path):
    folder = write_bag(tmp_path / "bag", SAID, storage="sqlite3", compression="message")
    (file,) = list_bag_files(folder)
    database = sqlite3.connect(file)
    database.execute("UPDATE messages SET data = x'28b52ffd00112233445566' WHERE id = 50")
    database.commit()
    database.close()
    with pytest.raises(SnapshotError, match="a message of '/one/.*' is damaged"):
        load_experience(folder, SPEC)


def test_messages_that_are_not_of_ros_2_are_refused_by_their_encoding(tmp_path):
    path = tmp_path / "bag.mcap"
    write_mcap(path, encoding="json")
    with pytest.raises(SnapshotError, match="messages of '/one/target' are encoded as 'json'"):
        load_experience(path, SPEC)


def test_a_bag_of_ros_1_is_read_after_the_conversion_that_the_error_names(tmp_path, plain):
    from rosbags.convert.__main__ import main as convert

    store = get_typestore(Stores.ROS1_NOETIC)
    path = tmp_path / "old.bag"
    with Ros1Writer(path) as writer:
        channels = {}
        for number, (name, kind, message) in enumerate(SAID):
            if name not in channels:
                channels[name] = writer.add_connection(f"/one/{name}", kind, typestore=store)
            data = store.serialize_ros1(as_ros_1(store, kind, message, number), kind)
            writer.write(channels[name], START + number * 10**6, data)
    with pytest.raises(SnapshotError) as refused:
        load_experience(path, SPEC)
    *_, said = str(refused.value).partition("Convert it: ")
    program, *words = said.split()
    assert program == "rosbags-convert"
    arguments = sys.argv
    try:
        sys.argv = [program, *words]
        convert()
    except SystemExit as ended:
        assert not ended.code
    finally:
        sys.argv = arguments
    check_same(load_experience(tmp_path / "old.bag-ros2", SPEC), plain)


def as_ros_1(store, kind, message, number):
    stamp = store.types["builtin_interfaces/msg/Time"](message.header.stamp.sec, message.header.stamp.nanosec)
    header = store.types["std_msgs/msg/Header"](seq=number, stamp=stamp, frame_id=message.header.frame_id)
    if kind == JOINTS:
        return store.types[kind](header, message.name, message.position, message.velocity, message.effort)
    point = message.point
    return store.types[kind](header, store.types["geometry_msgs/msg/Point"](point.x, point.y, point.z))


def test_chunks_compressed_by_a_package_that_is_missing_name_the_extra(tmp_path, monkeypatch):
    path = tmp_path / "bag.mcap"
    write_mcap(path, CompressionType.LZ4)
    monkeypatch.setattr("mcap.stream_reader.lz4", None)
    with pytest.raises(MissingExtraError, match=r"chunks compressed as 'lz4' needs the \"ros\" extra"):
        load_experience(path, SPEC)


def test_chunks_compressed_in_a_way_that_is_unknown_are_refused_by_its_name(tmp_path, monkeypatch):
    path = tmp_path / "bag.mcap"
    write_mcap(path, CompressionType.NONE)
    monkeypatch.setattr("wm_robot.recording.session_file.CHUNK_COMPRESSIONS", ("zstd",))
    with pytest.raises(SnapshotError, match="has chunks compressed as ''; supported: zstd and lz4"):
        load_experience(path, SPEC)
