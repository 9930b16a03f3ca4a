"""Verb `wm-robot state diff`: compares two lifetime states by values and by predictions."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from wm_robot.errors import MissingExtraError, SnapshotError
from wm_robot_cli.tables import print_rows
from wm_robot_cli.values import JsonFlag

if TYPE_CHECKING:
    from wm_robot.store.snapshot import Snapshot

StateReference = Annotated[str, tyro.conf.Positional]


def compare_states(
    one: StateReference, other: StateReference, /, *, base: Path | None = None, as_json: JsonFlag = False
) -> None:
    """Compare two lifetime states: their values, and with a base their predictions of each joint.

    Args:
        one: Reference of the first state.
        other: Reference of the second state.
        base: Folder of the base of both.
        as_json: Print JSON.
    """
    from wm_robot.store.store import parse_reference

    found = [
        (store, store.read_manifest(reference))
        for store, reference in (parse_reference(one), parse_reference(other))
    ]
    _check_comparable((one, other), [snapshot for _, snapshot in found])
    place = None if base is None else _find_base_of(base, one, found[0][1])
    states = [store.load(snapshot.digest) for store, snapshot in found]
    rows = _compare_values(*states) if place is None else _compare_predictions(place, *states)
    print_rows(rows, as_json)


def _check_comparable(names: Sequence[str], snapshots: "Sequence[Snapshot]") -> None:
    """Reject states with a different base or robot."""
    for what, key in (("base", "base_digest"), ("robot", "spec_digest")):
        ours, theirs = (getattr(snapshot, key)[:12] for snapshot in snapshots)
        if ours != theirs:
            raise SnapshotError(
                f"{names[0]} was learned with {what} {ours}, {names[1]} with {what} {theirs}: their numbers are not "
                f"comparable. Compare states of one {what}. See: wm-robot state show {shlex.quote(names[1])}"
            )


def _find_base_of(base: Path, reference: str, snapshot: "Snapshot") -> Path:
    """Find the folder of a base, and check that it is the base of a state."""
    from wm_robot.io.base_file import check_same_base, find_base

    folder = find_base(base)
    check_same_base(folder, snapshot.base_digest, reference)
    return folder


def _compare_values(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[dict[str, Any]]:
    import numpy as np

    rows = []
    for name in sorted(one.keys() | other.keys()):
        if name not in one or name not in other:
            rows.append({"tensor": name, "differ": "in one alone", "largest": float("nan")})
        elif one[name].shape != other[name].shape:
            rows.append({"tensor": name, "differ": "in shape", "largest": float("nan")})
        elif (apart := np.abs(one[name].astype(np.float64) - other[name])).any():
            share = f"{np.count_nonzero(apart)} of {apart.size}"
            rows.append({"tensor": name, "differ": share, "largest": float(apart.max())})
    return rows


def _compare_predictions(
    base: Path, one: Mapping[str, Any], other: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Compute for each sensor the distance of both states' predictions, from equal observations and actions."""
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("wm-robot state diff --base", "learn") from error
    from wm_robot.memory.lifetime_state import LifetimeState
    from wm_robot.model.base import load_base
    from wm_robot.robots import load_spec

    moments, horizon = 256, 8
    loaded = load_base(base)
    model, generator = loaded.model, torch.Generator().manual_seed(0)
    spec = load_spec(loaded.manifest["robot"])

    def draw_around(mean: Any, spread: Any, *shape: int) -> Any:
        return mean + 0.5 * spread * torch.randn(*shape, len(mean), generator=generator)

    obs = draw_around(model.obs_mean, model.obs_std, moments)
    plans = draw_around(model.action_mean, model.action_std, moments, 1).expand(-1, horizon, -1)[:, None]
    ends = []
    with torch.inference_mode():
        for arrays in (one, other):
            born = model.initial_state(initial_action=plans[:, 0, 0])
            initial = born.flatten()
            saved = {
                name: torch.from_numpy(value).expand(moments, *value.shape[1:])
                for name, value in arrays.items()
                if name in initial
            }
            state = replace(LifetimeState.unflatten(initial | saved), recent=born.recent)
            ends.append(model.imagine(state, model.observe(state, obs), plans).mean[:, 0])
    apart = (ends[0] - ends[1]).square().mean(0).sqrt()
    return [
        {"sensor": name, "after 1 step": float(apart[0, i]), f"after {horizon} steps": float(apart[-1, i])}
        for i, name in enumerate(spec.observation_names)
    ]
