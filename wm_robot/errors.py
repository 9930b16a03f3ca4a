"""Errors of wm_robot. Each message names the thing, its value, the expected value and the next step."""


class WmRobotError(Exception):
    """Base class of all errors that wm_robot raises to a caller."""


class ConfigError(WmRobotError, ValueError):
    """A setting has an invalid value."""


class SpecError(WmRobotError, ValueError):
    """Data or a file does not match the robot's spec."""


class SnapshotError(WmRobotError):
    """A lifetime state or base is damaged, foreign or of another version."""


class InferenceError(WmRobotError):
    """A base, or its ONNX model, returned values that a robot cannot use to act or to learn."""


class OnnxMismatchError(SnapshotError):
    """An ONNX model computes other values than torch. The base can still be used with torch."""


class UnsafeActionError(WmRobotError):
    """An action must not reach a motor."""


class DeviceError(WmRobotError):
    """A robot or one of its devices does not answer as expected."""


class MissingExtraError(WmRobotError, ImportError):
    """An optional package is not installed. The message contains the install command."""

    def __init__(self, feature: str, extra: str):
        super().__init__(f'{feature} needs the "{extra}" extra: pip install "wm_robot[{extra}]"')


def check_at_least(minimum: float, config: object, *field_names: str, section: str) -> None:
    """Reject a config with a field below a minimum.

    Args:
        minimum: Smallest valid value.
        field_names: Names of the fields.
        section: Name of the config in error messages.

    Raises:
        ConfigError: If a field is smaller, or not a number.
    """
    for name in field_names:
        value = getattr(config, name)
        if not value >= minimum:
            raise ConfigError(f"{section}.{name} is {value}; it must be at least {minimum}")
