"""Installation: version and source digest of the installed package, the machine, and digests of spec and battery."""

import os
import platform
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from wm_robot import __version__
from wm_robot.errors import ConfigError
from wm_robot.io.durable import compute_digest
from wm_robot.spec import RobotSpec, encode_canonical_json

PACKAGE_FOLDER = Path(__file__).resolve().parents[1]
MACHINE_PACKAGES = ("numpy", "torch", "onnxruntime", "mujoco")
DEFAULT_BATTERY = PACKAGE_FOLDER / "evaluation/validation/battery.yaml"
BATTERY_SUFFIX = ".battery.yaml"


@dataclass(frozen=True, kw_only=True)
class Installation:
    """Installed version of the library."""

    version: str
    source: str
    """Digest of all modules; it changes with every edit, committed or not."""


@cache
def read_installation() -> Installation:
    """Return the installed version of the library; read once in a process."""
    return Installation(version=__version__, source=compute_source_digest(PACKAGE_FOLDER))


def compute_source_digest(folder: Path) -> str:
    """Return the SHA-256 over path and content of all modules of a package, in hex."""
    modules = {
        path.relative_to(folder).as_posix(): compute_digest(path.read_bytes())
        for path in sorted(folder.rglob("*.py"))
    }
    return compute_digest(encode_canonical_json(modules))


def describe_machine() -> dict[str, str | int]:
    """Return CPU, usable cores, operating system, and versions of Python and of the packages that compute."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    found: dict[str, str | int] = {
        "cpu": _read_cpu_name(),
        "cores": len(usable),
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }
    for name in MACHINE_PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def compute_whole_spec_digest(spec: RobotSpec) -> str:
    """Return the SHA-256 of a whole spec, with limits, tasks and ranges, in hex.

    `RobotSpec.compute_digest` leaves out what keeps bases and states valid; a validation judged that too.
    """
    return compute_digest(encode_canonical_json(spec.to_dict()))


def read_battery_digest(robot: str, folder: Path) -> str:
    """Return the SHA-256 of the values of a robot's battery, in hex; comments do not change it.

    It covers the default battery and the changes of `ROBOT.battery.yaml` beside the robot's spec, without building
    the checks: a plant need not be able to run them. Empty if there is neither.

    Args:
        robot: Name in the spec.
        folder: Folder of the spec.

    Raises:
        ConfigError: If one cannot be read.
    """
    found = {
        name: _read_plain_yaml(path)
        for name, path in (("default", DEFAULT_BATTERY), ("own", folder / f"{robot}{BATTERY_SUFFIX}"))
        if path.is_file()
    }
    return compute_digest(encode_canonical_json(found)) if found else ""


def _read_plain_yaml(path: Path) -> Any:
    import yaml

    try:
        values = yaml.safe_load(path.read_bytes())
        encode_canonical_json(values)
    except (OSError, yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"battery {path} cannot be read: {' '.join(str(error).split()):.200}") from error
    return values


def _read_cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    name = next(named, "") or platform.processor() or platform.machine() or "unknown"
    return "".join(character for character in name if character.isprintable())[:100]
