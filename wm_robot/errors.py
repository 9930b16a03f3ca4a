"""What can go wrong. Each message names the thing, its value, what was expected and the next move."""


class WmRobotError(Exception):
    """Root of every error that a caller of wm_robot can meet."""


class ConfigError(WmRobotError, ValueError):
    """A setting has a value that cannot work."""


class SpecError(WmRobotError, ValueError):
    """Data or a file does not fit the robot's spec."""


class SnapshotError(WmRobotError):
    """A lifetime state or base is damaged, foreign or of another version."""


class InferenceError(WmRobotError):
    """A base, or a graph of it, gave nothing that a robot can act on or learn from."""


class GraphError(SnapshotError):
    """A graph does not compute what torch does. The base that it was made of is as usable as before, in torch."""


class UnsafeActionError(WmRobotError):
    """An action that must not reach a motor."""


class DeviceError(WmRobotError):
    """A robot or one of its parts does not answer as it should."""


class MissingExtraError(WmRobotError, ImportError):
    """An optional part is not installed; the message has the command that installs it."""

    def __init__(self, what: str, extra: str):
        super().__init__(f'{what} needs the "{extra}" extra: pip install "wm_robot[{extra}]"')


def check_at_least(least: float, config: object, *names: str, part: str) -> None:
    """Refuse a config with a field below the least value that it may have.

    Args:
        names: Of the fields.
        part: What the config is of, as error messages name it.

    Raises:
        ConfigError: If a field is less, or not a number.
    """
    for name in names:
        value = getattr(config, name)
        if not value >= least:
            raise ConfigError(f"{part}.{name} is {value}; it must be at least {least}")
