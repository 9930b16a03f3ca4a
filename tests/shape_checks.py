"""Types and shapes in signatures, checked while the tests run: as by `jaxtyped`, at a quarter of its price.

`jaxtyped` checks arguments twice, and decorates a function within a function at each call of the outer one, which
takes a millisecond. Here arguments and result are checked once, a signature without shapes by beartype alone, and
functions within functions not at all.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, get_args, get_type_hints

import jaxtyping
from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray, install_import_hook, jaxtyped

CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
"""An int may stand for a float."""
check_types = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=TypeError))


def check_packages(packages: Sequence[str]) -> None:
    """Check these packages, which are not imported yet."""
    # The hook writes this name above each function and class.
    jaxtyping.jaxtyped = checked
    install_import_hook(packages, CHECKER)


def checked(target: Any = None, *, typechecker: Any = None) -> Any:
    """In place of `jaxtyping.jaxtyped`."""
    if target is None:
        return partial(checked, typechecker=typechecker)
    if "<locals>" in target.__qualname__:
        return target
    if not isinstance(target, type):
        return checked_function(target)
    if dataclasses.is_dataclass(target) and "__init__" in vars(target):
        target.__init__ = checked_function(target.__init__)  # type: ignore[misc]
    return target


def checked_function(function: Callable[..., Any]) -> Callable[..., Any]:
    written = function.__annotations__
    hints = {name: resolved(hint, function.__globals__) for name, hint in written.items()}
    function.__annotations__ = hints
    check = check_types(function)
    # As they were, for who reads a signature.
    function.__annotations__ = check.__annotations__ = written
    return jaxtyped(check, typechecker=None) if any(map(has_shape, hints.values())) else check


def resolved(hint: Any, names: dict[str, Any]) -> Any:
    """What an annotation means; anything, where its name is not imported or not defined yet."""

    def function(value: Any) -> None: ...

    function.__annotations__ = {"value": hint}
    try:
        return get_type_hints(function, names, include_extras=True)["value"]
    except Exception:
        return Any


def has_shape(annotation: Any) -> bool:
    """Whether an annotation names the shape of an array somewhere."""
    parts = annotation if isinstance(annotation, list) else get_args(annotation)
    if parts:
        return any(map(has_shape, parts))
    return isinstance(annotation, type) and issubclass(annotation, AbstractArray)
