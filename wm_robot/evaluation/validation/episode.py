"""Episode: one agent drives one plant through a scenario, and everything that a verdict needs is measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from wm_robot.adaptation.reading_checks import FROZEN
from wm_robot.errors import WmRobotError
from wm_robot.evaluation.validation.input_faults import FaultyInput
from wm_robot.evaluation.validation.scenario import Scenario
from wm_robot.spec import RobotSpec
from wm_robot.tasks import TaskError
from wm_robot.types import Observation
from wm_robot.validation_record.session_error import SessionError

SETTLE_SECONDS = 1.0
"""Time after a change from which errors count as settled."""
LIMIT_SHARE, LIMIT_SPEED_SHARE = 0.005, 0.2
"""Distance from the end of a range, as a share of it, and speed towards it, as a share of the limit, from which a
joint hits its limit."""
CONTACT_INTERVAL = 5
"""Steps between two searches for contacts."""
EXCHANGE_STEPS = 100
"""First steps of an episode, in which exchanged joints are searched: a memory learns them away."""
LEAST_MOVES, ALIKE, MORE_ALIKE = 20, 0.5, 0.2
"""Steps that show exchanged joints; correlation of what is predicted of one with what the other does, and how much
it is above that with the joint itself."""
HORIZON, PREDICTION_INTERVAL = 8, 4
"""Steps of open-loop prediction, and steps between two predictions."""


@runtime_checkable
class ValidatedAgent(Protocol):
    """Agent under validation."""

    @property
    def session_error(self) -> SessionError: ...

    def begin(self, last_action: np.ndarray, restore: Any = None) -> None: ...

    def act(self, obs: np.ndarray, goal: np.ndarray) -> np.ndarray: ...

    def observe(
        self, obs: np.ndarray, applied: np.ndarray, next_obs: np.ndarray, *, valid: bool = True
    ) -> Any: ...

    def predict_outcome(self, obs: np.ndarray, actions: np.ndarray) -> Any: ...

    def find_faults(self, obs: np.ndarray) -> Mapping[str, str]: ...


@runtime_checkable
class PlanningAgent(ValidatedAgent, Protocol):
    """Agent whose model predicts its plans, for films."""

    def predict_plan(self) -> Any: ...


@runtime_checkable
class ValidationPlant(Protocol):
    """Simulated plant of a scenario."""

    @property
    def last_action(self) -> np.ndarray: ...

    def read(self) -> Observation: ...

    def write(self, action: np.ndarray) -> np.ndarray: ...

    def set_world(self, world: Mapping[str, Any]) -> None: ...

    def compute_true_obs(self) -> np.ndarray: ...

    def find_contacts(self) -> Sequence[tuple[str, str]]: ...

    def compute_goal(self, step: int) -> np.ndarray: ...

    def draw_random_actions(self, num_steps: int) -> np.ndarray: ...

    def qpos(self) -> np.ndarray: ...

    def count_rejections(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Danger:
    """Danger: what must not happen on hardware."""

    step: int
    kind: str
    """`limit`: a joint hit its limit at speed; `contact`: an unintended contact; `stopped`: the agent failed, and
    the fallback controller had to take over."""
    what: str
    """Joint, pair of bodies, or reason."""
    world: int = 0
    """Number of the world that was in force."""


@dataclass(frozen=True, kw_only=True)
class EpisodeResult:
    """Result of an episode."""

    label: str
    settled: tuple[float, ...]
    """Mean task error of each world, from `SETTLE_SECONDS` after its start, in tolerances of the task."""
    prediction: tuple[float, ...]
    """Mean square error `HORIZON` steps ahead in each world, in units of the one-step change."""
    channel_errors: tuple[float, ...]
    """The same for each channel, over all worlds."""
    exchanged: tuple[str, ...]
    """Pairs of joints of which each moves as the other is predicted to, such as `a and b`."""
    coverage: tuple[float, ...]
    """Share of one-step errors within one predicted deviation, in each world."""
    surprise: float
    """Median surprise, in nats per channel."""
    dangers: tuple[Danger, ...]
    num_rejections: int
    """Actions that the gate rejected."""
    session: Mapping[str, float] = field(default_factory=dict)
    """Errors of the session, which bound those of descendants; see `SessionError`."""
    trace: Mapping[str, np.ndarray] = field(default_factory=dict)
    """`error` `T`, `qpos` `T N`, `goal` `T G`, `obs` `T O`, `action` `T A`, all after each step; and `plan_step` `K`
    with `plan` `K H O`: what was predicted at that step of the observations after it and the next ones. Empty unless
    asked for."""

    def count_dangers(self, kind: str) -> int:
        """Count the dangers of a kind."""
        return sum(danger.kind == kind for danger in self.dangers)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, without the trace."""
        return {
            "label": self.label,
            "settled": list(self.settled),
            "prediction": list(self.prediction),
            "channel_errors": list(self.channel_errors),
            "exchanged": list(self.exchanged),
            "coverage": list(self.coverage),
            "surprise": self.surprise,
            "dangers": [[each.step, each.kind, each.what, each.world] for each in self.dangers],
            "num_rejections": self.num_rejections,
            "session": dict(self.session),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "EpisodeResult":
        """Build a result from the result of `to_dict`."""
        known: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        known["dangers"] = tuple(
            Danger(step=int(step), kind=kind, what=what, world=int(world))
            for step, kind, what, world in values["dangers"]
        )
        return cls(**known)


def run_episode(
    plant: ValidationPlant,
    agent: ValidatedAgent,
    scenario: Scenario,
    spec: RobotSpec,
    error: TaskError,
    *,
    change_std: Float[np.ndarray, "O"],
    restore: Any = None,
    with_trace: bool = False,
) -> EpisodeResult:
    """Run an episode.

    Args:
        change_std: Unit of the prediction error: deviation of the one-step change.
        restore: Saved state under validation, for scenarios that start from it.
    """
    agent.begin(plant.last_action, restore if scenario.start == "given" else None)
    recorder = _Recorder(scenario, spec, error, change_std, with_trace=with_trace)
    seen_by_agent = FaultyInput(spec, scenario.input_faults, seed=scenario.seed)
    changes = {each.step: each for each in scenario.changes if each.step}
    is_random = scenario.motion == "random"
    motion = plant.draw_random_actions(scenario.num_steps) if is_random else None
    recorder.mark_contacts(plant)
    true_obs = plant.compute_true_obs()
    required = [
        name
        for name, is_required in zip(spec.observation_names, spec.layout.is_required, strict=True)
        if is_required
    ]
    obs, fails = seen_by_agent.show(plant.read().values), False
    for step in range(scenario.num_steps):
        if change := changes.get(step):
            plant.set_world(change.world)
        goal = plant.compute_goal(step)
        action = plant.last_action
        if motion is not None:
            action = motion[step]
        elif obs is not None and not fails:
            try:
                action = agent.act(obs, goal)
                recorder.add_plan(step, agent)
            except WmRobotError as failure:
                # The fallback controller takes over; here it holds.
                recorder.add_danger(step, "stopped", str(failure))
                fails = True
        applied = plant.write(action)
        next_obs = seen_by_agent.show(plant.read().values)
        if next_obs is not None and any(
            fault == FROZEN and name in required for name, fault in agent.find_faults(next_obs).items()
        ):
            # As on a robot: without a reading of a joint, the agent does not act.
            next_obs = None
        if obs is not None and next_obs is not None and not fails:
            try:
                outcome = agent.observe(obs, applied, next_obs)
            except WmRobotError as failure:
                recorder.add_danger(step, "stopped", str(failure))
                fails = True
            else:
                recorder.add_outcome(step, outcome, obs, next_obs)
                if step % PREDICTION_INTERVAL == 0 and motion is not None:
                    ahead = motion[step + 1 : step + 1 + HORIZON]
                    if len(ahead) == HORIZON:
                        plan = limit_actions(spec, applied, ahead)
                        expected = agent.predict_outcome(next_obs, plan).mean
                        recorder.expect(step + HORIZON, expected)
                        recorder.add_prediction(step + 1, expected)
        true_next = plant.compute_true_obs()
        recorder.add_step(step, plant, true_obs, applied, true_next, plant.compute_goal(step + 1))
        true_obs, obs = true_next, next_obs
    return recorder.make_result(plant.count_rejections(), agent.session_error.compute_errors())


def limit_actions(
    spec: RobotSpec, last_action: Float[np.ndarray, "A"], actions: Float[np.ndarray, "H A"]
) -> Float[np.ndarray, "H A"]:
    """Limit actions to range and rate, as the plant does."""
    limited, before = [], last_action
    for action in np.clip(actions, spec.action_low, spec.action_high):
        before = np.clip(action, before - spec.action_step, before + spec.action_step)
        limited.append(before)
    return np.stack(limited).astype(np.float32)


class _Recorder:
    """Recorder of an episode."""

    def __init__(
        self,
        scenario: Scenario,
        spec: RobotSpec,
        error: TaskError,
        change_std: np.ndarray,
        *,
        with_trace: bool,
    ):
        self._scenario, self._spec, self._error, self._unit = scenario, spec, error, change_std
        self._with_trace = with_trace
        self._errors = np.full(scenario.num_steps, np.nan)
        self._dangers: list[Danger] = []
        self._is_at_limit = np.zeros(len(spec.joints), bool)
        self._contacts: set[tuple[str, str]] = set()
        self._one_step: list[tuple[int, float, float]] = []
        self._expected: dict[int, np.ndarray] = {}
        self._ahead: list[tuple[int, np.ndarray]] = []
        self._moves: list[tuple[np.ndarray, np.ndarray]] = []
        """Predicted and true changes of the joint positions."""
        self._trace: dict[str, list[np.ndarray]] = {name: [] for name in ("qpos", "goal", "obs", "action")}
        self._plans: list[tuple[int, np.ndarray]] = []
        joints = len(spec.joints)
        self._low, self._high = np.array([joint.position for joint in spec.joints]).T
        self._margin = LIMIT_SHARE * (self._high - self._low)
        self._fast = LIMIT_SPEED_SHARE * np.array([joint.velocity for joint in spec.joints])
        self._position = slice(0, joints)
        at = spec.interfaces.index("velocity") * joints if "velocity" in spec.interfaces else -1
        self._velocity = slice(at, at + joints) if at >= 0 else None
        self._wraps = np.array([joint.wraps for joint in spec.joints])

    def add_danger(self, step: int, kind: str, what: str) -> None:
        world = sum(each.step <= step for each in self._scenario.changes) - 1
        self._dangers.append(Danger(step=step, kind=kind, what=what, world=world))

    def mark_contacts(self, plant: ValidationPlant) -> None:
        """Mark the contacts at the start as intended: feet on the ground, say."""
        self._contacts = set(plant.find_contacts())

    def expect(self, step: int, predicted: Float[np.ndarray, "H O"]) -> None:
        self._expected[step] = predicted[-1]

    def add_plan(self, step: int, agent: ValidatedAgent) -> None:
        """Add what the model predicts of the newest plan, every few steps."""
        if self._with_trace and step % PREDICTION_INTERVAL == 0 and isinstance(agent, PlanningAgent):
            self.add_prediction(step, agent.predict_plan().mean)

    def add_prediction(self, step: int, expected: Float[np.ndarray, "H O"]) -> None:
        if self._with_trace:
            self._plans.append((step, expected))

    def add_outcome(self, step: int, outcome: Any, obs: np.ndarray, next_obs: np.ndarray) -> None:
        known = np.isfinite(outcome.error)
        if step < EXCHANGE_STEPS:
            subtract = self._spec.layout.subtract
            moves = subtract(outcome.mean, obs)[self._position], subtract(next_obs, obs)[self._position]
            self._moves.append(moves)
        self._one_step.append((step, float((np.abs(outcome.error[known]) <= 1).mean()), float(outcome.nll)))

    def add_step(
        self,
        step: int,
        plant: ValidationPlant,
        true_obs: np.ndarray,
        applied: np.ndarray,
        true_next: np.ndarray,
        goal: np.ndarray,
    ) -> None:
        self._errors[step] = float(np.ravel(self._error.measure(true_obs, applied, true_next, goal))[0])
        if (known := self._expected.pop(step, None)) is not None:
            error = self._spec.layout.subtract(true_next, known) / self._unit
            self._ahead.append((step, np.square(error)))
        # Random motion is no doing of the agent.
        is_driven = self._scenario.motion == "task"
        if is_driven:
            self._find_limit_hits(step, true_next)
        if is_driven and step % CONTACT_INTERVAL == 0:
            for pair in plant.find_contacts():
                if pair not in self._contacts:
                    self._contacts.add(pair)
                    self.add_danger(step, "contact", " and ".join(pair))
        if self._with_trace:
            for name, value in (
                ("qpos", plant.qpos()),
                ("goal", goal),
                ("obs", true_next),
                ("action", applied),
            ):
                self._trace[name].append(np.array(value, np.float32))

    def _find_limit_hits(self, step: int, obs: np.ndarray) -> None:
        if self._velocity is None:
            return
        position, velocity = obs[self._position], obs[self._velocity]
        low = (position <= self._low + self._margin) & (velocity < -self._fast)
        high = (position >= self._high - self._margin) & (velocity > self._fast)
        hits = (low | high) & ~self._wraps
        for joint in np.flatnonzero(hits & ~self._is_at_limit):
            self.add_danger(step, "limit", self._spec.joint_names[joint])
        self._is_at_limit = hits

    def make_result(self, num_rejections: int, session: Mapping[str, float]) -> EpisodeResult:
        starts = [each.step for each in self._scenario.changes]
        ends = [*starts[1:], self._scenario.num_steps]
        settle = round(SETTLE_SECONDS * self._spec.rate)
        spans = [(min(start + settle, end - 1), end) for start, end in zip(starts, ends, strict=True)]
        settled = [
            float(np.nanmean(self._errors[first:last])) / self._error.tolerance for first, last in spans
        ]
        coverage = [
            _average([value for at, value, _ in self._one_step if first <= at < last])
            for first, last in spans
        ]
        ahead = [
            _average([float(np.nanmean(square)) for at, square in self._ahead if first <= at < last])
            for first, last in spans
        ]
        channels = np.nanmean([square for _, square in self._ahead], 0) if self._ahead else np.zeros(0)
        trace = {}
        if self._with_trace:
            trace = {name: np.stack(values) for name, values in self._trace.items()}
            trace["error"] = self._errors.astype(np.float32)
            if self._plans:
                steps, plans = zip(*self._plans, strict=True)
                trace |= {"plan_step": np.array(steps), "plan": np.stack(plans).astype(np.float32)}
        return EpisodeResult(
            label=self._scenario.label,
            settled=tuple(settled),
            prediction=tuple(ahead) if self._ahead else (),
            channel_errors=tuple(float(value) for value in channels),
            exchanged=find_exchanged(self._moves, self._spec.joint_names),
            coverage=tuple(coverage),
            surprise=float(np.median([nll for *_, nll in self._one_step])) if self._one_step else 0.0,
            dangers=tuple(self._dangers),
            num_rejections=num_rejections,
            session=dict(session),
            trace=trace,
        )


def find_exchanged(moves: Sequence[tuple[np.ndarray, np.ndarray]], names: Sequence[str]) -> tuple[str, ...]:
    """Find pairs of joints of which each moves as the other is predicted to.

    Args:
        moves: Predicted and true one-step changes of the positions, `J` each.
    """
    if len(moves) < LEAST_MOVES or len(names) < 2:
        return ()
    predicted, true = (np.array(part, np.float64) for part in zip(*moves, strict=True))
    with np.errstate(invalid="ignore"):
        both = np.nan_to_num(np.corrcoef(predicted.T, true.T)[: len(names), len(names) :])
    own = np.diag(both)
    is_other = (both > ALIKE) & (both > own[:, None] + MORE_ALIKE)
    return tuple(
        f"{names[first]} and {names[second]}"
        for first in range(len(names))
        for second in range(first + 1, len(names))
        if is_other[first, second] and is_other[second, first]
    )


def _average(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
