"""Verb `wm-robot state migrate`: replays a robot's own recordings with another base."""

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from wm_robot.errors import ConfigError, SnapshotError
from wm_robot_cli.progress import ProgressMeter
from wm_robot_cli.recording_inputs import (
    RecordingPaths,
    check_recordings,
    compute_recording_digest,
    load_base_and_spec,
)
from wm_robot_cli.tables import print_rows
from wm_robot_cli.values import JsonFlag

if TYPE_CHECKING:
    from wm_robot.evaluation.migration import MigrationResult
    from wm_robot.spec import RobotSpec
    from wm_robot.store.snapshot import Snapshot
    from wm_robot.store.store import Store

VERB = "wm-robot state migrate"


def migrate_state(
    state: Annotated[str, tyro.conf.Positional],
    recordings: RecordingPaths,
    /,
    *,
    base: Path,
    old_base: Path | None = None,
    initial_state: str = "",
    robot: str = "",
    branch: str = "",
    allow_worse: bool = False,
    dry_run: bool = False,
    as_json: JsonFlag = False,
) -> None:
    """Replay a robot's own recordings with another base, as a new lifetime, and report what was lost.

    A lifetime state is valid with its base alone, but the experience that made it is not. The recordings are replayed
    in the order of their stamps. With the first three quarters, the new state must predict the last quarter better
    than the state it started from, and not more than 1.1 times as badly as the old state with its base. Otherwise
    nothing is saved, and the exit code is 2. The saved state has been updated with the last quarter too.

    Args:
        state: Old lifetime: `STORE`, `STORE@BRANCH` or `STORE@DIGEST`. It stays as it is.
        recordings: Recordings of this robot: sessions or bags of ROS 2, episode files, or folders of them.
        base: Folder of the new base, of the same robot.
        old_base: Folder of the old base; by default it is searched among those that ship and next to the new one.
        initial_state: Saved state of the new base to start from, such as `bases/arm-semiparametric/pretrained`; the
            initial state of the base by default.
        robot: Namespace of the robot, if a session contains several.
        branch: Branch of the result, in the same store; it must not exist. By default it has the name of the new
            base.
        allow_worse: Save a state that predicts worse than the old one, or that cannot be compared with it since the
            old base is missing.
        dry_run: Print the result, and save nothing.
        as_json: Print JSON.
    """
    from wm_robot.adaptation.context_bank import ContextBank
    from wm_robot.agent.saved_lifetime import load_lifetime_state, load_model_backend, save_lifetime_state
    from wm_robot.evaluation.migration import MigrationSide, order_by_time, try_migration
    from wm_robot.io.base_file import find_base
    from wm_robot.memory.lifetime_state import LifetimeState
    from wm_robot.recording.recorded_experience import load_recordings
    from wm_robot.store.store import PRETRAINED_NOTE, parse_reference

    if not recordings:
        raise ConfigError("no recordings are given; a state is migrated by its robot's own recordings")
    check_recordings(recordings=recordings)
    digests = {path: compute_recording_digest(path) for path in recordings}
    if len(set(digests.values())) < len(recordings):
        raise ConfigError(f"{[str(path) for path in recordings]} hold a recording twice; give each once")
    base = find_base(base)
    store, reference = parse_reference(state)
    snapshot = store.read_manifest(reference)
    target = branch or base.resolve().name
    if not dry_run:
        _check_free_branch(store, target)
    loaded, spec = load_base_and_spec(base, VERB)
    _check_spec_and_base(state, snapshot, base, loaded.digest, spec)
    found = _find_old_base(state, snapshot, old_base, base.parent, is_needed=not allow_worse)
    if found is None:
        old, before = None, LifetimeState.unflatten(store.load(snapshot.digest))
    else:
        other, _ = load_base_and_spec(found, VERB)
        before = load_lifetime_state(store, snapshot.digest, other, spec)
        old = MigrationSide(other.model, load_model_backend(found, other), before)
    episodes, is_ordered = order_by_time(load_recordings(recordings, spec, robot))
    backend = load_model_backend(base, loaded)
    if initial_state:
        start = load_lifetime_state(*parse_reference(initial_state), loaded, spec)
    else:
        hold = spec.home_action.astype("float32")[None]
        start = ContextBank(backend).initial_state(initial_action=hold)
    line = store.iterate_lineage(snapshot.digest)
    pretrained_steps = next((each.steps for each in line if each.note == PRETRAINED_NOTE), 0)
    with ProgressMeter("state migrate") as progress:
        after, result = try_migration(
            MigrationSide(loaded.model, backend, start),
            before,
            old,
            episodes,
            spec,
            pretrained_steps=pretrained_steps,
            progress=progress,
        )
    losses = result.describe_losses()
    if not as_json:
        _print_result(result, losses, is_ordered)
    _check_result(state, result, allow_worse)
    saved = None
    if not dry_run:
        origin = {
            "migrated_from": snapshot.digest,
            "base_digest": snapshot.base_digest,
            "recordings": {path.name: digest for path, digest in digests.items()},
            "lost": losses,
        }
        metrics = {
            "initial_error": result.initial_error,
            "migrated_error": result.migrated_error,
            **({} if result.old_error is None else {"old_error": result.old_error}),
        }
        note = f"migrated from {snapshot.digest[:12]}"
        saved = save_lifetime_state(store, target, after, loaded, spec, [], note, metrics, origin)
    if as_json:
        values = asdict(result) | {"lost_steps": result.lost_steps, "lost": losses}
        print(json.dumps({"accepted": True, "snapshot": saved, "branch": target, **values}))
    else:
        print(
            f"branch '{target}' starts at {saved[:12]} in {store.folder}"
            if saved
            else "dry run: nothing was saved"
        )


def _check_free_branch(store: "Store", name: str) -> None:
    """Refuse a branch that is no name, or that exists."""
    from wm_robot.store.names import check_name

    if check_name(name) in store.read_branches():
        free = store.branch_references.find_free_name(name)
        raise SnapshotError(
            f"branch '{name}' exists already in {store.folder}, and a migrated state starts a branch. Name another: "
            f"--branch {free}"
        )


def _check_spec_and_base(
    state: str, snapshot: "Snapshot", base: Path, base_digest: str, spec: "RobotSpec"
) -> None:
    """Refuse a base of another robot, and the state's own base."""
    if snapshot.base_digest == base_digest:
        raise SnapshotError(
            f"{state} was learned with base {base}: there is nothing to migrate. Continue from it, or branch it: "
            f"wm-robot state branch {shlex.quote(state)} NAME"
        )
    expected = spec.compute_digest()
    if snapshot.spec_digest != expected:
        raise SnapshotError(
            f"{state} was learned with robot {snapshot.spec_digest[:12]}, and base {base} is of robot '{spec.name}', "
            f"{expected[:12]}. The recordings of one robot are no experience of another. Use a base that was trained "
            "for the same spec"
        )


def _find_old_base(
    state: str, snapshot: "Snapshot", named: Path | None, nearby: Path, *, is_needed: bool
) -> Path | None:
    """Return the folder of the state's base; None if it is not found and not needed.

    Raises:
        SnapshotError: If the named one is another, or if it is needed and not found.
    """
    from wm_robot.io.base_file import check_same_base, find_base, find_base_by_digest

    if named is not None:
        check_same_base(find_base(named), snapshot.base_digest, state)
        return find_base(named)
    found = find_base_by_digest(snapshot.base_digest, nearby)
    if found is None and is_needed:
        raise SnapshotError(
            f"base {snapshot.base_digest[:12]} of {state} is not among those that ship, and not in {nearby}. So the "
            "new state cannot be compared with the old one. Name its folder with --old-base, or add --allow-worse"
        )
    return found


def _check_result(state: str, result: "MigrationResult", allow_worse: bool) -> None:
    """Refuse a state that predicts no better than the one it started from, or worse than the old one."""
    from wm_robot.evaluation.migration import MAX_OLD_ERROR_RATIO

    if not result.is_better_than_initial:
        raise SnapshotError(
            f"{state} is not migrated: after the recordings the error on their held-out part is "
            f"{result.migrated_error:.3g}, and {result.initial_error:.3g} without them. Nothing is saved. Give more "
            "recordings, or start from the initial state of the new base"
        )
    if result.is_worse_than_old and not allow_worse:
        raise SnapshotError(
            f"{state} is not migrated: the error on the held-out part is {result.migrated_error:.3g}, and "
            f"{result.old_error:.3g} of the old state with its base (limit: {MAX_OLD_ERROR_RATIO} times). Nothing is "
            "saved. Give more recordings, keep the old base, or accept the loss with --allow-worse"
        )


def _print_result(result: "MigrationResult", losses: list[str], is_ordered: bool) -> None:
    rows = [
        {"state": "new base, before the recordings", "held-out error": round(result.initial_error, 4)},
        {"state": "new base, after the recordings", "held-out error": round(result.migrated_error, 4)},
    ]
    if result.old_error is not None:
        rows.append({"state": "old state, old base", "held-out error": round(result.old_error, 4)})
    print_rows(rows, as_json=False)
    if not is_ordered:
        print("stamps of several episodes overlap: they were replayed in the order given")
    print(f"replayed {result.replayed_steps} steps")
    for line in losses or ["nothing that the recordings could bring back"]:
        print(f"lost: {line}")
