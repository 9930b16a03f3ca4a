"""Warm start: initial weights of a model from a base of another memory family."""

from wm_robot.errors import ConfigError
from wm_robot.model.world_model import WorldModel

MEMORY_PREFIXES = ("memories.", "physics_head.")
"""Name prefixes of the tensors that belong to one memory family."""


def copy_base_tensors(model: WorldModel, source: WorldModel) -> None:
    """Copy all tensors that do not depend on the memory family.

    Raises:
        ConfigError: If the models differ in robot or width.
    """
    own = {name: value for name, value in model.state_dict().items() if not name.startswith(MEMORY_PREFIXES)}
    others = {name: value for name, value in source.state_dict().items() if name in own}
    differ = sorted(name for name in own if name not in others or own[name].shape != others[name].shape)
    if differ:
        raise ConfigError(
            f"start has other shapes than this model: {differ}. Use a base of the same robot and width"
        )
    model.load_state_dict(others, strict=False)
