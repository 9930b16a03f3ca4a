"""Lifetime state: a typed object, and its flat form for files, shared memory and ONNX graphs.

Every type here holds arrays or tensors, batch first, in fixed shapes: float32, counters int64. Nothing is changed in
place. The flat keys are in the tables below and nowhere else.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Generic, TypeVar

from wm_robot.errors import SnapshotError

Value = TypeVar("Value")
"""An array or a tensor."""
Tree = TypeVar("Tree")
"""A state, a part of one, or a `Step`."""


@dataclass(frozen=True)
class LowRank(Generic[Value]):
    """A matrix of low rank for each row of the batch, up · down."""

    down: Value
    """`B R I`."""
    up: Value
    """`B O R`."""


@dataclass(frozen=True)
class Residual(Generic[Value]):
    """Corrections of the base's weights; see `wm_robot.model.residual`."""

    first: LowRank[Value]
    """Correction of the first layer, including its linear part of the sensor change."""
    last: LowRank[Value]
    """Correction from the last hidden layer to the sensor change, in units of the one-step change."""
    read: tuple[LowRank[Value] | None, ...] = ()
    """Correction of each memory layer's modulation; None where its family has none."""

    @property
    def parts(self) -> dict[str, LowRank[Value]]:
        """Matrices of the residual, by name."""
        read = {f"{READ}{i}": part for i, part in enumerate(self.read) if part is not None}
        return {"first": self.first, "last": self.last, **read}

    def map_parts(self, function: Callable[[str, LowRank[Value]], LowRank[Value]]) -> "Residual[Value]":
        """Apply a function of name and matrix to each matrix, in the order of `parts`."""
        new = {name: function(name, part) for name, part in self.parts.items()}
        return Residual(
            new["first"], new["last"], tuple(new.get(f"{READ}{i}") for i in range(len(self.read)))
        )


@dataclass(frozen=True)
class LearnedState(Generic[Value]):
    """Learned state of a robot in one context."""

    memory: tuple[dict[str, Value], ...]
    """State of each memory layer, by the names of its family."""
    residual: Residual[Value] | None = None
    """Residual in use when the memories were updated."""


@dataclass(frozen=True)
class ContextBankState(Generic[Value]):
    """Learned states of earlier contexts, and the evidence for each; see `wm_robot.adaptation.context_bank`."""

    slots: LearnedState[Value]
    """`B N+1 …`: remembered contexts, and last the initial state."""
    draft: LearnedState[Value]
    """`B …`: the present context as it was some steps ago, to be stored when it has settled."""
    last_used: Value
    """Steps at which each slot was last in use, `B N`; -1 while it is empty."""
    current: Value
    """Slot in use, `B`; -1 for none."""
    calm_steps: Value
    """Steps since the last alarm or switch, `B`."""
    switches: Value
    alarms: Value
    lead: Value
    """Evidence for each slot against the present memories, in nats, `B N+1`."""
    shortfall: Value
    """Mean evidence against each slot, in nats a step, `B N+1`."""
    excess: Value
    """Accumulated excess of squared errors, `B`."""


@dataclass(frozen=True)
class ShadowState(Generic[Value]):
    """The other of two learned states that run side by side; see `wm_robot.adaptation.shadow`."""

    learned: LearnedState[Value]
    errors: Value
    """Squared errors of the last steps, with a residual and without, `B W 2`."""
    offered: Value
    """Residuals whose evaluation started, `B`."""
    accepted: Value
    rejected: Value


@dataclass(frozen=True)
class LifetimeState(Generic[Value]):
    """Lifetime state: everything that one robot has learned since its initial state."""

    step: Value
    """Valid transitions, `B`, int64."""
    recent: Value
    """Actions that may still be on their way to the motors, `B R A`, the newest last."""
    learned: LearnedState[Value]
    bank: ContextBankState[Value] | None = None
    """None without context recall."""
    shadow: ShadowState[Value] | None = None
    """None without a learner of residuals."""
    experience: dict[str, Value] | None = None
    """Experience buffer, by the names of `ExperienceBuffer.to_arrays`; in saved states alone."""
    planner_noise: Value | None = None
    """Position in the planner's random numbers, `1 6`; in saved states alone."""

    @property
    def memory(self) -> tuple[dict[str, Value], ...]:
        """State of each memory layer."""
        return self.learned.memory

    @property
    def residual(self) -> Residual[Value] | None:
        """Residual in use."""
        return self.learned.residual

    def with_memory(self, layer: int, **parts: Value) -> "LifetimeState[Value]":
        """Return the state with other values in one memory layer."""
        layers = list(self.memory)
        layers[layer] = layers[layer] | parts
        return replace(self, learned=replace(self.learned, memory=tuple(layers)))

    def with_residual(self, residual: Residual[Value] | None) -> "LifetimeState[Value]":
        """Return the state with another residual."""
        return replace(self, learned=replace(self.learned, residual=residual))

    def model_part(self) -> "LifetimeState[Value]":
        """Return the part that a world model uses: no context bank, no shadow, nothing that is only saved."""
        return LifetimeState(self.step, self.recent, self.learned)

    def flatten(self) -> dict[str, Value]:
        """Return the flat form, by the keys of the tables."""
        flat = self.flatten_model_part()
        if self.bank is not None:
            flat |= _flatten_learned(self.bank.slots, SLOTS_PREFIX)
            flat |= _flatten_learned(self.bank.draft, DRAFT_PREFIX)
            flat |= {BANK_PREFIX + name: getattr(self.bank, name) for name in BANK_COUNTERS}
        if self.shadow is not None:
            flat |= _flatten_learned(self.shadow.learned, SHADOW_LEARNED_PREFIX)
            flat |= {SHADOW_PREFIX + name: getattr(self.shadow, name) for name in SHADOW_COUNTERS}
        flat |= {EXPERIENCE_PREFIX + name: value for name, value in (self.experience or {}).items()}
        if self.planner_noise is not None:
            flat[PLANNER_NOISE] = self.planner_noise
        return flat

    def flatten_model_part(self) -> dict[str, Value]:
        """Return the flat form of `model_part`."""
        return {STEP: self.step, RECENT: self.recent, **_flatten_learned(self.learned, "")}

    @classmethod
    def unflatten(cls, flat: Mapping[str, Value]) -> "LifetimeState[Value]":
        """Inverse of `flatten`.

        Raises:
            SnapshotError: If a part is missing or unknown.
        """
        try:
            state = cls(
                flat[STEP],
                flat[RECENT],
                _unflatten_learned(flat, ""),
                _unflatten_bank(flat),
                _unflatten_shadow(flat),
                _unflatten_experience(flat),
                flat.get(PLANNER_NOISE),
            )
        except KeyError as error:
            raise SnapshotError(f"the lifetime state has no part {error}") from error
        if unknown := flat.keys() - state.flatten().keys():
            raise SnapshotError(f"parts {sorted(unknown)} of the lifetime state are unknown to this version")
        return state


STEP, RECENT, PLANNER_NOISE = "step", "recent", "planner_noise"
EXPERIENCE_PREFIX = "experience."
RESIDUAL_PREFIX, READ = "residual.", "read."
"""Prefix of a residual in a learned state, and in it the prefix of a memory layer, whose number follows."""
BANK_PREFIX, SHADOW_PREFIX = "bank.", "shadow."
SLOTS_PREFIX, DRAFT_PREFIX, SHADOW_LEARNED_PREFIX = "bank.slots.", "bank.draft.", "shadow.learned."
"""Prefixes of the stored learned states; keys of the present one have no prefix."""
BANK_COUNTERS = ("last_used", "current", "calm_steps", "switches", "alarms", "lead", "shortfall", "excess")
SHADOW_COUNTERS = ("errors", "offered", "accepted", "rejected")
"""Fields that are one value; the key is the field's name behind the prefix."""


def map_values(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """Apply a function to the values of equal structures, one value from each; None stays None."""
    mapped: Tree = convert_values(function, tree, *others)
    return mapped


def convert_values(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Apply a function as `map_values` does, where it converts arrays to tensors or tensors to arrays."""
    # A control step maps several states: the most frequent kinds come first.
    kind: Any = type(tree)
    if kind is dict:
        if not others:
            return {name: function(value) for name, value in tree.items()}
        return {name: function(value, *[other[name] for other in others]) for name, value in tree.items()}
    if kind is tuple:
        return tuple([convert_values(function, *each) for each in zip(tree, *others, strict=True)])
    if tree is None:
        return None
    names = _field_names(kind)
    if not names:
        return function(tree, *others)
    if not others:
        return kind(*[convert_values(function, getattr(tree, name)) for name in names])
    trees = (tree, *others)
    return kind(*[convert_values(function, *[getattr(each, name) for each in trees]) for name in names])


def list_values(tree: Any) -> list[Any]:
    """List the values of a structure, in order."""
    kind: Any = type(tree)
    if kind is dict:
        return list(tree.values())
    if tree is None:
        return []
    parts = tree if kind is tuple else [getattr(tree, name) for name in _field_names(kind)]
    if kind is not tuple and not parts:
        return [tree]
    return [value for part in parts for value in list_values(part)]


_FIELDS: dict[type, tuple[str, ...]] = {}
"""Cache of the field names of each dataclass."""


def _field_names(kind: type) -> tuple[str, ...]:
    """Return the field names of a dataclass; none for an array or a tensor."""
    found = _FIELDS.get(kind)
    if found is None:
        names = tuple(field.name for field in fields(kind)) if is_dataclass(kind) else ()
        found = _FIELDS[kind] = names
    return found


def _flatten_learned(learned: LearnedState[Value], prefix: str) -> dict[str, Value]:
    flat: dict[str, Value] = {}
    if learned.residual is not None:
        flat |= flatten_residual(learned.residual, prefix)
    for layer, parts in enumerate(learned.memory):
        flat.update(zip(_memory_keys(prefix, layer, tuple(parts)), parts.values(), strict=True))
    return flat


@functools.cache
def _memory_keys(prefix: str, layer: int, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{prefix}{layer}.{name}" for name in names)


@functools.cache
def _residual_keys(prefix: str, read: tuple[int, ...]) -> tuple[str, ...]:
    names = ["first", "last", *(f"{READ}{layer}" for layer in read)]
    return tuple(f"{prefix}{RESIDUAL_PREFIX}{name}{half}" for name in names for half in (".down", ".up"))


def _unflatten_learned(flat: Mapping[str, Value], prefix: str) -> LearnedState[Value]:
    layers: dict[int, dict[str, Value]] = {}
    for key, value in flat.items():
        layer, _, name = key.removeprefix(prefix).partition(".")
        if key.startswith(prefix) and layer.isdigit():
            layers.setdefault(int(layer), {})[name] = value
    memory = tuple(layers[layer] for layer in range(len(layers)))
    corrected = any(key.startswith(prefix + RESIDUAL_PREFIX) for key in flat)
    return LearnedState(memory, unflatten_residual(flat, prefix, len(layers)) if corrected else None)


def flatten_residual(residual: Residual[Value], prefix: str = "") -> dict[str, Value]:
    """Return the flat form of a residual in the learned state with that prefix."""
    first, last = residual.first, residual.last
    values = [first.down, first.up, last.down, last.up]
    layers = []
    for layer, part in enumerate(residual.read):
        if part is not None:
            layers.append(layer)
            values += part.down, part.up
    return dict(zip(_residual_keys(prefix, tuple(layers)), values, strict=True))


def unflatten_residual(
    flat: Mapping[str, Value], prefix: str = "", layers: int | None = None
) -> Residual[Value]:
    """Inverse of `flatten_residual`.

    Args:
        layers: Number of memory layers; without it, as many as have a part.
    """
    prefix += RESIDUAL_PREFIX

    def part(name: str) -> LowRank[Value]:
        return LowRank(flat[f"{prefix}{name}.down"], flat[f"{prefix}{name}.up"])

    numbers = [int(key.split(".")[-2]) for key in flat if key.startswith(prefix + READ)]
    count = max(numbers, default=-1) + 1 if layers is None else layers
    read = (part(f"{READ}{layer}") if layer in numbers else None for layer in range(count))
    return Residual(part("first"), part("last"), tuple(read))


def _unflatten_bank(flat: Mapping[str, Value]) -> ContextBankState[Value] | None:
    if not any(key.startswith(BANK_PREFIX) for key in flat):
        return None
    return ContextBankState(
        _unflatten_learned(flat, SLOTS_PREFIX),
        _unflatten_learned(flat, DRAFT_PREFIX),
        **{name: flat[BANK_PREFIX + name] for name in BANK_COUNTERS},
    )


def _unflatten_shadow(flat: Mapping[str, Value]) -> ShadowState[Value] | None:
    if not any(key.startswith(SHADOW_PREFIX) for key in flat):
        return None
    return ShadowState(
        _unflatten_learned(flat, SHADOW_LEARNED_PREFIX),
        **{name: flat[SHADOW_PREFIX + name] for name in SHADOW_COUNTERS},
    )


def _unflatten_experience(flat: Mapping[str, Value]) -> dict[str, Value] | None:
    prefix = EXPERIENCE_PREFIX
    return {key.removeprefix(prefix): value for key, value in flat.items() if key.startswith(prefix)} or None
