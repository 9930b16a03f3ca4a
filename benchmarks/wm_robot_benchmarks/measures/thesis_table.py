"""Thesis table: errors of all variants relative to frozen weights, by group of worlds, with figures and panels."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from wm_robot.evaluation.gap import Comparison
from wm_robot_benchmarks.measures.relative_error import RelativeError, compute_relative_error
from wm_robot_benchmarks.measures.thesis_errors import (
    AGAIN,
    CONTROL,
    CONTROL_STEPS,
    FIRST,
    HISTORIES,
    POINTS,
    RETURN_POINTS,
    RETURNED,
    Errors,
)
from wm_robot_benchmarks.measures.thesis_figure import Panel
from wm_robot_benchmarks.measures.thesis_variants import (
    DEFAULT,
    FROZEN,
    GRADIENT,
    LAST_LAYER,
    NOMINAL_WEIGHTS,
    TrainingRun,
    list_variants,
)
from wm_robot_benchmarks.undeclared import DECLARED, FLOOR, NOMINAL

UNDECLARED = "undeclared"
RIVALS = (NOMINAL_WEIGHTS, FROZEN, GRADIENT, LAST_LAYER)
"""Variants whose knowledge is in their weights."""
TITLES = {
    NOMINAL: "Nothing has changed",
    DECLARED: "Something changed that training varied",
    UNDECLARED: "Something changed that nobody declared",
}
RETURNED_TITLE = "The same, back after 128 steps in another world"
INTERVALS_AT, KINDS_AT = (0, 8, 32, 128), 128
"""Steps with an interval, and those of the comparison of kinds."""
CONTROL_NAMES = dict(zip(HISTORIES, ("reset", "shuffled", "other_robot"), strict=True))


@dataclass(frozen=True)
class ThesisTable:
    """Errors of all variants in all rows."""

    runs: Sequence[TrainingRun]
    families: Sequence[str]
    """Learned memories."""
    kinds: Sequence[str]
    """Kinds of undeclared effects."""
    seeds: Sequence[int]
    errors: Mapping[tuple[str, str, int], Errors]
    """By row, label of the training run, and seed."""

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Rows of each group of worlds that stay."""
        return {NOMINAL: (NOMINAL,), DECLARED: (DECLARED,), UNDECLARED: tuple(self.kinds)}

    @property
    def variants(self) -> tuple[str, ...]:
        """Variants of all runs, in the order of the tables."""
        there = {name for run in self.runs for name in run.variants}
        return tuple(name for name in list_variants(self.families) if name in there)

    def compare(
        self,
        variant: str,
        other: str,
        rows: Sequence[str],
        part: str = "",
        other_part: str | None = None,
    ) -> RelativeError | None:
        """Compute the error of a variant over that of another one with the same trainings; None without common ones.

        Args:
            part: As in `Errors`.
            other_part: Part of the other one, where it differs.
        """
        parts = part, part if other_part is None else other_part
        labels = [
            run.label
            for run in self.runs
            if {(variant, parts[0]), (other, parts[1])} <= self._find(rows[0], run.label).keys()
        ]
        if not labels:
            return None
        own, others = (
            [np.stack([self._collect(row, label, name, each) for label in labels]) for row in rows]
            for name, each in ((variant, parts[0]), (other, parts[1]))
        )
        return compute_relative_error(own, others)

    def compute_figures(self) -> dict[str, float | Comparison]:
        """Compute the figures of the default memory, relative to `robust` unless they name another variant."""
        figures: dict[str, float | Comparison] = {}

        def add(name: str, error: RelativeError | None, at: int) -> None:
            none = Comparison(None, f"no base of '{DEFAULT}' with one of the other variant")
            figures[name] = none if error is None else float(error.ratio[at])

        for group, rows in self.groups.items():
            own = self.compare(DEFAULT, FROZEN, rows)
            for steps in INTERVALS_AT:
                add(f"{group}_{steps}", own, POINTS.index(steps))
            rival = self.compare(DEFAULT, GRADIENT, rows)
            add(f"{group}_{KINDS_AT}_vs_gradient", rival, POINTS.index(KINDS_AT))
        for name, row in RETURNED.items():
            again = self.compare(DEFAULT, DEFAULT, [row], AGAIN, FIRST)
            for steps in (0, 8):
                add(f"returned_{name}_{steps}_vs_first", again, RETURN_POINTS.index(steps))
        for history, name in CONTROL_NAMES.items():
            rows = (DECLARED, *self.kinds)
            add(f"control_{name}", self._compare_control(DEFAULT, history, rows), 0)
        return figures

    def make_rows(self) -> list[dict[str, Any]]:
        """Make the rows of the printed tables."""
        return [
            *self._make_step_rows(),
            *self._make_return_rows(),
            *self._make_interval_rows(),
            *self._make_rival_rows(),
            *self._make_kind_rows(),
            *self._make_control_rows(),
        ]

    def make_panels(self) -> list[Panel]:
        """Make the panels of the figure."""
        panels = [
            Panel(
                TITLES[group],
                "steps lived in the changed world" if group != NOMINAL else "steps lived",
                POINTS,
                found,
            )
            for group, rows in self.groups.items()
            if (found := self._compare_all(rows))
        ]
        rows = tuple(RETURNED.values())
        found = self._compare_all(rows, AGAIN)
        first = self.compare(DEFAULT, FROZEN, rows, FIRST)
        return [*panels, Panel(RETURNED_TITLE, "steps since the world is back", RETURN_POINTS, found, first)]

    def _compare_all(self, rows: Sequence[str], part: str = "") -> dict[str, RelativeError]:
        found = {name: self.compare(name, FROZEN, rows, part) for name in (*self.variants, FLOOR)}
        return {name: error for name, error in found.items() if error is not None}

    def _compare_control(self, variant: str, history: str, rows: Sequence[str]) -> RelativeError | None:
        """Compute the error after a false history over that of frozen weights after as many steps."""
        at, labels = (
            POINTS.index(CONTROL_STEPS),
            [
                run.label
                for run in self.runs
                if (variant, f"{CONTROL} {history}") in self._find(rows[0], run.label)
            ],
        )
        if not labels:
            return None
        own, frozen = (
            [np.stack([self._collect(row, label, name, part) for label in labels]) for row in rows]
            for name, part in ((variant, f"{CONTROL} {history}"), (FROZEN, ""))
        )
        return compute_relative_error(own, [each[:, :, at : at + 1] for each in frozen])

    def _make_step_rows(self) -> Iterator[dict[str, Any]]:
        for group, rows in self.groups.items():
            for name, error in self._compare_all(rows).items():
                if name != FROZEN:
                    yield {"worlds": group, "variant": name, **_list_values(POINTS, error.ratio)}
            absolute = [
                np.concatenate([self._collect(row, run.label, FROZEN, "") for run in self.runs])
                for row in rows
            ]
            mean = np.exp(np.mean([np.log(each.mean(0)) for each in absolute], 0))
            yield {"worlds": group, "variant": "robust, its error", **_list_values(POINTS, mean)}

    def _make_return_rows(self) -> Iterator[dict[str, Any]]:
        for row in RETURNED.values():
            for name in self.variants:
                for part in (FIRST, AGAIN):
                    error = self.compare(name, FROZEN, [row], part)
                    if error is not None and name != FROZEN:
                        yield {
                            "worlds": row,
                            "variant": name,
                            "time": part,
                            **_list_values(RETURN_POINTS, error.ratio),
                        }
                ratio = self.compare(name, name, [row], AGAIN, FIRST)
                if ratio is not None:
                    values = _list_values(RETURN_POINTS, ratio.ratio)
                    yield {"worlds": row, "variant": name, "time": "again over first", **values}

    def _make_interval_rows(self) -> Iterator[dict[str, Any]]:
        for group, rows in self.groups.items():
            for name, error in self._compare_all(rows).items():
                if name != FROZEN:
                    yield {
                        "worlds": group,
                        "variant over robust": name,
                        **{f"{steps} steps": error.describe(POINTS.index(steps)) for steps in INTERVALS_AT},
                    }

    def _make_rival_rows(self) -> Iterator[dict[str, Any]]:
        for group, rows in self.groups.items():
            for rival in RIVALS:
                error = self.compare(DEFAULT, rival, rows)
                if error is not None:
                    yield {
                        "worlds": group,
                        f"{DEFAULT} over": rival,
                        **{f"{steps} steps": error.describe(POINTS.index(steps)) for steps in INTERVALS_AT},
                    }

    def _make_kind_rows(self) -> Iterator[dict[str, Any]]:
        at = POINTS.index(KINDS_AT)
        for kind in self.kinds:
            found = self._compare_all([kind])
            yield {
                f"kind, {KINDS_AT} steps": kind,
                **{name: round(float(error.ratio[at]), 3) for name, error in found.items() if name != FROZEN},
            }

    def _make_control_rows(self) -> Iterator[dict[str, Any]]:
        for name in self.variants:
            for history, words in CONTROL_NAMES.items():
                found = {
                    group: self._compare_control(name, history, rows)
                    for group, rows in self.groups.items()
                    if group != NOMINAL
                }
                if all(error is not None for error in found.values()):
                    yield {
                        "control": words,
                        "variant": name,
                        **{group: error.describe(0) for group, error in found.items() if error is not None},
                    }

    def _find(self, row: str, label: str) -> Errors:
        return self.errors[row, label, self.seeds[0]]

    def _collect(self, row: str, label: str, variant: str, part: str) -> Float[np.ndarray, "N P"]:
        """Return the errors of the robots of all seeds."""
        return np.concatenate([self.errors[row, label, seed][variant, part] for seed in self.seeds])


def _list_values(points: Sequence[int], values: np.ndarray) -> dict[str, float]:
    return {str(point): round(float(value), 4) for point, value in zip(points, values, strict=True)}
