"""Rule episodes: closed loop on the nominal robot, with a new rule from some step on."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from wm_robot.progress import Progress
from wm_robot.robots import load_spec
from wm_robot.spec import RobotSpec
from wm_robot.tasks import TaskError
from wm_robot_benchmarks.harness.result import Setting, load_bases
from wm_robot_benchmarks.measures.new_rules import (
    RULES,
    CommandMap,
    make_changed_world,
    move_gripper_point,
    rotate_goals,
)

if TYPE_CHECKING:
    from wm_robot.agent.batch_agent import BatchAgent
    from wm_robot.model.world_model import WorldModel
    from wm_robot_sim.batch import BatchSim
    from wm_robot_sim.worlds import World


@dataclass(frozen=True, kw_only=True)
class RuleScene:
    """Robots, their goals, and what a rule changes."""

    sim: "BatchSim"
    goals: Float[np.ndarray, "B T G"]
    """Goals before the first step and after each, as an agent gets them that is not told the rule."""
    meant_goals: Float[np.ndarray, "B T G"]
    """Goals that they mean after the change."""
    changed_worlds: list["World"]
    """Worlds after the change."""
    changed_spec: RobotSpec
    """Spec after the change: its gripper point is the one that is asked for."""


def make_rule_scene(spec: RobotSpec, task: str, rule: str, *, count: int, seed: int, steps: int) -> RuleScene:
    """Make the robots, goals and changes of some episodes.

    Start poses, goals and noise depend on seed and episode alone: they are equal for all rules and variants.

    Args:
        steps: Number of steps of an episode.
    """
    from wm_robot_sim.batch import BatchSim
    from wm_robot_sim.model_compiler import compile_model
    from wm_robot_sim.plant import Plant
    from wm_robot_sim.task_goals import TaskGoals
    from wm_robot_sim.worlds import DomainRandomization

    nominal, named = DomainRandomization(spec).make_nominal_world(), spec.find_task(task)
    rngs = [np.random.default_rng([seed, 60_000, episode]) for episode in range(count)]
    plant = Plant(spec, compile_model(spec))
    worlds = [make_changed_world(plant, nominal, rule, rng) for rng in rngs]
    kinds = {effect.kind for world in worlds for effect in world.effects}
    goals = np.stack(
        [
            TaskGoals(spec, named, seed=np.random.SeedSequence([seed, 50_000, episode])).compute_path(
                steps + 1
            )
            for episode in range(count)
        ]
    )
    acts_on = RULES[rule].acts_on
    return RuleScene(
        sim=BatchSim(spec, [nominal] * count, seed=40_000 + seed, task=task, effect_kinds=kinds),
        goals=goals,
        meant_goals=rotate_goals(goals, rngs) if acts_on == "goals" else goals,
        changed_worlds=worlds,
        changed_spec=move_gripper_point(spec, rngs[0]) if acts_on == "gripper" else spec,
    )


def measure_rule_episodes(
    setting: Setting,
    task: str,
    variant: str,
    rule: str,
    *,
    is_told: bool,
    count: int,
    seed: int,
    steps: int,
    change_step: int,
    progress: Progress,
) -> Float[np.ndarray, "B T"]:
    """Measure the error of the true state for the goal that is meant, after every step.

    Args:
        variant: Variant whose base the agents have.
        is_told: Whether the agents are told the rule when it begins.
        steps: Number of steps of an episode.
        change_step: Step from which the rule is in force.
    """
    spec, model = load_spec(setting.robot), load_bases(setting, [variant])[variant].model
    scene = make_rule_scene(spec, task, rule, count=count, seed=seed, steps=steps)
    sim, given, meant = scene.sim, scene.goals, scene.goals
    agents, error = _make_agents(model, spec, task, seed), TaskError(spec, spec.find_task(task))
    commands = CommandMap.from_sim(sim)
    agents.begin(sim.last_action)
    errors, true_obs = list[np.ndarray](), sim.compute_true_obs()
    for t in range(steps):
        if t == change_step:
            sim.set_worlds(range(count), scene.changed_worlds)
            meant = scene.meant_goals
            error = TaskError(scene.changed_spec, scene.changed_spec.find_task(task))
            if is_told:
                given, commands = meant, CommandMap.from_sim(sim)
                agents = _tell_rule(agents, model, scene.changed_spec, task, seed, commands)
        obs = sim.obs.copy()
        next_obs, applied = sim.step(commands.to_actions(agents.act(obs, given[:, t])))
        agents.observe(obs, commands.to_commands(applied), next_obs)
        true_next_obs = sim.compute_true_obs()
        errors.append(error.measure(true_obs, applied, true_next_obs, meant[:, t + 1]))
        true_obs = true_next_obs
        progress(t + 1, steps)
    return np.stack(errors, 1)


def _make_agents(model: "WorldModel", spec: RobotSpec, task: str, seed: int) -> "BatchAgent":
    from wm_robot.agent.batch_agent import BatchAgent
    from wm_robot.agent.rollout_objective import TorchPlanner, make_posture_planner
    from wm_robot.model.torch_backend import TorchBackend

    return BatchAgent(
        TorchBackend(model),
        TorchPlanner(model, spec, task=task),
        spec,
        posture_backend=make_posture_planner(model, spec, task=task),
        seed=seed,
    )


def _tell_rule(
    agents: "BatchAgent", model: "WorldModel", spec: RobotSpec, task: str, seed: int, commands: CommandMap
) -> "BatchAgent":
    """Return agents that continue from the lifetime states of others, and plan by the rule.

    The last plan and the trend of the goals start again: the rule may have changed both.

    Args:
        spec: Spec with the gripper point that is asked for.
        commands: Commands that motors get by the rule: to agents that are told, they are the actions.
    """
    told = _make_agents(model, spec, task, seed)
    told.begin(commands.to_commands(agents.state.recent))
    told.restore(agents.snapshot_state().flatten())
    return told
