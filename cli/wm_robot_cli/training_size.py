"""Training size: defaults by the size of a robot, and the time and memory that a training will take."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from wm_robot.errors import SpecError
from wm_robot.memory.registry import DEFAULT_MEMORY
from wm_robot_cli.semiparametric_training import FROZEN_MEMORY, PHYSICS_MEMORY

if TYPE_CHECKING:
    from wm_robot.model.config import ModelConfig
    from wm_robot.spec import RobotSpec
    from wm_robot.types import TrajectoryBatch
    from wm_robot_cli.trajectory_collector import TrajectoryCollector

SEGMENT_S, TRAJECTORY_S = 1.28, 10.24
"""Length of a segment and of a trajectory, in s: 64 and 512 steps at 50 Hz."""
SEGMENT_STEPS, TRAJECTORY_STEPS = (32, 128), (256, 2048)
"""Bounds of the same, in steps."""
RANDOM_STEPS, PLANNED_STEPS = 3072 * 512, 384 * 512
"""Transitions of the first round, and of each round with the planner in the loop."""
EFFECT_SHARE = 2 / 3
"""Trajectories in worlds with undeclared effects, as a share of the random ones."""
WIDTHS = ((32, 128), (96, 192))
"""Number of observations and actions up to which a model has this width."""
LARGEST_WIDTH = 256
TIMED_TRAJECTORIES, TIMED_STEPS, TIMED_PLANNED_STEPS, TIMED_UPDATES = 64, 64, 4, 2
TIMED_CORRECTION_STEPS = 8
COPIES = 2.5
"""Memory for trajectories over their size in a file: simulation, random actions and scales need copies."""
DEFAULT_UPDATES = 14_000
CORRECTION_UPDATES = 400
WILD = 1e3
"""Times its limit beyond which a reading is of a simulation that has diverged."""


@dataclass(frozen=True, kw_only=True)
class TrainingSize:
    """Sizes of a training that are not given."""

    width: int
    segment_steps: int
    trajectory_steps: int
    random_trajectories: int
    planned_trajectories: int


def choose_training_size(spec: "RobotSpec", trajectory_steps: int | None = None) -> TrainingSize:
    """Choose the sizes of a training by a robot's observations, actions and rate.

    Segments and trajectories have the same length in seconds for every robot, within bounds, and all robots the same
    number of transitions.

    Args:
        trajectory_steps: Length of a trajectory where it is given.
    """
    steps = trajectory_steps or int(np.clip(round(TRAJECTORY_S * spec.rate), *TRAJECTORY_STEPS))
    fitting = (width for most, width in WIDTHS if spec.obs_dim + spec.action_dim <= most)
    return TrainingSize(
        width=next(fitting, LARGEST_WIDTH),
        segment_steps=min(steps, int(np.clip(round(SEGMENT_S * spec.rate), *SEGMENT_STEPS))),
        trajectory_steps=steps,
        random_trajectories=max(64, RANDOM_STEPS // steps),
        planned_trajectories=max(16, PLANNED_STEPS // steps),
    )


def count_recent_actions(spec: "RobotSpec") -> int:
    """Count the actions that a model needs, so that they cover the longest delay of a robot's worlds.

    Raises:
        SpecError: If the delay is as long as a plan, whose actions then have no effect before its end.
    """
    from wm_robot.model.config import ModelConfig
    from wm_robot.planning.mppi import MppiConfig
    from wm_robot_sim.model_compiler import compile_model
    from wm_robot_sim.plant import Plant

    plant = Plant(spec, compile_model(spec))
    (longest, key), substeps = plant.longest_delay, plant.substeps
    periods, horizon = -(-longest // substeps), MppiConfig().horizon
    if periods >= horizon:
        raise SpecError(
            f"robot '{spec.name}' has {key} up to {longest} physics steps, {periods} control periods of "
            f"{substeps}; a plan has {horizon} steps. Set the delay to at most {(horizon - 1) * substeps}"
        )
    # One more: the reading may be a period old.
    return max(ModelConfig.recent, periods + 1)


@dataclass(frozen=True, kw_only=True)
class TrainingEstimate:
    """Time and memory that a training will take on this machine, as busy as it is now."""

    simulation_s: float
    training_s: float
    memory: float
    """In bytes."""

    @property
    def minutes(self) -> float:
        return (self.simulation_s + self.training_s) / 60

    def describe(self) -> str:
        return (
            f"about {self.minutes:.0f} min on this machine: {self.simulation_s / 60:.0f} min of simulation and "
            f"{self.training_s / 60:.0f} min of gradient steps; {self.memory / 2**30:.1f} GiB of memory"
        )


def estimate_training(
    collector: "TrajectoryCollector",
    shape: "ModelConfig",
    *,
    updates: int,
    batch_size: int,
    segment_steps: int,
    horizon: int,
    num_planned_rounds: int,
    fault_share: float = 0.0,
) -> TrainingEstimate:
    """Measure a few steps of simulation, planning and learning, and extrapolate.

    Args:
        fault_share: Share of the gradient steps in which optional sensors have faults.

    Raises:
        SpecError: If the robot cannot be learned from; see `check_trajectories`.
    """
    import torch

    from wm_robot.model.world_model import WorldModel
    from wm_robot.training.loss import compute_segment_loss

    state = torch.get_rng_state()
    model = WorldModel(shape)
    first = collector.collect(0, None, TIMED_TRAJECTORIES, TIMED_STEPS)
    check_trajectories(collector.spec, first)
    step_s = _time_step(lambda steps: collector.collect(0, None, TIMED_TRAJECTORIES, steps), TIMED_STEPS)
    plan_s = _time_step(
        lambda steps: collector.collect(1, model, TIMED_TRAJECTORIES, steps), TIMED_PLANNED_STEPS
    )

    rows = np.arange(batch_size) % TIMED_TRAJECTORIES
    columns = np.arange(segment_steps + 1) % TIMED_STEPS
    obs = torch.from_numpy(first.obs[rows][:, columns])
    action = torch.from_numpy(first.action[rows][:, columns[:-1]])
    truth = torch.from_numpy(first.physics[rows][:, :1]).expand(-1, segment_steps + 1, -1)

    def take_gradient_step(sensed: torch.Tensor | None = None) -> None:
        start = model.set_true_physics(model.initial_state(initial_action=action[:, 0]), truth[:, 0])
        losses, _ = compute_segment_loss(model, start, obs, action, truth, horizon=horizon, sensed=sensed)
        (losses.surprise + losses.open_loop).backward()

    take_gradient_step()
    started = time.perf_counter()
    for _ in range(TIMED_UPDATES):
        take_gradient_step()
    gradient_s = (time.perf_counter() - started) / TIMED_UPDATES
    optional = list(collector.spec.layout.optional)
    if optional and fault_share:
        sensed = obs.clone()
        sensed[:, 1:, optional] = torch.nan
        started = time.perf_counter()
        take_gradient_step(sensed)
        gradient_s += fault_share * (time.perf_counter() - started - gradient_s)
    torch.set_rng_state(state)
    transitions = [count * collector.steps for count in collector.num_trajectories]
    transitions[0] += collector.num_effect_trajectories * collector.steps
    size = 4 * (2 * collector.spec.obs_dim + collector.spec.action_dim)
    return TrainingEstimate(
        simulation_s=step_s * transitions[0] + plan_s * transitions[1] * num_planned_rounds,
        training_s=gradient_s * updates,
        memory=_read_peak_memory() + COPIES * size * (transitions[0] + num_planned_rounds * transitions[1]),
    )


def estimate_default_training(spec: "RobotSpec", task: str = "") -> TrainingEstimate:
    """Estimate `wm-robot train ROBOT --all`, with the default of every option.

    Args:
        task: Task of the spec; empty: the first one.

    Raises:
        SpecError: If the robot cannot be learned from; see `check_trajectories`.
    """
    from wm_robot.model.config import ModelConfig
    from wm_robot.training.train_config import TrainConfig
    from wm_robot_cli.trajectory_collector import TrajectoryCollector
    from wm_robot_cli.variants import COMPARED_VARIANTS, MEMORY_OF_VARIANT
    from wm_robot_sim.worlds import DomainRandomization

    size, config = choose_training_size(spec), TrainConfig()
    collector = TrajectoryCollector(
        spec=spec,
        task=task or next(iter(spec.tasks)),
        num_trajectories=(size.random_trajectories, size.planned_trajectories),
        steps=size.trajectory_steps,
        static_share=0.0,
        seed=0,
        threads=1,
        nominal_only=False,
        num_effect_trajectories=round(EFFECT_SHARE * size.random_trajectories),
    )
    return sum_estimates(
        estimate_base_training(
            collector,
            ModelConfig.from_spec(
                spec,
                truth=len(DomainRandomization(spec).parameter_names),
                memory=MEMORY_OF_VARIANT.get(variant, DEFAULT_MEMORY),
                recent=count_recent_actions(spec),
                width=size.width,
            ),
            updates=DEFAULT_UPDATES,
            batch_size=config.batch_size,
            segment_steps=size.segment_steps,
            horizon=config.horizon,
            num_planned_rounds=len(config.collect_at),
            fault_share=config.sensor_faults.batch_fraction,
        )
        for variant in COMPARED_VARIANTS
    )


def estimate_base_training(
    collector: "TrajectoryCollector", shape: "ModelConfig", *, started: Sequence[str] = (), **settings: Any
) -> TrainingEstimate:
    """Estimate the training of a base: of its network, or of the two of a semiparametric one and its correction.

    Args:
        started: Memories of the bases to start from, whose networks a semiparametric one takes as they are.
        settings: As for `estimate_training`.
    """
    if shape.memory != "semiparametric":
        return estimate_training(collector, shape, **settings)
    networks = [
        estimate_training(collector, replace(shape, memory=memory), **settings)
        for memory in (PHYSICS_MEMORY, FROZEN_MEMORY)
        if memory not in started
    ]
    correction_s = _estimate_correction(collector, shape)
    return sum_estimates([*networks, TrainingEstimate(simulation_s=0.0, training_s=correction_s, memory=0.0)])


def _estimate_correction(collector: "TrajectoryCollector", shape: "ModelConfig") -> float:
    """Estimate the time of the correction fit, in s, from a few of its steps."""
    from wm_robot.model.world_model import WorldModel
    from wm_robot.training.correction_fit import ROWS, CorrectionConfig, fit_correction

    config = CorrectionConfig()
    few = CorrectionConfig(
        num_trajectories=ROWS, num_steps=TIMED_CORRECTION_STEPS, num_rounds=1, updates=TIMED_UPDATES
    )
    batch = collector.collect(0, None, ROWS, TIMED_CORRECTION_STEPS)
    moments = [time.perf_counter()]
    for _ in fit_correction(WorldModel(shape).requires_grad_(False), batch, few):
        moments.append(time.perf_counter())
    longer = config.num_steps / TIMED_CORRECTION_STEPS
    lived_s = (moments[1] - moments[0]) * -(-config.num_trajectories // ROWS)
    update_s = (moments[-1] - moments[1]) / TIMED_UPDATES * config.updates
    return config.num_rounds * longer * (lived_s + update_s)


def sum_estimates(estimates: Iterable[TrainingEstimate]) -> TrainingEstimate:
    """Sum up trainings from the same trajectories, which are simulated once."""
    each = list(estimates)
    return TrainingEstimate(
        simulation_s=max(estimate.simulation_s for estimate in each),
        training_s=sum(estimate.training_s for estimate in each),
        memory=max(estimate.memory for estimate in each),
    )


def check_trajectories(spec: "RobotSpec", batch: "TrajectoryBatch") -> None:
    """Refuse a robot whose simulation diverges, or one of whose channels never changes: nothing is learned of it.

    Raises:
        SpecError: If so; with the channel.
    """
    flat = batch.obs.reshape(-1, batch.obs.shape[-1])
    wild = ~(np.abs(flat) <= WILD * spec.layout.limits)
    if wild.any():
        channel = spec.observation_names[int(wild.any(0).argmax())]
        raise SpecError(
            f"the simulation of robot '{spec.name}' diverges under random actions: '{channel}' is beyond {WILD:g} "
            "times its limit. Set a smaller world.timestep, or give the model damping and limits"
        )
    still = np.ptp(flat, axis=0) == 0
    if still.any():
        names = [name for name, constant in zip(spec.observation_names, still, strict=True) if constant]
        raise SpecError(
            f"{names} of robot '{spec.name}' never change under random actions. Remove the joint from the spec, or "
            "give it an actuator that moves it. Remove a sensor, or give it noise or a source"
        )


def _time_step(collect: "Callable[[int], TrajectoryBatch]", steps: int) -> float:
    """Measure the time of a step of one trajectory, in s, without the first step, which starts everything."""
    times = []
    for count in (1, steps):
        started = time.perf_counter()
        collect(count)
        times.append(time.perf_counter() - started)
    return max(times[1] - times[0], 0.1 * times[1]) / ((steps - 1) * TIMED_TRAJECTORIES)


def _read_peak_memory() -> float:
    """Return the largest memory of this process so far, in bytes."""
    import resource

    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
