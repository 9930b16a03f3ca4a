"""Types and shapes in signatures, checked while the tests run: as by `jaxtyped`, at a quarter of its price.

`jaxtyped` checks arguments twice, and decorates a function within a function at each call of the outer one, which
takes a millisecond. Here arguments and result are checked once, a signature without shapes by beartype alone, and
functions within functions not at all.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ForwardRef, get_args

import jaxtyping
from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray, install_import_hook, jaxtyped

CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
"""An int may stand for a float."""
check_types = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check_packages(packages: Sequence[str]) -> None:
    """Check these packages, which are not imported yet."""
    # The hook writes this name above each function and class.
    jaxtyping.jaxtyped = checked
    install_import_hook(packages, CHECKER)


def checked(target: Any = None, *, typechecker: Any = None) -> Any:
    """In place of `jaxtyping.jaxtyped`."""
    if target is None:
        return partial(checked, typechecker=typechecker)
    if not isinstance(target, type):
        return checked_function(target)
    if dataclasses.is_dataclass(target) and "__init__" in vars(target):
        target.__init__ = checked_function(target.__init__)  # type: ignore[misc]
    return target


def checked_function(function: Callable[..., Any]) -> Callable[..., Any]:
    if "<locals>" in function.__qualname__:
        return function
    if any(map(has_shape, function.__annotations__.values())):
        return jaxtyped(check_types(function), typechecker=None)
    return check_types(function)


def has_shape(annotation: Any) -> bool:
    """Whether an annotation names the shape of an array somewhere."""
    if isinstance(annotation, str | ForwardRef):
        return "Tensor" in str(annotation) or "ndarray" in str(annotation)
    parts = annotation if isinstance(annotation, list) else get_args(annotation)
    if parts:
        return any(map(has_shape, parts))
    return isinstance(annotation, type) and issubclass(annotation, AbstractArray)
