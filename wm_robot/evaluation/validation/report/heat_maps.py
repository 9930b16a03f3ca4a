"""Heat maps of a validation: settled error by world and condition, in tolerances of the task."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from wm_robot.evaluation.validation.episode import EpisodeResult
from wm_robot.evaluation.validation.report.contents import ValidationContents
from wm_robot.evaluation.validation.verdict import CheckOutcome

DECLARED_WORLDS = ("declared", "returning", "nominal")
Place = tuple[str, str]
"""Row and column of a cell."""


@dataclass(frozen=True, kw_only=True)
class HeatMap:
    """Heat map: one number for each row and column."""

    title: str
    words: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: np.ndarray
    """`R C`; NaN: not run."""
    limits: tuple[float | None, ...]
    """Pass line of the mean of each column."""
    is_strip: bool = False
    """One row, whose cells wrap; the columns are labels for a pointer."""

    def list_cells(self) -> Iterator[tuple[str, float, float | None]]:
        """List the cells with a number: name, number, pass line."""
        for row, values in zip(self.rows, self.values, strict=True):
            for column, value, limit in zip(self.columns, values, self.limits, strict=True):
                if np.isfinite(value):
                    yield " ".join(each for each in (row, column) if each), float(value), limit


def build_heat_maps(contents: ValidationContents) -> list[HeatMap]:
    """Build the heat maps of all checks of control that were run. Checks are told apart by their worlds."""
    run = [each for each in contents.find_outcomes("control") if contents.find_results(each.check.name)]
    found: list[HeatMap] = []
    corners = [each for each in run if _find_kind(each) in ("corners", "outside")]
    if corners:
        found.append(_build_corners(contents, corners))
    for outcome in run:
        kind, results = _find_kind(outcome), contents.find_results(outcome.check.name)
        if kind in CONDITION_MAPS:
            found.append(CONDITION_MAPS[kind](outcome, results))
        elif kind == "lifetime":
            found.append(_build_lifetime(outcome, results))
        elif kind in DECLARED_WORLDS:
            found.append(_build_worlds(outcome, results))
    return found


def build_prediction_map(outcome: CheckOutcome, results: Iterable[EpisodeResult]) -> HeatMap:
    """Build the strip of open-loop errors of a check of prediction, the least first."""
    pairs = [(each.prediction[-1], _name_episode(each)) for each in results if each.prediction]
    title, words = outcome.check.name, "Open-loop error of each world, the least first."
    return _build_strip(title, words, sorted(pairs), outcome.check.limits.get("error", (None, None))[1])


def read_changed_error(result: EpisodeResult) -> float:
    """Return the settled error after the first change; of the only world, where nothing changes."""
    return result.settled[min(1, len(result.settled) - 1)]


def _find_kind(outcome: CheckOutcome) -> str:
    settings: Mapping[str, Any] = outcome.check.settings
    if "inputs" in settings:
        return "inputs"
    return "lifetime" if "every" in settings else str(settings.get("worlds", ""))


def _name_episode(result: EpisodeResult) -> str:
    return result.label.partition("/")[2]


def _read_limit(outcome: CheckOutcome, figure: str = "settled") -> float | None:
    return outcome.check.limits.get(figure, (None, None))[1]


def _build_corners(contents: ValidationContents, outcomes: Iterable[CheckOutcome]) -> HeatMap:
    """Build one map of parameter × end, with the ends of the declared ranges inside those just beyond."""
    columns: dict[str, list[tuple[Place, float]]] = {"low": [], "high": []}
    limits: dict[str, float | None] = {}
    for outcome in sorted(outcomes, key=lambda each: _find_kind(each) == "corners"):
        is_outside = _find_kind(outcome) == "outside"
        beyond = f" +{100 * outcome.check.settings.get('beyond', 0.0):g} %" if is_outside else ""
        for result in contents.find_results(outcome.check.name):
            name, _, end = _name_episode(result).rpartition(" ")
            # Directions, such as `tilt x`, have one end.
            row, end = (name, end) if end in ("low", "high") else (f"{name} {end}".strip(), "high")
            column = f"{end}{beyond}"
            columns.setdefault(column, []).append(((row, column), read_changed_error(result)))
            limits[column] = _read_limit(outcome)
    order = [*(each for each in columns if each.startswith("low +")), "low", "high"]
    order += [each for each in columns if each.startswith("high +")]
    cells = [cell for name in order for cell in columns[name]]
    return _build_map(
        "Ends of the declared ranges",
        "Each parameter alone, at the low and the high end of its declared range"
        + (", and just beyond it." if len(order) > 2 else "."),
        cells,
        order,
        limits,
    )


def _build_faults(outcome: CheckOutcome, results: Iterable[EpisodeResult]) -> HeatMap:
    """Build a map of motor × kind of fault; names of episodes are `KIND MOTOR NUMBER`."""
    cells = []
    for result in results:
        kind, _, rest = _name_episode(result).partition(" ")
        cells.append(((rest.rpartition(" ")[0], kind), read_changed_error(result)))
    words = "Each fault begins in mid-episode; the error is that while it lasts."
    limit = _read_limit(outcome)
    kinds = list(dict.fromkeys(column for (_, column), _ in cells))
    return _build_map("Motor faults", words, cells, kinds, dict.fromkeys(kinds, limit))


def _build_effects(outcome: CheckOutcome, results: Iterable[EpisodeResult]) -> HeatMap:
    """Build a map of the kinds of undeclared effects, while they last and after; names are `KIND NUMBER`."""
    cells = []
    for result in results:
        kind = _name_episode(result).rpartition(" ")[0]
        cells.append(((kind, "while it lasts"), read_changed_error(result)))
        if len(result.settled) > 2:
            cells.append(((kind, "after it ends"), result.settled[2]))
    limits = {"while it lasts": _read_limit(outcome), "after it ends": _read_limit(outcome, "after")}
    words = "Effects that the spec does not declare, switched on and off in mid-episode."
    return _build_map("Undeclared effects", words, cells, list(limits), limits)


def _build_inputs(outcome: CheckOutcome, results: Iterable[EpisodeResult]) -> HeatMap:
    """Build a map of input faults × size; names are `KIND SIZE CHANNELS NUMBER`."""
    cells = []
    for result in results:
        kind, size, *_ = _name_episode(result).split(" ")
        cells.append(((f"{kind} {size}", ""), read_changed_error(result)))
    words = "Readings are changed or lost on their way to the agent; the robot itself is healthy."
    title = outcome.check.group[:1].upper() + outcome.check.group[1:]
    return _build_map(title, words, cells, [""], {"": _read_limit(outcome)})


def _build_worlds(outcome: CheckOutcome, results: Iterable[EpisodeResult]) -> HeatMap:
    if _find_kind(outcome) == "returning":
        pairs = [(each.settled[-1], f"world {_name_episode(each)}") for each in results]
        words = "The settled error after the nominal robot has returned, the least first."
        return _build_strip(outcome.check.name, words, sorted(pairs), _read_limit(outcome, "after"))
    pairs = [(read_changed_error(each), f"world {_name_episode(each)}") for each in results]
    words = "Worlds drawn from the declared ranges, the least error first."
    if _find_kind(outcome) == "nominal":
        words = "Episodes of the nominal robot, the least error first."
    return _build_strip(outcome.check.name, words, sorted(pairs), _read_limit(outcome))


def _build_lifetime(outcome: CheckOutcome, results: Iterable[EpisodeResult]) -> HeatMap:
    every = float(outcome.check.settings.get("every", 0.0))
    pairs = [
        (value, f"from {number * every:g} s on")
        for each in results
        for number, value in enumerate(each.settled)
    ]
    words = f"One lifetime from left to right; every {every:g} s the world changes."
    return _build_strip(outcome.check.name, words, pairs, None)


CONDITION_MAPS: Mapping[str, Callable[[CheckOutcome, Iterable[EpisodeResult]], HeatMap]] = {
    "faults": _build_faults,
    "effects": _build_effects,
    "inputs": _build_inputs,
}


def _build_strip(title: str, words: str, pairs: Iterable[tuple[float, str]], limit: float | None) -> HeatMap:
    values, names = zip(*pairs, strict=True)
    return HeatMap(
        title=title,
        words=words,
        rows=("",),
        columns=tuple(names),
        values=np.array([values], np.float64),
        limits=(limit,) * len(values),
        is_strip=True,
    )


def _build_map(
    title: str,
    words: str,
    cells: list[tuple[Place, float]],
    columns: list[str],
    limits: Mapping[str, float | None],
) -> HeatMap:
    """Build a map of cells; those of one place are averaged. Rows are sorted by their largest number."""
    grouped: dict[Place, list[float]] = {}
    for place, value in cells:
        grouped.setdefault(place, []).append(value)
    means = {place: float(np.mean(values)) for place, values in grouped.items()}
    worst: dict[str, float] = {}
    for (row, _), value in means.items():
        worst[row] = max(worst.get(row, -np.inf), value if value == value else np.inf)
    rows = sorted(worst, key=lambda row: -worst[row])
    return HeatMap(
        title=title,
        words=words,
        rows=tuple(rows),
        columns=tuple(columns),
        values=np.array([[means.get((row, column), np.nan) for column in columns] for row in rows]),
        limits=tuple(limits.get(column) for column in columns),
    )
