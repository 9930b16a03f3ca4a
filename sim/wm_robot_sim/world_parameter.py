"""World parameter: parses a world from the text of a ROS parameter or option."""

import json

import numpy as np

from wm_robot.errors import ConfigError, SpecError
from wm_robot.spec import RobotSpec
from wm_robot_sim.worlds import DomainRandomization, World

EXPECTED_FORM = (
    """it must be nominal, random, or JSON with the fields that differ, such as '{"payload": 0.2}'"""
)


def parse_world(text: str, spec: RobotSpec, *, seed: int) -> World:
    """Parse a world from text.

    Args:
        text: `nominal`; `random`, drawn by the seed; or JSON: fields of `World` and parameters of `randomize:` that
            differ from the nominal one, or `{"loaded": {"payload": …, "weak_joint": …, "gain": …}}`.

    Raises:
        ConfigError: If the text has another form.
    """
    distribution = DomainRandomization(spec)
    if text == "nominal":
        return distribution.make_nominal_world()
    if text == "random":
        return distribution.sample(np.random.default_rng(seed))
    try:
        values = json.loads(text)
        if not isinstance(values, dict):
            raise TypeError(f"it is {type(values).__name__}")
        if set(values) == {"loaded"}:
            return distribution.make_loaded_world(**values["loaded"])
        nominal = distribution.make_nominal_world()
        # A name with a slash is a parameter of `randomize:`.
        named = {name: value for name, value in values.items() if "/" in name}
        rest = {name: value for name, value in values.items() if name not in named}
        parameters = {**nominal.parameters, **rest.pop("parameters", {}), **named}
        distribution.randomized.check_names(parameters, spec.name)
        world = World.from_dict({**nominal.to_dict(), **rest, "parameters": parameters})
        return world.check_sizes(spec)
    except json.JSONDecodeError as error:
        raise ConfigError(f"world is {text!r}; {EXPECTED_FORM}") from error
    except (SpecError, TypeError, ValueError) as error:
        raise ConfigError(f"world is {text!r}: {error}; {EXPECTED_FORM}") from error
