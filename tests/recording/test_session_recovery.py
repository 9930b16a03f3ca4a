"""Session recovery: a cut session becomes whole, and none of its data is destroyed."""

import shutil

import numpy as np
import pytest

pytestmark = pytest.mark.ros

from mcap.reader import make_reader
from mcap.records import Chunk
from mcap.stream_reader import StreamReader
from mcap.writer import Writer
from rosbags.highlevel import AnyReader

from tests.recording.sessions import JOINTS, QOS, START, record, say, sensed
from wm_robot.errors import SnapshotError
from wm_robot.recording import session_recovery
from wm_robot.recording.session_file import SessionWriter, is_whole, load_typestore, read_session
from wm_robot.recording.session_recovery import recover_session

COUNT = 2000


@pytest.fixture
def cut(tmp_path):
    """Return a session without an end, whose last chunk is incomplete."""
    path = tmp_path / "session.mcap"
    record(path, (sensed(step) for step in range(COUNT)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    return path


def read_by_seeking(path):
    """Return the messages that the standard reader of indexed files finds."""
    with path.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        assert reader.get_summary() is not None
        return [
            (s.name, c.topic, m.log_time, m.publish_time, m.sequence, m.data)
            for s, c, m in reader.iter_messages()
        ]


def kinds_and_topics(path):
    with path.open("rb") as file:
        summary = make_reader(file).get_summary()
    kinds = {(schema.name, schema.encoding, schema.data) for schema in summary.schemas.values()}
    about = {
        (c.topic, c.message_encoding, tuple(sorted(c.metadata.items()))) for c in summary.channels.values()
    }
    return kinds, about


def test_a_recovered_session_holds_all_that_the_cut_one_did(cut):
    before = cut.read_bytes()
    left = read_session(cut)
    assert not left.is_whole
    found = recover_session(cut)
    assert (found.status, found.max_lost_time, found.original_copy) == (
        "its recorder was killed",
        1.0,
        cut.with_name("session.mcap.cut"),
    )
    assert found.original_copy.read_bytes() == before
    messages = read_by_seeking(cut)
    assert len(messages) == found.num_messages == len(left.topics["/one/joint_states"]) > 500
    assert found.stamp == messages[-1][2] == START + (found.num_messages - 1) * 10**6
    assert [m[4] for m in messages] == list(range(found.num_messages))
    again = read_session(cut)
    assert again.is_whole
    for (t, one), (u, other) in zip(
        left.topics["/one/joint_states"], again.topics["/one/joint_states"], strict=True
    ):
        assert t == u and one.position[0] == other.position[0]


def test_types_qos_and_hash_are_those_of_the_recorder(tmp_path):
    path = tmp_path / "session.mcap"
    writer = SessionWriter(path)
    channels = [writer.add_topic(f"/one/{name}", JOINTS, QOS) for name in ("joint_states", "joint_command")]
    data = bytes(load_typestore().serialize_cdr(sensed(1)[2], JOINTS))
    for number in range(10):
        writer.write(channels[number % 2], START + number, data)
    writer.flush()
    shutil.copy(path, tmp_path / "cut.mcap")
    writer.close()
    recover_session(tmp_path / "cut.mcap")
    assert kinds_and_topics(tmp_path / "cut.mcap") == kinds_and_topics(path)
    with AnyReader([tmp_path / "cut.mcap"]) as reader:
        assert {c.topic: c.ext.offered_qos_profiles[0].durability.name for c in reader.connections} == {
            "/one/joint_states": "TRANSIENT_LOCAL",
            "/one/joint_command": "TRANSIENT_LOCAL",
        }
        assert sum(1 for _ in reader.messages()) == 10


def test_recovered_twice_is_recovered_once(cut):
    recover_session(cut)
    content, kept = cut.read_bytes(), cut.with_name("session.mcap.cut").read_bytes()
    assert recover_session(cut).status == "whole"
    assert (cut.read_bytes(), cut.with_name("session.mcap.cut").read_bytes()) == (content, kept)
    assert len(list(cut.parent.iterdir())) == 2


def test_a_whole_session_is_left_alone(tmp_path):
    path = tmp_path / "session.mcap"
    record(path, [sensed(1)])
    content = path.read_bytes()
    assert recover_session(path).status == "whole"
    assert path.read_bytes() == content and list(tmp_path.iterdir()) == [path]


def test_a_look_changes_nothing(cut):
    content = cut.read_bytes()
    found = recover_session(cut, dry_run=True)
    assert found.num_messages > 500 and found.original_copy is None
    assert cut.read_bytes() == content and list(cut.parent.iterdir()) == [cut]


def test_a_session_that_is_being_recorded_is_not_touched(tmp_path):
    path = tmp_path / "session.mcap"
    writer = record(path, [sensed(1)], close=False)
    writer.flush()
    assert recover_session(path).status == "is being recorded"
    writer.close()
    assert read_session(path).is_whole


@pytest.mark.parametrize("cut_off", [1, 8, 9, 20, 36, 37])
def test_a_session_cut_within_its_end_is_seen_and_recovered(tmp_path, cut_off):
    path = tmp_path / "session.mcap"
    record(path, (sensed(step) for step in range(50)))
    path.write_bytes(path.read_bytes()[:-cut_off])
    assert not is_whole(path) and not read_session(path).is_whole
    assert recover_session(path).num_messages == 50
    assert len(read_by_seeking(path)) == 50


def test_a_session_cut_anywhere_is_recovered_to_a_true_beginning(tmp_path):
    path = tmp_path / "session.mcap"
    record(path, (sensed(step) for step in range(500)))
    content = path.read_bytes()
    for length in np.random.default_rng(0).integers(9, len(content), 25):
        cut = tmp_path / f"{length}.mcap"
        cut.write_bytes(content[:length])
        found = recover_session(cut)
        assert [m[4] for m in read_by_seeking(cut)] == list(range(found.num_messages))


@pytest.mark.parametrize(
    "tail", [b"\0" * 5000, np.random.default_rng(0).bytes(5000)], ids=["zeros", "rubbish"]
)
def test_what_a_power_cut_puts_behind_the_last_message_is_left_out(cut, tail):
    expected = recover_session(cut, dry_run=True).num_messages
    cut.write_bytes(cut.read_bytes() + tail)
    assert recover_session(cut).num_messages == expected == len(read_by_seeking(cut))


def test_a_damaged_chunk_costs_its_own_messages_and_is_said(tmp_path):
    path = tmp_path / "session.mcap"
    writer = SessionWriter(path)
    for part in range(4):
        say(writer, [sensed(part)] * 100)
        writer.flush()
    content = bytearray(path.read_bytes())
    writer.close()
    with path.open("rb") as file:
        chunks = [one for one in StreamReader(file, emit_chunks=True).records if isinstance(one, Chunk)]
    place = bytes(content).index(chunks[2].data) + len(chunks[2].data) // 2
    content[place] ^= 0xFF
    path = tmp_path / "damaged.mcap"
    path.write_bytes(content)
    found = recover_session(path)
    assert found.status == "its recorder was killed; 1 chunks are damaged"
    assert found.num_messages == len(read_by_seeking(path)) == 300 and found.max_lost_time is None


def test_a_recording_of_another_programme_is_recovered_too_and_nothing_is_promised_of_it(tmp_path):
    path = tmp_path / "other.mcap"
    with path.open("wb") as file:
        writer = Writer(file, chunk_size=100)
        writer.start(profile="", library="somebody's")
        writer.add_metadata("theirs", {"a": "b"})
        writer.add_attachment(1, 2, "note", "text/plain", b"x" * 300)
        channel = writer.register_channel("t", "json", 0)
        for number in range(20):
            writer.add_message(channel, number, b"{}" * 40, number)
        writer.flush()
    found = recover_session(path)
    assert (found.num_messages, found.max_lost_time) == (20, None)
    with path.open("rb") as file:
        reader = make_reader(file)
        assert [a.name for a in reader.iter_attachments()] == ["note"]
        assert [m.name for m in reader.iter_metadata()] == ["theirs", "wm_robot.recovered"]
        assert vars(reader.get_header())["library"] == "somebody's"


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "is empty"), (b"a note of somebody's", "is not an MCAP")]
)
def test_what_is_no_session_is_refused_and_left(tmp_path, content, words):
    path = tmp_path / "session.mcap"
    path.write_bytes(content)
    with pytest.raises(SnapshotError, match=f"is no session: it {words}"):
        recover_session(path)
    assert path.read_bytes() == content and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("step", ["link", "copyfile", "replace"])
def test_a_recovery_that_is_stopped_anywhere_loses_nothing_and_is_done_by_the_next(
    cut, monkeypatch, links, step
):
    content = cut.read_bytes()

    class Stopped(BaseException):
        pass

    def stop(*_):
        raise Stopped

    def no_links(*_):
        raise OSError("no links here")

    expected = recover_session(cut, dry_run=True).num_messages
    with monkeypatch.context() as patch:
        if not links:
            patch.setattr(session_recovery.os, "link", no_links)
        if step == "link":
            patch.setattr(session_recovery.os, "link", stop)
        if step == "copyfile":
            patch.setattr(session_recovery.shutil, "copyfile", stop)
        if step == "replace":
            patch.setattr(type(cut), "replace", stop)
        try:
            recover_session(cut)
        except Stopped:
            assert cut.read_bytes() == content
    recover_session(cut)
    assert len(read_by_seeking(cut)) == expected
    assert cut.with_name("session.mcap.cut").read_bytes() == content


def test_a_file_kept_from_before_is_not_destroyed(cut):
    cut.with_name("session.mcap.cut").write_bytes(b"another")
    content = cut.read_bytes()
    with pytest.raises(SnapshotError, match="is there already; move it away"):
        recover_session(cut)
    assert cut.read_bytes() == content and cut.with_name("session.mcap.cut").read_bytes() == b"another"
    assert len(list(cut.parent.iterdir())) == 2


def test_a_full_disk_leaves_everything_as_it_was(cut, monkeypatch):
    content = cut.read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(session_recovery.os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        recover_session(cut)
    assert cut.read_bytes() == content and list(cut.parent.iterdir()) == [cut]
