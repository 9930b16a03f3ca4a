"""A lifetime state on disk. Numpy only: the file outlives any learning library."""

import json
import re
from pathlib import Path

import numpy as np
from safetensors.numpy import load, save

from wm_robot import __version__
from wm_robot.errors import SnapshotError
from wm_robot.io.durable import digest, write_file

FORMAT = 1
_SHA256 = re.compile("[0-9a-f]{64}")


def save_state(folder: Path, state: dict[str, np.ndarray], *, base_digest: str, spec_digest: str) -> str:
    """Write a state; when this returns it survives a power cut. Returns the digest of its content.

    The tensors go under a name made of their digest and the manifest is replaced last, so that a manifest never
    names tensors that are not there whole.

    Raises:
        SnapshotError: If a number is not finite: such a life cannot go on.
    """
    broken = sorted(name for name, value in state.items() if not np.isfinite(value).all())
    if broken:
        raise SnapshotError(f"{broken} of the lifetime state are not finite. Go on from a state saved before")
    content = save(state)
    sha256 = digest(content)
    manifest = {
        "format": FORMAT,
        "kind": "lifetime-state",
        "base_digest": base_digest,
        "spec_digest": spec_digest,
        "sha256": sha256,
        "steps": int(state["step"].max()),
        "code": __version__,
    }
    write_file(folder / f"{sha256}.safetensors", content)
    write_file(folder / "manifest.json", json.dumps(manifest, indent=1).encode())
    for path in folder.glob("*.safetensors"):
        if _SHA256.fullmatch(path.stem) and path.stem != sha256:
            path.unlink(missing_ok=True)
    return sha256


def load_state(folder: Path, *, base_digest: str, spec_digest: str) -> dict[str, np.ndarray]:
    """Read a state; its bytes are checked before they are parsed.

    Raises:
        SnapshotError: If it is missing, damaged, of another format, base or robot.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        version, sha256 = manifest["format"], str(manifest["sha256"])
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"its manifest has sha256 '{sha256}'")
        content = (folder / f"{sha256}.safetensors").read_bytes()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SnapshotError(
            f"no lifetime state in {folder}: {error}. Name a folder that an agent saved in, or begin a new life"
        ) from error
    if version != FORMAT:
        raise SnapshotError(
            f"{folder} has format {version}, this version reads {FORMAT}. "
            "Use the version that saved it, or begin a new life"
        )
    for name, expected in (("base_digest", base_digest), ("spec_digest", spec_digest)):
        if manifest.get(name) != expected:
            raise SnapshotError(
                f"{folder} was lived with {name} {str(manifest.get(name))[:12]}, here it is {expected[:12]}. "
                "Use the base and robot of that life, or begin a new one"
            )
    if digest(content) != sha256:
        raise SnapshotError(f"{folder} is damaged: its SHA-256 is not the manifest's. Restore an older copy")
    return dict(load(content))
