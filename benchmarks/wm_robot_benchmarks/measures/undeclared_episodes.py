"""Undeclared episodes: a task on nominal robots that get an undeclared effect, and lose it again, by variant."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from wm_robot.evaluation.control import HiddenChange, measure_task_error
from wm_robot.progress import Progress, ignore_progress
from wm_robot.robots import load_spec
from wm_robot.spec import RobotSpec
from wm_robot.tasks import TaskError
from wm_robot_benchmarks.control import draw_goal_paths
from wm_robot_benchmarks.harness.result import Setting, check_bases, load_bases
from wm_robot_benchmarks.measures.timing import RunTimes, ThreadClock

if TYPE_CHECKING:
    from wm_robot.agent.batch_agent import BatchAgent
    from wm_robot.agent.onnx_files import OnnxFunctions
    from wm_robot.model.base import Base
    from wm_robot_sim.batch import BatchSim
    from wm_robot_sim.worlds import World

BEFORE_S, EFFECT_S, RETURN_S = 2.0, 8.0, 4.0
"""Time on the nominal robot, with the effect, and on the nominal robot again, in s."""
FROZEN, ORACLE = "robust", "oracle"
RESET, OTHER_LIFE = "reset memory", "other life"
"""Negative controls: the memory that is reset at each step, and the one that lived another robot's life."""
CONTROLS = 16
"""Episodes of each kind and seed for the negative controls: the first ones."""
SIMULATORS = {"MuJoCo, nominal": False, "MuJoCo, true": True}
"""Variants whose plans are tried in MuJoCo, and whether it has the effect."""
NUM_TIMED_PLANS, NUM_UNTIMED_PLANS = 50, 5
"""Plans of one robot that are timed, and those before them."""


def run_episodes(
    setting: Setting,
    memory: str,
    task: str,
    variant: str,
    kind: str,
    strength: float,
    seed: int,
    first: int,
    count: int,
    *,
    progress: Progress = ignore_progress,
) -> Float[np.ndarray, "B T"]:
    """Measure the error of `count` episodes after each step.

    Args:
        first: Number of the first episode.
    """
    spec = load_spec(setting.robot)
    lengths = [round(seconds * spec.rate) for seconds in (BEFORE_S, EFFECT_S, RETURN_S)]
    sim, goals, changes = make_scene(spec, task, kind, strength, seed, range(first, first + count), lengths)
    agents = make_agents(setting, memory, task, variant, sim, seed)
    error = TaskError(spec, spec.find_task(task))
    return measure_task_error(sim, agents, goals, changes[0], error, later=changes[1:], progress=progress)


def make_scene(
    spec: RobotSpec,
    task: str,
    kind: str,
    strength: float,
    seed: int,
    episodes: Sequence[int],
    lengths: Sequence[int],
) -> tuple["BatchSim", np.ndarray, tuple[HiddenChange, HiddenChange]]:
    """Make nominal robots, goals `B T+1 G`, and the changes to an effect and back.

    Effects and targets depend only on seed and episode.

    Args:
        episodes: Consecutive numbers of the episodes.
        lengths: Steps before the effect, with it, and after it.
    """
    from wm_robot_sim.batch import BatchSim
    from wm_robot_sim.effects.effect import Effect
    from wm_robot_sim.worlds import DomainRandomization

    nominal = DomainRandomization(spec).make_nominal_world()
    drawn = [int(np.random.default_rng([seed, 30_000, i]).integers(2**32)) for i in episodes]
    worlds = [replace(nominal, effects=(Effect(kind=kind, seed=each, strength=strength),)) for each in drawn]
    rows = range(len(worlds))
    sim = BatchSim(
        spec,
        [nominal] * len(worlds),
        seed=40_000 + seed,
        task=task,
        first_row=episodes[0],
        effect_kinds=(kind,),
    )
    goals = draw_goal_paths(spec, task, episodes, seed, sum(lengths))
    # The effect is not among the physics that an oracle is told.
    told = np.stack([nominal.to_vector()] * len(worlds))

    def change_at(step: int, next_worlds: "list[World]") -> HiddenChange:
        return HiddenChange(
            step=step,
            apply=lambda: sim.set_worlds(rows, next_worlds),
            truth_before=told,
            truth_after=told,
        )

    begin = change_at(lengths[0], worlds)
    end = change_at(lengths[0] + lengths[1], [nominal] * len(worlds))
    return sim, goals, (begin, end)


def make_agents(
    setting: Setting, memory: str, task: str, variant: str, sim: "BatchSim", seed: int
) -> "BatchAgent":
    """Make the agents of a variant for the robots of a simulation."""
    from wm_robot.agent.batch_agent import BatchAgent
    from wm_robot.agent.rollout_objective import TorchPlanner, make_posture_planner
    from wm_robot.model.backend import ModelBackend
    from wm_robot.model.torch_backend import TorchBackend
    from wm_robot_benchmarks.measures.false_histories import OtherLife, ResetMemory
    from wm_robot_benchmarks.measures.simulator_planner import make_simulator_agents

    spec = sim.spec
    if variant in SIMULATORS:
        return make_simulator_agents(sim, task, knows_effects=SIMULATORS[variant], seed=seed)
    name = memory if variant in (RESET, OTHER_LIFE) else variant
    model = load_bases(setting, [name])[name].model
    backend: ModelBackend[np.ndarray] = TorchBackend(model)
    if variant == RESET:
        backend = ResetMemory(backend)
    elif variant == OTHER_LIFE:
        backend = OtherLife(backend)
    planner = TorchPlanner(model, spec, task=task)
    postures = make_posture_planner(model, spec, task=task)
    return BatchAgent(backend, planner, spec, posture_backend=postures, seed=seed)


def time_plans(
    setting: Setting, task: str, variant: str, kind: str, strength: float
) -> Float[np.ndarray, "N"]:
    """Time the plans of one robot with an effect, in ms of one core."""
    spec = load_spec(setting.robot)
    warm_up, steps = (
        number * spec.plan_interval for number in (NUM_UNTIMED_PLANS, NUM_UNTIMED_PLANS + NUM_TIMED_PLANS)
    )
    sim, goals, (begin, _) = make_scene(spec, task, kind, strength, 0, range(1), (0, steps, 0))
    agents = _make_robot_agents(setting, task, variant, sim)
    begin.apply()
    agents.begin(sim.last_action, begin.truth_after)
    seconds = []
    for step in range(steps):
        obs = sim.obs.copy()
        clock = ThreadClock()
        action = agents.act(obs, goals[:, step])
        if step >= warm_up and step % spec.plan_interval == 0:
            seconds.append(clock())
        next_obs, applied = sim.step(action)
        agents.observe(obs, applied, next_obs, truth=begin.truth_after)
    return RunTimes.from_seconds(seconds).core


def _make_robot_agents(setting: Setting, task: str, variant: str, sim: "BatchSim") -> "BatchAgent":
    """Make the agent of one robot as it runs on a robot: by the graphs of its base, where it has them."""
    from wm_robot.agent.backends import select_backends, select_posture_backend
    from wm_robot.agent.batch_agent import BatchAgent
    from wm_robot.planning.mppi import MppiConfig

    if variant in SIMULATORS:
        return make_agents(setting, variant, task, variant, sim, 0)
    base, functions = _load_functions(setting, variant, task)
    backend, plans, _ = select_backends(base, functions, sim.spec, task=task, planner=MppiConfig())
    postures = select_posture_backend(base, functions, sim.spec, task=task, plans=plans)
    return BatchAgent(backend, plans, sim.spec, posture_backend=postures)


def find_runtime(setting: Setting, memory: str, task: str) -> str:
    """Find what computes the plans of a memory on a robot."""
    from wm_robot.agent.backends import select_backends
    from wm_robot.planning.mppi import MppiConfig

    base, functions = _load_functions(setting, memory, task)
    spec = load_spec(setting.robot)
    return "torch" if select_backends(base, functions, spec, task=task, planner=MppiConfig())[2] else "ONNX"


def _load_functions(setting: Setting, memory: str, task: str) -> "tuple[Base, OnnxFunctions | None]":
    from wm_robot.agent.onnx_files import load_functions

    base = load_bases(setting, [memory])[memory]
    return base, load_functions(check_bases(setting, [memory])[memory], base, task)
