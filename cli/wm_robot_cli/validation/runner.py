"""Runner of a validation: episodes in worker processes, with results that survive a kill."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wm_robot.evaluation.validation.episode import EpisodeResult
from wm_robot.evaluation.validation.scenario import Scenario
from wm_robot.io.durable import compute_digest, write_file
from wm_robot.progress import Progress, ignore_progress
from wm_robot.spec import encode_canonical_json

if TYPE_CHECKING:
    from wm_robot.agent.agent import Agent
    from wm_robot.spec import RobotSpec

JOBS_PER_PROCESS = 6
"""Parts of the work of each process: at the end none waits long for the other."""


@dataclass(frozen=True, kw_only=True)
class ValidationTarget:
    """What is validated: a base with a lifetime state, as a robot would run them."""

    base: str
    """Folder of the base."""
    state: str
    """Store of the lifetime state, with `@` a branch or snapshot; empty: the initial state of the base."""
    robot: str
    """Name of the robot, or path of its spec."""
    task: str
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `AgentConfig` that differ from its defaults."""

    def load_spec(self) -> "RobotSpec":
        """Load the spec."""
        from wm_robot.robots import load_spec

        return load_spec(self.robot)

    def load_agent(self, *, learning: bool = True) -> "Agent":
        """Load the agent, as a robot runs it.

        Raises:
            WmRobotError: If base or spec cannot be used.
        """
        from wm_robot.agent.builder import AgentConfig, load_agent

        values = {"learning": learning, **self.options}
        if not learning:
            values["learning"] = False
        config = AgentConfig(base=self.base, task=self.task, seed=self.seed, **values)
        return load_agent(config, self.load_spec()).agent

    def read_change_std(self) -> np.ndarray:
        """Read the deviation of the one-step change of the base's training data, `O`."""
        from wm_robot.io.tensor_file import parse_tensors
        from wm_robot.model.base import load_base

        tensors = parse_tensors(load_base(self.base).weights, f"base in {self.base}")
        return np.asarray(tensors["change_std"], np.float32)


class EpisodeStore:
    """Results of episodes in a folder: one small file for each, so that a killed validation continues."""

    def __init__(self, folder: Path):
        self._folder = folder

    def _make_path(self, scenario: Scenario) -> Path:
        digest = compute_digest(encode_canonical_json(_to_plain(scenario.to_dict())))
        return self._folder / f"{digest[:24]}.json"

    def load(self, scenario: Scenario) -> EpisodeResult | None:
        """Return the result of an episode; None if it was not run."""
        path = self._make_path(scenario)
        if not path.is_file():
            return None
        return EpisodeResult.from_dict(_restore_numbers(json.loads(path.read_bytes())))

    def save(self, scenario: Scenario, result: EpisodeResult) -> None:
        """Write the result of an episode."""
        write_file(
            self._make_path(scenario), json.dumps(_hide_numbers(result.to_dict()), allow_nan=False).encode()
        )


def run_scenario(
    agents: dict[bool, "Agent"],
    target: ValidationTarget,
    scenario: Scenario,
    change_std: np.ndarray,
    *,
    with_trace: bool = False,
) -> EpisodeResult:
    """Run one scenario.

    Args:
        agents: Agents by whether they learn; filled here.
    """
    from wm_robot.evaluation.validation.episode import run_episode
    from wm_robot.tasks import TaskError
    from wm_robot_cli.validation.plant import ScenarioPlant

    spec = target.load_spec()
    if scenario.learning not in agents:
        agents[scenario.learning] = target.load_agent(learning=scenario.learning)
    return run_episode(
        ScenarioPlant(spec, scenario),
        agents[scenario.learning],
        scenario,
        spec,
        TaskError(spec, spec.find_task(scenario.task)),
        change_std=change_std,
        restore=target.state or None,
        with_trace=with_trace,
    )


def run_scenarios(
    target: ValidationTarget,
    scenarios: Sequence[Scenario],
    folder: Path,
    *,
    processes: int,
    progress: Progress = ignore_progress,
) -> list[EpisodeResult]:
    """Run scenarios in parallel, and return their results in order. `folder` has those of an earlier run.

    Args:
        processes: Number of worker processes; 1: all are run in this one.
    """
    from wm_robot_cli.worker_processes import in_processes

    store = EpisodeStore(folder)
    waiting = [each for each in scenarios if store.load(each) is None]
    # The longest first: a lifetime of ten minutes must not be the last.
    waiting.sort(key=lambda each: -each.num_steps)
    if waiting and processes == 1:
        _run_part(target, [each.to_dict() for each in waiting], folder, progress=progress)
    elif waiting:
        # Those of a worker in turn, so that each has as much to do.
        parts = _divide(waiting, processes * JOBS_PER_PROCESS)
        jobs = [(target, [each.to_dict() for each in part], folder) for part in parts]
        in_processes(_run_part, jobs, progress, count=processes)
    results = [store.load(each) for each in scenarios]
    return [each for each in results if each is not None]


def _divide(scenarios: Sequence[Scenario], count: int) -> list[list[Scenario]]:
    """Divide scenarios into parts of similar length, the longest part first."""
    parts: list[list[Scenario]] = [[] for _ in range(count)]
    lengths = [0] * count
    for each in scenarios:
        at = lengths.index(min(lengths))
        parts[at].append(each)
        lengths[at] += each.num_steps
    return [part for _, part in sorted(zip(lengths, parts, strict=True), key=lambda pair: -pair[0]) if part]


def _run_part(
    target: ValidationTarget,
    scenarios: Sequence[Mapping[str, Any]],
    folder: Path,
    *,
    progress: Progress = ignore_progress,
) -> None:
    """Run scenarios one after another in a worker process."""
    store = EpisodeStore(folder)
    agents: dict[bool, Agent] = {}
    change_std = target.read_change_std()
    total = sum(each["num_steps"] for each in scenarios)
    done = 0
    for values in scenarios:
        scenario = Scenario.from_dict(values)
        store.save(scenario, run_scenario(agents, target, scenario, change_std))
        done += scenario.num_steps
        progress(done, total)


def measure_timing(target: ValidationTarget, *, steps: int) -> dict[str, float]:
    """Measure the time of planning and learning on this machine, as shares of the control period."""
    from wm_robot.evaluation.validation.battery import Check
    from wm_robot_cli.validation.plant import ScenarioPlant
    from wm_robot_cli.validation.worlds import ScenarioSource

    spec = target.load_spec()
    check = Check(name="timing", group="", measure="control", severity="major")
    settings = {"worlds": "nominal", "episodes": 1, "seconds": (steps + 40) * spec.dt}
    scenario = ScenarioSource(spec, target.task, seed=target.seed).draw(check, settings)[0]
    plant, agent = ScenarioPlant(spec, scenario), target.load_agent()
    agent.begin(plant.last_action, target.state or None)
    seconds, obs = [], plant.read().values
    for step in range(steps + 20):
        goal = plant.compute_goal(step)
        began = time.perf_counter()
        action = agent.act(obs, goal)
        planned = time.perf_counter()
        applied = plant.write(action)
        next_obs = plant.read().values
        again = time.perf_counter()
        agent.observe(obs, applied, next_obs)
        seconds.append(planned - began + time.perf_counter() - again)
        obs = next_obs
    shares = np.array(seconds[20:]) * spec.rate
    return {
        "p50": float(np.quantile(shares, 0.5)),
        "p99": float(np.quantile(shares, 0.99)),
        "milliseconds": float(1e3 * np.quantile(shares, 0.5) / spec.rate),
        "uses_graphs": float(not agent.torch_reason),
    }


def _to_plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _to_plain(each) for name, each in value.items()}
    return [_to_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def _hide_numbers(value: Any) -> Any:
    """Replace numbers that JSON lacks by None."""
    if isinstance(value, Mapping):
        return {name: _hide_numbers(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_hide_numbers(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _restore_numbers(value: Any) -> Any:
    """Restore what `_hide_numbers` replaced."""
    if isinstance(value, Mapping):
        return {name: _restore_numbers(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_restore_numbers(each) for each in value]
    return math.nan if value is None else value
