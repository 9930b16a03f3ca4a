"""Small shipment for tests, made without torch: a point that moves on a line."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from tests.validation_record.records import record
from wm_robot.io.base_file import FORMAT, compute_base_digest
from wm_robot.io.durable import compute_digest
from wm_robot.sharing.shipment import Shipment, make_parts
from wm_robot.spec import RobotSpec, encode_canonical_json
from wm_robot.store.snapshot import Snapshot
from wm_robot.store.store import Store
from wm_robot.validation_record.installation import compute_whole_spec_digest
from wm_robot.validation_record.record import ValidationRecord

JOINT = {"name": "x", "position": [-1.0, 1.0], "velocity": 1.0, "effort": 1.0}
POINT = {
    "version": 2,
    "name": "point",
    "rate": 50,
    "model": "point.xml",
    "joints": [JOINT],
    "actuators": [{"name": "x", "joint": "x", "kind": "position", "range": [-1.0, 1.0], "rate": 5.0}],
    "tasks": {"reach": {"reward": "reach", "goal": 3}},
}
SPEC = RobotSpec.from_dict(POINT)
RECORD = {"bench": "control", "when": "2026-01-02T03:04:05Z", "commit": "abc", "figures": {"ratio": 0.5}}


def base_files(number: float = 0.0) -> dict[str, bytes]:
    """Return the files of a base that computes nothing."""
    weights = save(
        {"layer.weight": np.full((4, 3), number, np.float32), "layer.bias": np.zeros(4, np.float32)}
    )
    config = {"width": 4}
    card = {
        "format": FORMAT,
        "kind": "base",
        "robot": "point",
        "spec_digest": SPEC.compute_digest(),
        "config": config,
        "weights_sha256": compute_digest(weights),
        "digest": compute_base_digest(config, compute_digest(weights)),
        "card": {"command": "wm-robot train point", "seed": 0},
    }
    calibration = encode_canonical_json({"base": card["digest"]})
    return {
        "base.json": json.dumps(card).encode(),
        "calibration.json": calibration,
        "weights.safetensors": weights,
    }


def lived(place: Path, number: float = 1.0, base: dict[str, bytes] | None = None, **options) -> Snapshot:
    """Save a lifetime state of that base."""
    values = {"0.s": np.full((1, 3), number, np.float32), "step": np.array([int(number)], np.int64)}
    known = json.loads((base or base_files())["base.json"])["digest"]
    return Store(place).save(values, base_digest=known, spec_digest=SPEC.compute_digest(), **options)


def shipment(
    place: Path, number: float = 1.0, base: dict[str, bytes] | None = None, *, validation: bytes = b""
) -> Shipment:
    """Return a shipment of a branch with two snapshots."""
    base = base or base_files()
    lived(place, number - 1, base)
    snapshot = lived(place, number, base)
    parts = make_parts(
        card="# A point\n",
        base=base,
        snapshot=snapshot,
        state=Store(place).read_object(snapshot),
        spec=SPEC,
        evaluation=[RECORD],
        validation=validation,
    )
    return Shipment.parse(parts, where="here")


def point_record(snapshot: str, steps: int, **changes) -> ValidationRecord:
    """Return a passed validation record of that base on that robot."""
    values = {
        "robot": "point",
        "base": json.loads(base_files()["base.json"])["digest"],
        "snapshot": snapshot,
        "steps": steps,
        "spec": compute_whole_spec_digest(SPEC),
        "model": SPEC.model_digest,
    }
    return record(**(values | changes))
