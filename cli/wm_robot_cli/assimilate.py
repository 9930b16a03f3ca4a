"""Verbs `wm-robot state assimilate|pool`: transfer experience of other robots into a lifetime state."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from wm_robot.errors import ConfigError, SnapshotError
from wm_robot_cli.recording_inputs import (
    RecordingPaths,
    check_recordings,
    compute_recording_digest,
    load_base_and_spec,
)
from wm_robot_cli.tables import print_rows
from wm_robot_cli.values import JsonFlag

if TYPE_CHECKING:
    from wm_robot.evaluation.acceptance import AcceptanceResult

StateReference = Annotated[str, tyro.conf.Positional]
StateReferences = Annotated[tuple[str, ...], tyro.conf.Positional]


def assimilate_recordings(
    state: StateReference,
    recordings: RecordingPaths,
    /,
    *,
    base: Path,
    own: tuple[Path, ...],
    robot: str = "",
    own_robot: str = "",
    branch: str = "",
    dry_run: bool = False,
    as_json: JsonFlag = False,
) -> None:
    """Update a lifetime state with the recordings of another robot, if it improves on both.

    The updated state must predict the last quarter of the other robot's recording better than before, and that of
    its own recording as well as before. Otherwise nothing is saved, and the exit code is 2.

    Args:
        state: `STORE` or `STORE@BRANCH`.
        recordings: Recordings of another robot with the same spec: sessions or bags of ROS 2, episode files, or
            folders of them.
        base: Folder of the state's base.
        own: Recent recordings of this robot, in the same formats.
        robot: Namespace of the other robot, if a session contains several.
        own_robot: Namespace of this robot in its own sessions.
        branch: Branch of the result; the branch of `state` by default.
        dry_run: Print the result, and save nothing.
        as_json: Print JSON.
    """
    from wm_robot.agent.saved_lifetime import load_lifetime_state, load_model_backend, save_lifetime_state
    from wm_robot.evaluation.acceptance import try_assimilation
    from wm_robot.io.base_file import check_same_base, find_base
    from wm_robot.recording.recorded_experience import load_recordings
    from wm_robot.store.names import check_name
    from wm_robot.store.store import parse_reference

    check_recordings(recordings=recordings, own=own)
    base = find_base(base)
    store, reference = parse_reference(state)
    head = store.resolve(reference)
    check_same_base(base, store.manifests.read(head).base_digest, state)
    target = reference if dry_run else check_name(branch or reference)
    loaded, spec = load_base_and_spec(base, "wm-robot state assimilate")
    before = load_lifetime_state(store, head, loaded, spec)
    theirs, mine = load_recordings(recordings, spec, robot), load_recordings(own, spec, own_robot)
    after, verdict = try_assimilation(
        loaded.model, load_model_backend(base, loaded), before, mine, theirs, spec
    )
    if not as_json:
        _print_result(verdict)
    if not verdict.is_accepted:
        raise SnapshotError(
            f"{state} does not improve with this experience: {verdict.to_sentence()}. Nothing is saved. Record more "
            "of the other robot's experience, or let this robot learn by itself"
        )
    saved = None
    if not dry_run:
        digests = {path.name: compute_recording_digest(path) for path in recordings}
        note = "assimilated " + ", ".join(f"{name} {digest[:12]}" for name, digest in digests.items())
        saved = save_lifetime_state(
            store, target, after, loaded, spec, [head], note, verdict.to_dict(), {"assimilated": digests}
        )
    if as_json:
        print(json.dumps({"accepted": True, "snapshot": saved, **verdict.to_dict()}))
    else:
        print(f"saved as {saved[:12]} in {store.folder}" if saved else "dry run: nothing was saved")


def pool_states(
    states: StateReferences,
    /,
    *,
    base: Path,
    into: str,
    replay: tuple[Path, ...] = (),
    robot: str = "",
    as_json: JsonFlag = False,
) -> None:
    """Merge several lifetime states into one, if the memory family can add their statistics.

    `ridge` is exact; `kalman` weights each state by its evidence, direction by direction. Other
    families are rejected, because their sum or average is no valid state. Use `state assimilate` for them.

    Args:
        states: At least two states of the same base, each as `STORE@BRANCH`.
        base: Folder of their base.
        into: `STORE@BRANCH` of the result; the branch must not exist.
        replay: Recordings for updates after the merge; they correct values that fit only one of the states.
        robot: Namespace of the robot in the recordings.
        as_json: Print JSON.
    """
    from wm_robot.agent.saved_lifetime import load_lifetime_state, save_lifetime_state
    from wm_robot.io.base_file import check_same_base, find_base
    from wm_robot.model.torch_backend import TorchBackend
    from wm_robot.recording.recorded_experience import load_recordings
    from wm_robot.sharing.assimilate import RecordedSteps, assimilate_experience
    from wm_robot.sharing.pool import merge_lifetime_states
    from wm_robot.store.store import parse_reference

    check_recordings(replay=replay)
    base = find_base(base)
    target, branch = parse_reference(into)
    if branch in target.read_branches():
        raise SnapshotError(
            f"branch '{branch}' exists already in {target.folder}. Select another name for the pool"
        )
    sources = [(store, store.resolve(reference)) for store, reference in map(parse_reference, states)]
    if len({head for _, head in sources}) < len(sources):
        raise ConfigError(
            f"{list(states)} are not {len(sources)} different lifetime states; each must be given once"
        )
    for name, (store, head) in zip(states, sources, strict=True):
        check_same_base(base, store.manifests.read(head).base_digest, name)
    loaded, spec = load_base_and_spec(base, "wm-robot state pool")
    state = merge_lifetime_states(
        loaded.model, [load_lifetime_state(store, head, loaded, spec) for store, head in sources]
    )
    if replay:
        stretches = [RecordedSteps.from_episode(each, spec) for each in load_recordings(replay, spec, robot)]
        state = assimilate_experience(TorchBackend(loaded.model), state, stretches)
    parents = [target.copy_from(store, head) for store, head in sources]
    note = f"pooled {len(sources)} states" + (f", replayed {len(replay)} recordings" if replay else "")
    saved = save_lifetime_state(target, branch, state, loaded, spec, parents, note, {})
    if as_json:
        print(json.dumps({"snapshot": saved, "parents": parents, "steps": int(state.step.max())}))
    else:
        print(f"branch '{branch}' starts at {saved[:12]} in {target.folder}, with {len(parents)} parents")


def _print_result(result: "AcceptanceResult") -> None:
    rows = [
        {"world": "the other's", "error before": result.other_before, "after": result.other_after},
        {"world": "its own", "error before": result.own_before, "after": result.own_after},
    ]
    print_rows(rows, as_json=False)
