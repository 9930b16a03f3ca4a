"""Search: finds the faults that explain a recording, by comparing hypotheses in simulation.

Healthy parameters are fitted first, with the spread of healthy robots as prior. A fault is a parameter that may be
far from healthy, or a fault without a size. The best few are fitted, and decided on segments that were not fitted.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Float

from wm_robot.evaluation.diagnosis.diagnosis import Diagnosis, Finding, Rival, Untold
from wm_robot.evaluation.diagnosis.fault_kinds import FAULT_KINDS
from wm_robot.evaluation.diagnosis.readings import Recording
from wm_robot.evaluation.diagnosis.scoring import (
    Fit,
    Hypothesis,
    Scorer,
    compute_likelihood,
    select_checked_steps,
)
from wm_robot.evaluation.diagnosis.simulator import SegmentSimulator
from wm_robot.progress import Progress, ignore_progress
from wm_robot.types import Fault

MAX_FAULTS = 3
DELAYS = (0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.12)
"""Delays that are tried first, in s."""
NUM_FITTED = 5
"""Candidates that are fitted, of those that score best."""
NUM_FITTED_AGAIN = 2
"""Candidates that are fitted again where the fit without a fault has become better."""
MIN_SHARE_OF_BEST = 0.08
"""Least expected gain of a candidate that is fitted, as a share of the largest."""
MIN_GAIN = 20.0
"""Log likelihood that a fault must gain, in nats."""
NUM_BEST_LEFT_OUT = 2
"""Segments with the largest gain that do not count towards it: an impact or two must not decide."""
MIN_BETTER = 3
"""Segments that a fault must explain better, beyond those that it explains worse: few show a contact with a stop."""
MIN_SEGMENT_GAIN = 1.0
"""Log likelihood by which a segment is explained better or worse."""
STRONG_GAIN = 4.0
"""Log likelihood by which a segment is explained far better or worse."""
MIN_HELD_OUT_GAIN = 3.0
"""Log likelihood that a fault must gain on segments that were not fitted."""
MIN_RELATIVE_GAIN = 0.02
"""Gain as a share of the log likelihood without the fault."""
TEMPERATURE = 8.0
"""Nats that count as one where hypotheses are compared: models err in ways that no hypothesis has."""
MIN_EXPECTED_GAIN = 4.0
"""Log likelihood that a candidate must gain by its slopes before it is fitted."""
MISFIT_FACTOR, MAX_INFLATION = 1.2, 4.0
"""Ordinary errors as a multiple of those that are usual in a recording, and at most as one of the noise."""
MAX_ROUNDS = 2
SHARED_QUANTITIES, MIN_JOINTS_SHARED, MAX_USUAL = ("gain", "friction"), 4, 1.5
"""Factors whose median over joints, of so many at least, is what is usual for a robot, and its largest logarithm."""
UNUSUAL_STD = 3.0
"""Deviation of a parameter, in its healthy ones, from which its joint is doubted."""
COARSE_STRIDE, NUM_WORST = 3, 16
"""One of so many fitted segments is looked at first, and so many of the worst."""
NEARBY = (-0.25, -0.12, -0.06, 0.06, 0.12, 0.25)
"""Changes of a fitted size that are tried, in its wide standard deviations."""
SUSPICIOUS = 2.5
"""Error of a joint, in ordinary ones, from which far candidates of it are tried."""
TELLABLE_STD = 0.08
"""Deviation of the zero of servo and reading above which a recording cannot show it, in rad."""
TOOTH = 0.25
"""Angle of a tooth of a servo's horn, in rad."""
RIVAL_PROBABILITY = 0.02
NOISE_FACTOR, LEAST_NOISE = 3.5, 0.002
"""Noise of a noisy encoder, as a multiple of that of the other joints, and at least, in rad (m)."""
QUANTIZED_SHARE = 1.0
"""Noise that rounding may cause, in steps of an encoder."""
LEAST_ERROR, LEAST_ERROR_SHARE = 0.0007, 0.003
"""Least ordinary error of a position, in rad (m), and of a velocity, as a share of the joint's largest."""
LARGEST_PAIRS = 40
"""Pairs of joints whose cables are tried."""
SIMULATIONS = 700
"""Simulations of a usual diagnosis, for its progress."""


@dataclass(frozen=True)
class Candidate:
    """Candidate: a kind of fault at a place."""

    kind: str
    joint: str = ""
    other: str = ""
    columns: tuple[int, ...] = ()
    """Parameters that are its size."""

    @property
    def place(self) -> tuple[str, frozenset[str]]:
        return self.kind, frozenset({self.joint, self.other})


@dataclass
class _Level:
    """What is known before the next fault is searched."""

    fit: Fit
    faults: tuple[Candidate, ...] = ()
    start: Float[np.ndarray, "P"] = field(default_factory=lambda: np.zeros(0))


def diagnose_recording(
    simulator: SegmentSimulator,
    recording: Recording,
    *,
    proposals: Sequence[Fault] = (),
    progress: Progress = ignore_progress,
) -> Diagnosis:
    """Diagnose a robot from a recording.

    Args:
        simulator: Simulator of the robot with the same recording.
        proposals: Faults that are always fitted, such as those of a learned state.
        progress: Called with the number of simulations.
    """
    return _Search(simulator, recording, proposals, progress).run()


class _Search:
    def __init__(
        self,
        simulator: SegmentSimulator,
        recording: Recording,
        proposals: Sequence[Fault],
        progress: Progress,
    ):
        self.recording, self.proposals = recording, proposals
        self.joints = recording.spec.joint_names
        self.parameters = tuple(simulator.parameters)
        self.columns = {each.name: number for number, each in enumerate(self.parameters)}
        self.done, self.progress, self.expected = 0, progress, SIMULATIONS
        is_stuck = recording.find_stuck()
        self.stuck = tuple(
            Fault(kind="stuck", joint=name)
            for name, found in zip(self.joints, is_stuck, strict=True)
            if found
        )
        segments = recording.cut_segments()
        self.train, self.held_out = segments.select(slice(0, None, 2)), segments.select(slice(1, None, 2))
        self.coarse = self.train.select(slice(0, None, 2))
        noise = estimate_noise(recording)
        count = len(select_checked_steps(segments.length))
        self.noise = np.tile(np.sqrt(2) * noise, (count, 1))
        self.scorer = Scorer(
            simulator,
            recording.read_segments,
            self.noise,
            np.tile(is_stuck, 2),
            self._count,
        )

    def _count(self) -> None:
        self.done += 1
        self.progress(min(self.done, self.expected - 1), self.expected)

    def run(self) -> Diagnosis:
        level = self._fit_healthy()
        findings: list[Finding] = [
            Finding(fault, interval=(0.0, 0.0), probability=0.99, gain=0.0, rivals=()) for fault in self.stuck
        ]
        for _ in range(MAX_FAULTS):
            found = self._search_fault(level)
            if found is None:
                break
            level, finding = found
            findings = [*self._measure_again(level, findings), finding]
        noisy = self._find_noise(level)
        untold = self._find_untold(level, findings)
        self.progress(self.expected, self.expected)
        return Diagnosis(
            robot=self.recording.spec.name,
            seconds=self.recording.seconds,
            findings=(*findings, *noisy),
            untold=untold,
            misfit=self._measure_misfit(level.fit),
            num_simulations=self.done,
        )

    def _fit_healthy(self) -> _Level:
        """Fit a healthy robot; its delay first, since that has no slope far away."""
        scorer, start = self.scorer, np.zeros(len(self.parameters))
        if (column := self.columns.get("delay")) is not None:
            start[column] = self._find_delay(column)
        hypothesis = Hypothesis(start, self.stuck)
        slopes = self._compute_all_slopes(hypothesis)
        fit = scorer.fit(hypothesis, self.train, slopes)
        fit, inflation = self._rescale(fit)
        self.first_slopes = slopes / inflation
        return _Level(self._fit_thoroughly(fit), (), start)

    def _rescale(self, fit: Fit) -> tuple[Fit, Float[np.ndarray, "K C"]]:
        """Set the ordinary errors to what the model leaves over usually, which is more than noise.

        A fault may be a part of it, so they grow by a limited factor.

        Returns:
            The fit in units of the new errors, and the factor on them.
        """
        residual = fit.residual * self.scorer.scale
        usual = MISFIT_FACTOR * np.median(np.abs(residual), axis=0) / 0.6745
        scale = np.clip(usual, self.noise, MAX_INFLATION * self.noise)
        inflation = scale / self.scorer.scale
        self.scorer.scale = scale
        residual = residual / scale
        objective = self.scorer.compute_objective(residual, fit.hypothesis)
        return Fit(fit.hypothesis, residual, objective, fit.slopes / inflation), inflation

    def _find_center(self, fit: Fit) -> None:
        """Find the factors that are usual for the joints of this robot.

        Where the model is wrong about the friction of most joints, no joint has a fault.
        """
        for quantity in SHARED_QUANTITIES:
            own = [number for number, each in enumerate(self.parameters) if each.quantity == quantity]
            if len(own) >= MIN_JOINTS_SHARED:
                # Only towards a fault: strong motors of other joints make none weak.
                low, high = self.parameters[own[0]].healthy
                least, most = MAX_USUAL * np.isfinite(low), MAX_USUAL * np.isfinite(high)
                usual = float(np.median(fit.hypothesis.values[own]))
                self.scorer.center[own] = np.clip(usual, -least, most)

    def _fit_thoroughly(self, fit: Fit) -> Fit:
        """Fit with new slopes until little is gained."""
        for _ in range(MAX_ROUNDS):
            self._find_center(fit)
            before = self.scorer.compute_objective(fit.residual, fit.hypothesis)
            fit = self._finish_fit(self._fit_again(fit))
            if fit.objective - before < MIN_GAIN:
                break
        return fit

    def _find_delay(self, column: int) -> float:
        """Find the delay that suits a healthy robot best, of some."""
        found = []
        for value in DELAYS:
            tried = np.zeros(len(self.parameters))
            tried[column] = value
            residual = self.scorer.compute_residual(Hypothesis(tried, self.stuck), self.coarse)
            is_healthy = value <= self.parameters[column].healthy[1]
            found.append(float(compute_likelihood(residual).sum()) - (0 if is_healthy else MIN_GAIN))
        return DELAYS[int(np.argmax(found))]

    def _compute_all_slopes(self, hypothesis: Hypothesis) -> np.ndarray:
        residual = self.scorer.compute_residual(hypothesis, self.train)
        return self.scorer.compute_slopes(hypothesis, residual, self.train, range(len(self.parameters)))

    def _fit_again(self, fit: Fit) -> Fit:
        """Fit with slopes of where the fit is now."""
        slopes = self.scorer.compute_slopes(
            fit.hypothesis, fit.residual, self.train, range(len(self.parameters))
        )
        return self.scorer.fit(fit.hypothesis, self.train, slopes, iterations=3)

    def _finish_fit(self, fit: Fit) -> Fit:
        """Fit until little is gained, with new slopes of what acts on all joints."""
        refreshed = [number for number, each in enumerate(self.parameters) if not each.joint]
        return self.scorer.fit(fit.hypothesis, self.train, fit.slopes, refreshed=refreshed, iterations=3)

    def _search_fault(self, level: _Level) -> tuple[_Level, Finding] | None:
        """Search the next fault; None if none is clearly better."""
        first, fitted = level.fit, list[tuple[Candidate, Fit, Judged]]()
        for candidate, start in self._rank_candidates(level):
            fit = self._fit_candidate(level, candidate, start)
            if self._is_fault(candidate, fit):
                fitted.append((candidate, fit, self._judge(fit)))
            elif candidate.columns and fit.objective > level.fit.objective:
                # It is no fault, and a better fit without one.
                wide = level.fit.hypothesis.wide
                level.fit = replace(fit, hypothesis=replace(fit.hypothesis, wide=wide))
        before = self._judge(level.fit)
        fitted.sort(key=lambda each: -each[2].total)
        if level.fit is not first:
            fitted[:NUM_FITTED_AGAIN] = [
                self._fit_from_better(level, *each) for each in fitted[:NUM_FITTED_AGAIN]
            ]
            fitted.sort(key=lambda each: -each[2].total)
        if not fitted:
            return None
        candidate, fit, judged = fitted[0]
        if not judged.is_clearly_better(before):
            return None
        rivals = []
        for other, other_fit, other_judged in fitted[1:]:
            chance = 1 - compute_chance(judged.total - other_judged.total)
            if chance > RIVAL_PROBABILITY and other_judged.is_clearly_better(before):
                rivals.append(Rival(self._make_fault(other, other_fit), chance))
        fit = self._finish_fit(self._fit_again(self._rescale(fit)[0]))
        if not self._is_fault(candidate, fit):
            return None
        gain = judged.compute_counted_gain(before)
        probability = compute_chance(gain)
        for each in rivals:
            probability *= 1 - each.probability
        finding = Finding(
            self._make_fault(candidate, fit),
            interval=self._compute_interval(candidate, fit),
            probability=min(probability, 0.999),
            gain=gain,
            rivals=tuple(rivals),
        )
        return _Level(fit, (*level.faults, candidate), level.start), finding

    def _judge(self, fit: Fit) -> "Judged":
        """Compute the likelihood of all segments under a fit."""
        residual = self.scorer.compute_residual(fit.hypothesis, self.held_out)
        prior = fit.objective - float(compute_likelihood(fit.residual).sum())
        return Judged(compute_likelihood(fit.residual), compute_likelihood(residual), prior)

    def _list_candidates(self, suspicious: Bool[np.ndarray, "J"]) -> list[Candidate]:
        found = []
        for kind, about in FAULT_KINDS.items():
            if about.place == "joint":
                for joint, doubted in zip(self.joints, suspicious, strict=True):
                    if about.parameter:
                        if (name := f"{about.parameter}/{joint}") in self.columns:
                            found.append(Candidate(kind, joint, columns=(self.columns[name],)))
                    elif doubted and kind not in ("stuck", "noisy") and self._has_motor(joint):
                        found.append(Candidate(kind, joint))
            elif about.place == "pair":
                doubted_joints = [
                    each for each, doubted in zip(self.joints, suspicious, strict=True)
                    if doubted and self._has_motor(each)
                ]  # fmt: skip
                pairs = list(itertools.combinations(doubted_joints, 2))[:LARGEST_PAIRS]
                found += [Candidate(kind, one, other) for one, other in pairs]
            else:
                names = ("tilt_x", "tilt_y") if kind == "mounting" else (about.parameter,)
                if all(name in self.columns for name in names):
                    found.append(Candidate(kind, columns=tuple(self.columns[name] for name in names)))
        return found

    def _has_motor(self, joint: str) -> bool:
        return any(each.joint == joint for each in self.recording.spec.actuators)

    def _rank_candidates(self, level: _Level) -> list[tuple[Candidate, Hypothesis]]:
        """Return the candidates that seem best, with where their fit starts."""
        scorer, base = self.scorer, level.fit
        rows, weight = _select_coarse(base)
        coarse, first_slopes = self.train.select(rows), self.first_slopes[:, rows]
        doubt = np.sqrt(np.mean(np.minimum(base.residual**2, 400.0), axis=(0, 1)))
        joints = len(self.joints)
        suspicious = np.maximum(doubt[:joints], doubt[joints:]) > SUSPICIOUS
        suspicious |= self._find_unusual(base)
        coarse_null = scorer.compute_objective(base.residual[rows], base.hypothesis, weight)
        taken = {each.place for each in level.faults}
        scored: list[tuple[float, Candidate, Hypothesis]] = []
        for candidate in self._list_candidates(suspicious):
            if candidate.place in taken:
                continue
            wide = base.hypothesis.wide | set(candidate.columns)
            if candidate.columns:
                start = replace(base.hypothesis, wide=frozenset(wide))
                step, _ = scorer.solve(start, base.residual, base.slopes)
                left = base.residual - np.tensordot(step, base.slopes, 1)
                start = replace(start, values=start.values + step)
                gain = scorer.compute_objective(left, start)
                scored.append((gain - base.objective, candidate, start))
            far = {candidate.joint, candidate.other} - {""}
            if far and not any(suspicious[self.joints.index(joint)] for joint in far):
                continue
            for start in self._list_starts(level, candidate):
                residual = scorer.compute_residual(start, coarse)
                step, _ = scorer.solve(start, residual, first_slopes, evidence=weight)
                left = residual - np.tensordot(step, first_slopes, 1)
                moved = replace(start, values=start.values + step)
                objective = max(
                    scorer.compute_objective(residual, start, weight),
                    scorer.compute_objective(left, moved, weight),
                )
                scored.append((objective - coarse_null, candidate, start))
        scored.sort(key=lambda each: -each[0])
        best: dict[tuple[str, frozenset[str]], tuple[Candidate, Hypothesis]] = {}
        least = max(MIN_EXPECTED_GAIN, MIN_SHARE_OF_BEST * scored[0][0]) if scored else 0.0
        for gain, candidate, start in scored:
            if gain > least and len(best) < NUM_FITTED and candidate.place not in best:
                best[candidate.place] = candidate, start
        for candidate, start in self._list_proposed(level):
            if candidate.place not in taken:
                best.setdefault(candidate.place, (candidate, start))
        return list(best.values())

    def _find_unusual(self, fit: Fit) -> Bool[np.ndarray, "J"]:
        """Find joints with a fitted parameter that is rare among healthy robots: it may hide a fault."""
        deviation = np.abs(fit.hypothesis.values - self.scorer.center)
        rare = {
            each.joint
            for each, apart in zip(self.parameters, deviation, strict=True)
            if apart > UNUSUAL_STD * each.healthy_std
        }
        return np.array([joint in rare for joint in self.joints])

    def _list_starts(self, level: _Level, candidate: Candidate) -> list[Hypothesis]:
        """List hypotheses with a candidate of a large size.

        Its joints are otherwise as they were fitted, or as at the start: a large fault spoils the fit of its joint.
        """
        both = level.fit.hypothesis.values, self._forget_joints(level, candidate)
        faults, kind = level.fit.hypothesis.faults, FAULT_KINDS[candidate.kind]
        wide = level.fit.hypothesis.wide | frozenset(candidate.columns)
        if not candidate.columns:
            return [Hypothesis(values, (*faults, _fault_of(candidate)), wide) for values in both]
        sizes: list[tuple[float, ...]]
        if candidate.kind == "mounting":
            sizes = [
                (size * math.cos(angle), size * math.sin(angle))
                for size in kind.starts
                for angle in np.arange(4) * math.pi / 2
            ]
        else:
            sizes = [(math.log(size) if kind.is_factor else size,) for size in kind.starts]
        starts = []
        for values, size in itertools.product(both, sizes):
            tried = values.copy()
            tried[list(candidate.columns)] = size
            starts.append(Hypothesis(tried, faults, wide))
        return starts

    def _list_proposed(self, level: _Level) -> list[tuple[Candidate, Hypothesis]]:
        found = []
        everywhere = np.ones(len(self.joints), bool)
        known = {each.place: each for each in self._list_candidates(everywhere)}
        for fault in self.proposals:
            place = fault.kind, frozenset({fault.joint, fault.other})
            if place not in known:
                continue
            candidate = known[place]
            start = self._list_starts(level, candidate)[-1]
            if candidate.columns and fault.size:
                kind, values = FAULT_KINDS[fault.kind], start.values.copy()
                size = math.log(fault.size) if kind.is_factor else fault.size
                both = (size * math.cos(fault.heading), size * math.sin(fault.heading))
                values[list(candidate.columns)] = both if len(candidate.columns) == 2 else size
                start = replace(start, values=values)
            found.append((candidate, start))
        return found

    def _forget_joints(self, level: _Level, candidate: Candidate) -> np.ndarray:
        """Return the fitted values, with those of the joints of a candidate and of the whole robot as at the start.

        What was fitted to a large fault without it is wrong with it.
        """
        joints = {candidate.joint, candidate.other, ""}
        kept = {column for each in level.faults for column in each.columns}
        own = [
            number
            for number, each in enumerate(self.parameters)
            if each.joint in joints and number not in kept
        ]
        values = level.fit.hypothesis.values.copy()
        values[own] = level.start[own]
        return values

    def _fit_candidate(self, level: _Level, candidate: Candidate, start: Hypothesis) -> Fit:
        joints = {candidate.joint, candidate.other} - {""}
        refreshed = [
            number
            for number, each in enumerate(self.parameters)
            if each.joint in joints or number in candidate.columns
        ]
        fit = self.scorer.fit(start, self.train, level.fit.slopes, refreshed=refreshed, iterations=3)
        if len(candidate.columns) != 1:
            return fit
        nearby = self._find_better_size(fit, candidate.columns[0])
        if nearby is fit.hypothesis:
            return fit
        return self.scorer.fit(nearby, self.train, fit.slopes, refreshed=refreshed, iterations=2)

    def _fit_from_better(
        self, level: _Level, candidate: Candidate, fit: Fit, judged: "Judged"
    ) -> tuple[Candidate, Fit, "Judged"]:
        """Fit a candidate again from a fit without it that has become better since."""
        joints = {candidate.joint, candidate.other} - {""}
        own = [
            number
            for number, each in enumerate(self.parameters)
            if each.joint in joints or number in candidate.columns
        ]
        values = level.fit.hypothesis.values.copy()
        values[own] = fit.hypothesis.values[own]
        again = self._fit_candidate(level, candidate, replace(fit.hypothesis, values=values))
        if again.objective <= fit.objective or not self._is_fault(candidate, again):
            return candidate, fit, judged
        return candidate, again, self._judge(again)

    def _find_better_size(self, fit: Fit, column: int) -> Hypothesis:
        """Find a better size near that of a fit, if there is one: at a stop a slope says little."""
        best, found = fit.objective + MIN_SEGMENT_GAIN, fit.hypothesis
        parameter = self.parameters[column]
        for share in NEARBY:
            values = fit.hypothesis.values.copy()
            values[column] = np.clip(values[column] + share * parameter.wide_std, *parameter.bounds)
            tried = replace(fit.hypothesis, values=values)
            objective = self.scorer.compute_objective(self.scorer.compute_residual(tried, self.train), tried)
            if objective > best:
                best, found = objective, tried
        return found

    def _is_fault(self, candidate: Candidate, fit: Fit) -> bool:
        """Whether the fitted size is outside of what healthy robots have."""
        if not candidate.columns:
            return True
        values = (fit.hypothesis.values - self.scorer.center)[list(candidate.columns)]
        low, high = self.parameters[candidate.columns[0]].healthy
        size = float(np.hypot(*values)) if len(values) == 2 else float(values[0])
        return not low <= size <= high

    def _make_fault(self, candidate: Candidate, fit: Fit) -> Fault:
        made = _fault_of(candidate)
        if not candidate.columns:
            return made
        values = fit.hypothesis.values[list(candidate.columns)]
        if len(values) == 2:
            return replace(
                made, size=math.atan(math.hypot(*values)), heading=math.atan2(values[1], values[0])
            )
        is_factor = FAULT_KINDS[candidate.kind].is_factor
        return replace(made, size=float(math.exp(values[0]) if is_factor else values[0]))

    def _compute_interval(self, candidate: Candidate, fit: Fit) -> tuple[float, float]:
        """Compute the 95 % interval of the size."""
        if not candidate.columns:
            return 0.0, 0.0
        covariance = self._compute_covariance(fit, fit.hypothesis.wide)
        column = list(candidate.columns)
        values = fit.hypothesis.values[column]
        if len(column) == 2:
            size = float(np.hypot(*values))
            along = values / max(size, 1e-9)
            spread = 2 * float(np.sqrt(along @ covariance[np.ix_(column, column)] @ along))
        else:
            size, spread = float(values[0]), 2 * float(np.sqrt(covariance[column[0], column[0]]))
        low, high = size - spread, size + spread
        if FAULT_KINDS[candidate.kind].is_factor:
            return math.exp(low), math.exp(high)
        return low, high

    def _compute_covariance(self, fit: Fit, wide: frozenset[int]) -> np.ndarray:
        _, matrix = self.scorer.solve(replace(fit.hypothesis, wide=wide), fit.residual, fit.slopes)
        return np.linalg.inv(matrix)

    def _measure_again(self, level: _Level, findings: list[Finding]) -> list[Finding]:
        """Return the findings with the sizes of a later fit."""
        measured, sized = [], iter(level.faults)
        for finding in findings:
            if finding.fault.kind == "stuck":
                measured.append(finding)
                continue
            candidate = next(sized)
            if not self._is_fault(candidate, level.fit):
                # A later fault explains what it explained.
                continue
            measured.append(
                replace(
                    finding,
                    fault=self._make_fault(candidate, level.fit),
                    interval=self._compute_interval(candidate, level.fit),
                )
            )
        return measured

    def _find_noise(self, level: _Level) -> list[Finding]:
        """Find encoders whose reading jumps about far more than that of the others."""
        joints = len(self.joints)
        noise, steps = self._measure_noise(level), self.recording.find_resolution()
        found = []
        for number, name in enumerate(self.joints):
            others = float(np.median(np.delete(noise, number))) if joints > 1 else 0.0
            if name in {each.joint for each in self.stuck}:
                continue
            if noise[number] > max(NOISE_FACTOR * others, LEAST_NOISE, QUANTIZED_SHARE * steps[number]):
                size = float(noise[number])
                found.append(
                    Finding(
                        Fault(kind="noisy", joint=name, size=size),
                        interval=(0.93 * size, 1.07 * size),
                        probability=0.99,
                        gain=0.0,
                        rivals=(),
                    )
                )
        return found

    def _measure_noise(self, level: _Level) -> Float[np.ndarray, "J"]:
        """Measure the noise of each position, by what differs from one step to the next of a simulation."""
        joints = len(self.joints)
        self._count()
        hypothesis = level.fit.hypothesis
        predicted = self.scorer.simulator.simulate(self.held_out, hypothesis.values, hypothesis.faults)
        error = (self.recording.read_segments(self.held_out) - predicted)[..., :joints]
        curved = error[:, :-2] - 2 * error[:, 1:-1] + error[:, 2:]
        found: np.ndarray = np.median(np.abs(curved[:, 1:]), axis=(0, 1)) / 0.6745 / np.sqrt(6)
        # What a bad model leaves over is no noise.
        return np.minimum(found, measure_curvature(self.recording)[:joints])

    def _measure_misfit(self, fit: Fit) -> float:
        """Measure the usual error of the worst joint, in its noise."""
        error = np.abs(fit.residual) * self.scorer.scale / self.noise
        return float(np.median(error[:, -1], axis=0).max() / 0.6745)

    def _fits_as_well(self, fit: Fit, column: int) -> bool:
        """Whether a zero of servo and reading that is off by a tooth explains the recording about as well.

        A stop that would have been met has no slope before.
        """
        now = self._judge(fit)
        for size in (-TOOTH, TOOTH):
            values = fit.hypothesis.values.copy()
            values[column] += size
            shifted = replace(fit.hypothesis, values=values)
            other = [
                compute_likelihood(self.scorer.compute_residual(shifted, part))
                for part in (self.train, self.held_out)
            ]
            if now.fitted.sum() + now.held_out.sum() - sum(each.sum() for each in other) < MIN_GAIN / 2:
                return True
        return False

    def _find_untold(self, level: _Level, findings: Sequence[Finding]) -> tuple[Untold, ...]:
        """Find joints whose zero of servo and reading the recording cannot show."""
        untold = []
        told = {each.fault.joint for each in findings}
        for number, each in enumerate(self.parameters):
            if each.quantity != "servo_zero" or each.joint in told:
                continue
            covariance = self._compute_covariance(level.fit, level.fit.hypothesis.wide | frozenset({number}))
            std = float(np.sqrt(covariance[number, number]))
            if std > TELLABLE_STD and self._fits_as_well(level.fit, number):
                untold.append(Untold(kind="servo_zero", joint=each.joint, std=std))
        return tuple(untold)


def _fault_of(candidate: Candidate) -> Fault:
    return Fault(kind=candidate.kind, joint=candidate.joint, other=candidate.other)


def _select_coarse(fit: Fit) -> tuple[np.ndarray, np.ndarray]:
    """Select fitted segments for a first look, with their weights: a part of all, and the worst.

    A contact with a stop may be in few of them.
    """
    likelihood = compute_likelihood(fit.residual)
    worst = np.argsort(likelihood)[:NUM_WORST]
    others = np.setdiff1d(np.arange(len(likelihood)), worst)
    part = others[::COARSE_STRIDE]
    weight = np.concatenate([np.ones(len(worst)), np.full(len(part), len(others) / max(len(part), 1))])
    return np.concatenate([worst, part]), weight


@dataclass(frozen=True)
class Judged:
    """Judged hypothesis: log likelihood of each segment."""

    fitted: Float[np.ndarray, "S"]
    held_out: Float[np.ndarray, "R"]
    prior: float

    @property
    def total(self) -> float:
        return float(self.fitted.sum() + self.held_out.sum() + self.prior)

    def is_clearly_better(self, before: "Judged") -> bool:
        """Whether a fault explains the recording clearly better than none."""
        gain = self._compute_gain(before)
        better = np.count_nonzero(gain > MIN_SEGMENT_GAIN) - np.count_nonzero(gain < -MIN_SEGMENT_GAIN)
        counted = self.compute_counted_gain(before)
        # A contact with a stop is in few segments, and clear there; what a model lacks is in all of them.
        strong = np.sort(gain[np.abs(gain) > STRONG_GAIN])
        share = -MIN_RELATIVE_GAIN * float(before.fitted.sum() + before.held_out.sum())
        return bool(
            counted > MIN_GAIN
            and (counted > share or strong[:-1].sum() > MIN_GAIN)
            and better >= MIN_BETTER
            and float((self.held_out - before.held_out).sum()) > MIN_HELD_OUT_GAIN
        )

    def compute_counted_gain(self, before: "Judged") -> float:
        """Compute the gain without that of the best segments."""
        return float(np.sort(self._compute_gain(before))[:-NUM_BEST_LEFT_OUT].sum())

    def _compute_gain(self, before: "Judged") -> np.ndarray:
        return np.concatenate([self.fitted - before.fitted, self.held_out - before.held_out])


def compute_chance(difference: float) -> float:
    """Compute the probability of a hypothesis against another one, from the difference of their log likelihoods."""
    return float(1 / (1 + np.exp(-np.clip(difference / TEMPERATURE, -50, 50))))


def estimate_noise(recording: Recording) -> Float[np.ndarray, "C"]:
    """Estimate the ordinary error of each channel: its noise, and at least a small share of its range."""
    limits = np.array([each.velocity for each in recording.spec.joints])
    least = np.concatenate([np.full(len(limits), LEAST_ERROR), LEAST_ERROR_SHARE * limits])
    return np.asarray(np.maximum(measure_curvature(recording), least))


def measure_curvature(recording: Recording) -> Float[np.ndarray, "C"]:
    """Measure the noise of each channel without a model, by fourth differences; motion without noise has few."""
    curved = [np.abs(np.diff(readings, n=4, axis=0)) for readings in recording.readings]
    found: np.ndarray = np.median(np.concatenate(curved), axis=0) / 0.6745 / np.sqrt(70)
    return found
