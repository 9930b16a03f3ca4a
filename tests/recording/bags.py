"""ROS 2 bags for tests, in the forms that `ros2 bag record` writes, made by an independent library."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import yaml
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from tests.recording.sessions import START, Said
from wm_robot.recording.session_file import load_typestore

STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
COMPRESSIONS = {mode.name.lower(): mode for mode in CompressionMode}
INFORMATION = "rosbag2_bagfile_information"


def write_bag(
    folder: Path,
    said: Sequence[Said],
    *,
    robot: str = "one",
    storage: str = "mcap",
    compression: str = "none",
    version: int = 9,
    first: int = 0,
) -> Path:
    """Write a bag of one file; messages are received 1 ms apart, as in `tests.recording.sessions.record`.

    Args:
        first: Number of the first message.
    """
    writer = Writer(folder, version=version, storage_plugin=STORAGES[storage])
    writer.set_compression(COMPRESSIONS[compression], CompressionFormat.ZSTD)
    with writer:
        channels = {}
        for number, (name, kind, message) in enumerate(said, start=first):
            topic = f"/{robot}/{name}" if robot else f"/{name}"
            if topic not in channels:
                channels[topic] = writer.add_connection(topic, kind, typestore=load_typestore())
            data = load_typestore().serialize_cdr(message, kind)
            writer.write(channels[topic], START + number * 10**6, data)
    return folder


def write_split_bag(folder: Path, said: Sequence[Said], parts: int, **options: str) -> Path:
    """Write a bag of several files, as `ros2 bag record --max-bag-duration` does."""
    folder.mkdir()
    size, names = -(-len(said) // parts), []
    for number in range(parts):
        first = number * size
        part = write_bag(folder / f"part{number}", said[first : first + size], first=first, **options)
        about = read_metadata(part)
        (name,) = about[INFORMATION]["relative_file_paths"]
        ending = name.removeprefix(part.name)
        names.append(f"{folder.name}_{number}{ending}")
        (part / name).rename(folder / names[-1])
        shutil.rmtree(part)
    about[INFORMATION]["relative_file_paths"] = names
    write_metadata(folder, about)
    return folder


def read_metadata(folder: Path) -> dict:
    return yaml.safe_load((folder / "metadata.yaml").read_text())


def write_metadata(folder: Path, about: dict) -> None:
    (folder / "metadata.yaml").write_text(yaml.safe_dump(about))
