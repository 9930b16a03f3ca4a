import numpy as np
import pytest
from mcap.reader import make_reader
from rosbags.highlevel import AnyReader

from tests.recording.sessions import QOS
from wm_robot.errors import SnapshotError
from wm_robot.recording.session_file import SessionWriter, load_typestore, read_session

pytestmark = pytest.mark.ros

KIND = "sensor_msgs/msg/JointState"


def joint_state(number: int) -> bytes:
    types = load_typestore().types
    stamp = types["builtin_interfaces/msg/Time"](sec=number, nanosec=0)
    message = types[KIND](
        header=types["std_msgs/msg/Header"](stamp=stamp, frame_id=""),
        name=["elbow"],
        position=np.array([number / 7]),
        velocity=np.zeros(0),
        effort=np.zeros(0),
    )
    return bytes(load_typestore().serialize_cdr(message, KIND))


def write(path, count, *, flush_each=1000, close=True):
    writer = SessionWriter(path)
    channel = writer.add_topic("/arm/joint_states", KIND, QOS)
    for number in range(count):
        writer.write(channel, number * 10**9, joint_state(number))
        if number % flush_each == flush_each - 1:
            writer.flush()
    if close:
        writer.close()
    return writer


def test_what_was_written_is_read_back(tmp_path):
    write(tmp_path / "session.mcap", 500)
    session = read_session(tmp_path / "session.mcap")
    assert session.is_whole
    messages = session.topics["/arm/joint_states"]
    assert [time for time, _ in messages] == list(range(500))
    assert [m.position[0] for _, m in messages] == [n / 7 for n in range(500)]


def test_an_independent_reader_sees_types_qos_and_messages(tmp_path):
    path = tmp_path / "session.mcap"
    write(path, 500)
    with AnyReader([path]) as reader:
        (connection,) = reader.connections
        assert (connection.topic, connection.msgtype) == ("/arm/joint_states", KIND)
        assert connection.ext.offered_qos_profiles[0].durability.name == "TRANSIENT_LOCAL"
        read = [reader.deserialize(raw, KIND).position[0] for _, _, raw in reader.messages()]
    assert read == [n / 7 for n in range(500)]


def test_the_file_says_that_it_holds_ros_2_messages_with_their_full_definitions(tmp_path):
    path = tmp_path / "session.mcap"
    write(path, 1)
    with path.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        assert reader.get_header().profile == "ros2"
        schema, channel, _ = next(reader.iter_messages())
    assert (schema.name, schema.encoding, channel.message_encoding) == (KIND, "ros2msg", "cdr")
    assert b"MSG: std_msgs/Header" in schema.data and b"MSG: builtin_interfaces/Time" in schema.data
    assert channel.metadata["topic_type_hash"].startswith("RIHS01_")


def test_a_file_that_was_not_closed_holds_all_that_was_flushed(tmp_path):
    path = tmp_path / "session.mcap"
    unclosed = write(path, 450, flush_each=100, close=False)
    session = read_session(path)
    assert not session.is_whole
    assert len(session.topics["/arm/joint_states"]) >= 400
    unclosed.close()


def test_a_file_cut_anywhere_holds_a_true_beginning(tmp_path):
    path, cut = tmp_path / "session.mcap", tmp_path / "cut.mcap"
    write(path, 500, flush_each=50)
    content = path.read_bytes()
    for length in np.random.default_rng(0).integers(1500, len(content) - 1, 20):
        cut.write_bytes(content[:length])
        session = read_session(cut)
        assert not session.is_whole
        times = [time for time, _ in session.topics.get("/arm/joint_states", [])]
        assert times == list(range(len(times)))


def test_what_is_no_session_is_refused(tmp_path):
    path = tmp_path / "session.mcap"
    path.write_bytes(b"not an MCAP file at all")
    with pytest.raises(SnapshotError, match="is no session"):
        read_session(path)


def test_a_message_of_another_type_than_its_topic_says_is_refused_by_name(tmp_path):
    path = tmp_path / "session.mcap"
    writer = SessionWriter(path)
    writer.write(writer.add_topic("/arm/joint_states", KIND, QOS), 1, b"\0\1\0\0rubbish")
    writer.close()
    with pytest.raises(
        SnapshotError, match="a message of '/arm/joint_states' is no 'sensor_msgs/msg/JointState'"
    ):
        read_session(path)
