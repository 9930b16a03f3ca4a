"""Verb `wm-robot episodes`: splits recorded sessions into episode files."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from wm_robot.errors import ConfigError
from wm_robot.recording.recording_path import check_recording
from wm_robot_cli.tables import print_rows
from wm_robot_cli.values import JsonFlag

if TYPE_CHECKING:
    from wm_robot.recording.recorded_experience import RobotRecording
    from wm_robot.spec import RobotSpec


def split_episodes(
    paths: Annotated[tuple[Path, ...], tyro.conf.Positional],
    /,
    *,
    robot: str = "arm",
    namespace: str | None = None,
    as_json: JsonFlag = False,
) -> None:
    """Split recordings into episode files: `wm-robot episodes RECORDING … FOLDER`.

    A recording is the output of the wm_robot recorder or of `ros2 bag record`. Each robot in it gets its own folder
    in FOLDER, named by its namespace. An existing episode is not written again.

    Args:
        paths: Recordings, complete or incomplete: folders of bags, or single files (MCAP, SQLite), also compressed;
            and last the output folder.
        robot: Name of the robot, or its spec (YAML).
        namespace: Namespace of one robot in the recordings; all robots by default.
        as_json: Print JSON.
    """
    if len(paths) < 2:
        raise ConfigError(
            f"paths are {[str(path) for path in paths]}; they must be recordings, and a folder last"
        )
    spec, rows = _read_spec(robot), []
    *recordings, out = paths
    for recording in recordings:
        check_recording(recording, "RECORDING")
    _check_output_folder(out)
    from wm_robot.recording.recorded_experience import list_robots, split_session

    for recording in recordings:
        source = recording.name or recording.resolve().name
        # Without a robot, the request with None raises the error that names the missing topics.
        names: list[str | None] = (
            [namespace] if namespace is not None else [*list_robots(recording)] or [None]
        )
        for name in names:
            cut = split_session(recording, spec, namespace=name)
            written = _write_episodes(cut.episodes, spec, out / cut.namespace, source)
            rows += [{"session": source, "robot": cut.namespace, **row} for row in written]
            _print_unread_sensors(recording, cut)
        _print_missing_parts(recording, namespace)
    _print_episodes(rows, as_json)


def _check_output_folder(out: Path) -> None:
    """Reject a recording as the output folder.

    Raises:
        ConfigError: If it is one.
    """
    from wm_robot.recording.rosbag import METADATA

    if (out / METADATA).exists() or out.is_file():
        what = "a file" if out.is_file() else "a bag"
        raise ConfigError(
            f"FOLDER is '{out}', which is {what}; the last path must be a folder for the episodes, such as episodes"
        )


def _print_unread_sensors(recording: Path, found: "RobotRecording") -> None:
    """Print the sensors without readings to stderr."""
    for name, reason in found.unread_sensors.items():
        print(
            f"{recording}: robot '{found.namespace}' has no reading of sensor '{name}', whose channels are empty: "
            f"{reason}",
            file=sys.stderr,
        )


def _print_missing_parts(recording: Path, namespace: str | None) -> None:
    """Print the missing parts of the episodes to stderr, so that stdout stays valid JSON."""
    from wm_robot.recording.robot_topics import find_robots_without_actions
    from wm_robot.recording.session_file import read_topics, was_closed

    if not was_closed(recording):
        print(
            f"{recording} is incomplete, because its recorder was killed; the episodes end there",
            file=sys.stderr,
        )
    if namespace is None:
        for robot, fault in find_robots_without_actions(read_topics(recording)).items():
            print(f"{recording}: robot '{robot}' is left out: {fault}", file=sys.stderr)


def _read_spec(robot: str) -> "RobotSpec":
    from wm_robot.robots import load_spec

    return load_spec(robot)


def _write_episodes(found: list[Any], spec: "RobotSpec", folder: Path, source: str) -> list[dict[str, Any]]:
    """Write the new episodes. Return a row for each episode."""
    from wm_robot.recording.episode_folder import EpisodeFolder
    from wm_robot.recording.episode_origin import EpisodeOrigin

    rows = []
    with EpisodeFolder(folder) as place:
        for episode in found:
            path, new = place.add_episode(episode, EpisodeOrigin.from_robot(spec, source=source))
            rows.append(
                {
                    "file": str(path),
                    "steps": len(episode),
                    "s": round(float(episode.stamp[-1] - episode.stamp[0]) / 1e9, 2),
                    "invalid": int((~episode.valid).sum()),
                    "written": "now" if new else "before",
                }
            )
    return rows


def _print_episodes(rows: list[dict[str, Any]], as_json: bool) -> None:
    print_rows(rows, as_json)
    if not as_json:
        print(f"{sum(row['written'] == 'now' for row in rows)} of {len(rows)} episodes were written")
