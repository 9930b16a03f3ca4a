"""The own past of a life, in chapters: a fair sample of all of it, and the latest ones whole.

A chapter is some steps one after another with the memories that its first was lived with, so that it can be lived
again. Numpy only; nothing is changed in place, so that another thread may save what it holds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from wm_robot.errors import check_at_least

Chapter = Mapping[str, np.ndarray]
"""`obs`, `action`, `next_obs` and `valid`, `B T …`; `chapter`, its number in the life, `B`; under other names, the
state before its first step, `B …`."""
STEP = ("obs", "action", "next_obs", "valid")
NUMBER = "chapter"
PREFIX = "past."


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much of a life is kept."""

    steps: int = 64
    """Of a chapter."""
    kept: int = 24
    """Chapters of the fair sample."""
    latest: int = 16
    """Chapters that are kept whole until others come."""

    def __post_init__(self) -> None:
        check_at_least(1, self, "steps", "kept", "latest", part="reservoir")


@dataclass(frozen=True)
class Reservoir:
    """What lives, side by side, keep of their past."""

    sizes: Sizes = field(default_factory=Sizes)
    kept: tuple[Chapter, ...] = ()
    latest: tuple[Chapter, ...] = ()
    """The newest last."""
    chapters: int = 0
    """Finished in the whole life."""
    open: tuple[Mapping[str, np.ndarray], ...] = ()
    """Steps of the chapter that is being written, each `B …`."""
    start: Mapping[str, np.ndarray] = field(default_factory=dict)
    """The state before its first step."""

    def lived(self, state: Mapping[str, np.ndarray], **step: np.ndarray) -> "Reservoir":
        """The same with one transition more.

        Args:
            state: Before it; only that of a chapter's first step is kept.
            step: `obs`, `action`, `next_obs` and `valid`, `B …`. What is not finite counts as invalid.
        """
        start = self.start if self.open else {name: np.asarray(value) for name, value in state.items()}
        steps = (*self.open, _finite(step))
        if len(steps) < self.sizes.steps:
            return replace(self, open=steps, start=start)
        chapter = {name: np.stack([each[name] for each in steps], 1) for name in STEP} | dict(start)
        chapter[NUMBER] = np.full(len(steps[0]["valid"]), self.chapters)
        return replace(self.with_chapter(chapter), open=(), start={})

    def with_chapter(self, chapter: Chapter) -> "Reservoir":
        """The same with a finished chapter more."""
        kept, place = self.kept, self._place()
        if place < self.sizes.kept:
            kept = (*kept[:place], chapter, *kept[place + 1 :])
        latest = (*self.latest, chapter)[-self.sizes.latest :]
        return replace(self, kept=kept, latest=latest, chapters=self.chapters + 1)

    def _place(self) -> int:
        """Where the next chapter goes in the sample; beyond its size is nowhere.

        The draw is a function of the number of the chapter: a life that was stopped draws the same.
        Source: algorithm R, Vitter (1985), ACM Trans. Math. Softw. 11(1).
        """
        if self.chapters < self.sizes.kept:
            return self.chapters
        generator = np.random.Generator(np.random.Philox(key=self.chapters))
        return int(generator.integers(self.chapters + 1))

    def arrays(self, like: Mapping[str, np.ndarray], step: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """All of it, in fixed shapes; empty places are zero.

        Args:
            like: A state, as `lived` is given.
            step: A step, as `lived` is given.
        """
        blank = {name: np.zeros_like(value) for name, value in like.items()}
        nothing = {name: np.zeros_like(value) for name, value in step.items()}
        empty = {name: np.stack([value] * self.sizes.steps, 1) for name, value in nothing.items()} | blank
        empty[NUMBER] = np.zeros(len(nothing["valid"]), np.int64)
        parts: dict[str, Sequence[Any]] = {
            "kept": _filled(self.kept, empty, self.sizes.kept),
            "latest": _filled(self.latest, empty, self.sizes.latest),
            "open": _filled(self.open, nothing, self.sizes.steps),
        }
        arrays = {
            f"{PREFIX}{part}.{name}": np.stack([each[name] for each in listed], 1)
            for part, listed in parts.items()
            for name in listed[0]
        }
        arrays |= {f"{PREFIX}start.{name}": np.array((self.start or blank)[name]) for name in like}
        batch = len(next(iter(step.values())))
        counts = np.array([self.chapters, len(self.open)], np.int64)
        return arrays | {f"{PREFIX}counts": np.tile(counts, (batch, 1))}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], sizes: Sizes | None = None) -> "Reservoir":
        """Inverse of `arrays`; empty, if they have none."""
        sizes = sizes or Sizes()
        if f"{PREFIX}counts" not in arrays:
            return cls(sizes)
        chapters, count = (int(number) for number in arrays[f"{PREFIX}counts"][0])
        return cls(
            sizes,
            kept=_listed(arrays, "kept", min(chapters, sizes.kept)),
            latest=_listed(arrays, "latest", min(chapters, sizes.latest)),
            chapters=chapters,
            open=_listed(arrays, "open", count),
            start=_under(arrays, "start") if count else {},
        )


def _finite(step: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    finite = np.logical_and.reduce([np.isfinite(step[name]).all(-1) for name in STEP[:-1]])
    told = {name: np.nan_to_num(step[name], posinf=0.0, neginf=0.0) for name in STEP[:-1]}
    return told | {"valid": np.where(finite, step["valid"], np.float32(0))}


def _filled(listed: Sequence[Any], empty: Any, count: int) -> list[Any]:
    return [*listed, *[empty] * (count - len(listed))]


def _under(arrays: Mapping[str, np.ndarray], part: str) -> dict[str, np.ndarray]:
    prefix = f"{PREFIX}{part}."
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def _listed(arrays: Mapping[str, np.ndarray], part: str, count: int) -> tuple[dict[str, np.ndarray], ...]:
    found = _under(arrays, part)
    return tuple({name: value[:, i] for name, value in found.items()} for i in range(count))
