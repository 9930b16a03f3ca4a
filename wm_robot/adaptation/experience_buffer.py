"""Experience buffer: a uniform sample of the segments of a lifetime, and the recent ones.

A segment is a sequence of steps with the state before the first one, so that it can be replayed. Numpy only; nothing
is changed in place, so that another thread may save the buffer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from wm_robot.errors import check_at_least
from wm_robot.memory.lifetime_state import LifetimeState
from wm_robot.memory.state_arrays import Arrays, ArrayState
from wm_robot.types import Step

STEP_FIELDS = ("obs", "action", "next_obs", "valid")
"""Fields of a step that a segment stores."""
SEGMENT_NUMBER = "chapter"


@dataclass(frozen=True)
class ExperienceSegment:
    """Sequence of steps, and the state before the first of them."""

    steps: Step[np.ndarray]
    """`B T …`."""
    start: ArrayState
    """Without context bank and shadow."""
    number: np.ndarray
    """Number of the segment in the lifetime, `B`."""

    def flatten(self) -> Arrays:
        """Return the flat form, for shared memory and files."""
        return flatten_step(self.steps) | self.start.flatten() | {SEGMENT_NUMBER: self.number}

    @classmethod
    def unflatten(cls, flat: Mapping[str, np.ndarray]) -> "ExperienceSegment":
        """Inverse of `flatten`."""
        state = {name: value for name, value in flat.items() if name not in (*STEP_FIELDS, SEGMENT_NUMBER)}
        return cls(unflatten_step(flat), LifetimeState.unflatten(state), flat[SEGMENT_NUMBER])


def flatten_step(step: Step[np.ndarray]) -> Arrays:
    """Return the fields of a step that a segment stores, by name."""
    return {name: getattr(step, name) for name in STEP_FIELDS}


def unflatten_step(flat: Mapping[str, np.ndarray]) -> Step[np.ndarray]:
    """Inverse of `flatten_step`."""
    return Step(*(flat[name] for name in STEP_FIELDS))


@dataclass(frozen=True, kw_only=True)
class ExperienceConfig:
    """Config of the experience buffer: its sizes."""

    segment_steps: int = 64
    """Steps of a segment."""
    num_sampled: int = 24
    """Segments of the uniform sample."""
    num_recent: int = 16
    """Number of recent segments."""

    def __post_init__(self) -> None:
        check_at_least(1, self, "segment_steps", "num_sampled", "num_recent", section="experience")


@dataclass(frozen=True)
class ExperienceBuffer:
    """Experience of a batch of agents: sampled segments, recent segments and the open one."""

    sizes: ExperienceConfig = field(default_factory=ExperienceConfig)
    kept: tuple[ExperienceSegment, ...] = ()
    latest: tuple[ExperienceSegment, ...] = ()
    """The newest last."""
    chapters: int = 0
    """Finished segments of the whole lifetime."""
    open: tuple[Step[np.ndarray], ...] = ()
    """Steps of the unfinished segment, each `B …`."""
    start: ArrayState | None = None
    """The state before its first step."""

    def append_step(self, state: ArrayState, step: Step[np.ndarray]) -> "ExperienceBuffer":
        """Append one transition; return the new buffer.

        Args:
            state: State before it; stored for the first step of a segment only.
            step: A step with values that are not finite, or without a reading of each channel, counts as invalid.
        """
        start = self.start if self.open and self.start else state.model_part()
        steps = (*self.open, _mark_invalid(step))
        if len(steps) < self.sizes.segment_steps:
            return replace(self, open=steps, start=start)
        whole = Step(*(np.stack([getattr(each, name) for each in steps], 1) for name in STEP_FIELDS))
        chapter = ExperienceSegment(whole, start, np.full(len(step.valid), self.chapters))
        return replace(self.append_segment(chapter), open=(), start=None)

    def append_segment(self, segment: ExperienceSegment) -> "ExperienceBuffer":
        """Return the buffer with one more finished segment."""
        kept, place = self.kept, self._select_place()
        if place < self.sizes.num_sampled:
            kept = (*kept[:place], segment, *kept[place + 1 :])
        latest = (*self.latest, segment)[-self.sizes.num_recent :]
        return replace(self, kept=kept, latest=latest, chapters=self.chapters + 1)

    def _select_place(self) -> int:
        """Select the place of the next segment in the sample; a place beyond its size rejects the segment.

        The draw is a function of the segment number, so that a resumed lifetime draws the same.
        Source: algorithm R, Vitter (1985), ACM Trans. Math. Softw. 11(1).
        """
        if self.chapters < self.sizes.num_sampled:
            return self.chapters
        generator = np.random.Generator(np.random.Philox(key=self.chapters))
        return int(generator.integers(self.chapters + 1))

    def to_arrays(self, state: ArrayState, step: Step[np.ndarray]) -> Arrays:
        """Return the whole buffer as arrays of fixed shapes; empty places are zero.

        Args:
            state: Any state of these robots, for shapes.
            step: Any step of these robots, for shapes.
        """
        blank = {name: np.zeros_like(value) for name, value in state.flatten_model_part().items()}
        nothing = {name: np.zeros_like(value) for name, value in flatten_step(step).items()}
        empty = {
            name: np.stack([value] * self.sizes.segment_steps, 1) for name, value in nothing.items()
        } | blank
        empty[SEGMENT_NUMBER] = np.zeros(len(step.valid), np.int64)
        parts = {
            "kept": _pad_list([each.flatten() for each in self.kept], empty, self.sizes.num_sampled),
            "latest": _pad_list([each.flatten() for each in self.latest], empty, self.sizes.num_recent),
            "open": _pad_list([flatten_step(each) for each in self.open], nothing, self.sizes.segment_steps),
        }
        arrays = {
            f"{part}.{name}": np.stack([each[name] for each in listed], 1)
            for part, listed in parts.items()
            for name in listed[0]
        }
        start = self.start.flatten() if self.start else blank
        arrays |= {f"start.{name}": np.array(start[name]) for name in blank}
        counts = np.array([self.chapters, len(self.open)], np.int64)
        return arrays | {"counts": np.tile(counts, (len(step.valid), 1))}

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, np.ndarray], sizes: ExperienceConfig | None = None
    ) -> "ExperienceBuffer":
        """Inverse of `to_arrays`; an empty buffer without arrays."""
        sizes = sizes or ExperienceConfig()
        if "counts" not in arrays:
            return cls(sizes)
        chapters, count = (int(number) for number in arrays["counts"][0])
        return cls(
            sizes,
            kept=_unflatten_segments(arrays, "kept", min(chapters, sizes.num_sampled)),
            latest=_unflatten_segments(arrays, "latest", min(chapters, sizes.num_recent)),
            chapters=chapters,
            open=tuple(map(unflatten_step, _split_axis(_select_prefix(arrays, "open"), count))),
            start=LifetimeState.unflatten(_select_prefix(arrays, "start")) if count else None,
        )


def _mark_invalid(step: Step[np.ndarray]) -> Step[np.ndarray]:
    parts = step.obs, step.action, step.next_obs
    finite = np.logical_and.reduce([np.isfinite(part).all(-1) for part in parts])
    if step.measured is not None:
        finite = finite & (step.measured > 0).all(-1)
    known = [np.nan_to_num(part, posinf=0.0, neginf=0.0) for part in parts]
    obs, action, next_obs = known
    return Step(obs, action, next_obs, np.where(finite, step.valid, np.float32(0)))


def _pad_list(listed: Sequence[Arrays], empty: Arrays, count: int) -> list[Arrays]:
    return [*listed, *[empty] * (count - len(listed))]


def _select_prefix(arrays: Mapping[str, np.ndarray], part: str) -> Arrays:
    prefix = f"{part}."
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def _unflatten_segments(
    arrays: Mapping[str, np.ndarray], part: str, count: int
) -> tuple[ExperienceSegment, ...]:
    return tuple(map(ExperienceSegment.unflatten, _split_axis(_select_prefix(arrays, part), count)))


def _split_axis(arrays: Arrays, count: int) -> list[Arrays]:
    """List the first entries of the axis after the batch."""
    return [{name: value[:, i] for name, value in arrays.items()} for i in range(count)]
