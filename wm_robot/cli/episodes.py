"""`wm-robot episodes`: cut recorded sessions into episode files."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from wm_robot.errors import ConfigError

if TYPE_CHECKING:
    from wm_robot.spec import RobotSpec


def episodes(
    paths: Annotated[tuple[Path, ...], tyro.conf.Positional],
    /,
    *,
    robot: str = "arm",
    namespace: str | None = None,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """Cut sessions into episode files: `wm-robot episodes SESSION … FOLDER`.

    Each robot of a session gets a folder of its own in FOLDER, by its namespace. An episode that is there already is
    not written again.

    Args:
        paths: Sessions (MCAP), whole or cut, and last the folder to write to.
        robot: Name of the robot, or its spec (YAML).
        namespace: Of the one robot to take; all by default.
        as_json: Print JSON.
    """
    if len(paths) < 2:
        raise ConfigError(
            f"paths are {[str(path) for path in paths]}; they must be sessions, and a folder last"
        )
    spec, rows = _spec(robot), []
    *sessions, out = paths
    from wm_robot.io.experience import cut_session, robots_in

    for session in sessions:
        for name in [namespace] if namespace is not None else robots_in(session):
            cut = cut_session(session, spec, namespace=name)
            written = _write(cut.episodes, spec, out / cut.namespace, session)
            rows += [{"session": session.name, "robot": cut.namespace, **row} for row in written]
    _print(rows, as_json)


def _spec(robot: str) -> "RobotSpec":
    path = Path(robot)
    if path.suffix in {".yaml", ".yml"}:
        from wm_robot.spec import RobotSpec

        return RobotSpec.load(path)
    from wm_robot_sim import load_spec

    return load_spec(robot)


def _write(found: list[Any], spec: "RobotSpec", folder: Path, session: Path) -> list[dict[str, Any]]:
    """Write those that are not there yet; a row for each."""
    from wm_robot.io.episode_file import Origin
    from wm_robot.io.episode_folder import EpisodeFolder

    rows = []
    with EpisodeFolder(folder) as place:
        for episode in found:
            path, new = place.add(episode, Origin.of(spec, source=session.name))
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


def _print(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows))
        return
    from rich.console import Console

    from wm_robot.cli.tables import table_of

    if rows:
        Console(file=sys.stdout).print(table_of(list(rows[0]), rows))
    print(f"{sum(row['written'] == 'now' for row in rows)} of {len(rows)} episodes were written")
