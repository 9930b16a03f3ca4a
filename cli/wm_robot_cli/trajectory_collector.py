"""Trajectory collector: simulates the trajectories of a training, with random actions and with the planner."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wm_robot.model.world_model import WorldModel
    from wm_robot.spec import RobotSpec
    from wm_robot.types import TrajectoryBatch


@dataclass(frozen=True, kw_only=True)
class TrajectoryCollector:
    """Source of trajectories: the first round has random actions, the others the planner in the loop."""

    spec: "RobotSpec"
    task: str
    num_trajectories: tuple[int, int]
    """In the first round, and in each later one."""
    steps: int
    static_share: float
    seed: int
    threads: int
    nominal_only: bool
    num_effect_trajectories: int = 0
    """Random trajectories in worlds with undeclared effects."""

    def describe_effects(self) -> dict[str, Any]:
        """Return all settings of the trajectories with undeclared effects."""
        from wm_robot_sim.effects.effect import list_kinds
        from wm_robot_sim.effects.strengths import load_strengths

        return {
            **self.describe_round(0),
            "trajectories": self.num_effect_trajectories,
            "effects": list(list_kinds(self.spec, "training")),
            "strengths": dict(load_strengths(self.spec.name)),
        }

    def collect_effects(self) -> "TrajectoryBatch":
        """Collect random trajectories in worlds with undeclared effects, which change as others do."""
        import numpy as np

        from wm_robot_sim.effects.training_worlds import draw_effect_worlds
        from wm_robot_sim.rollouts import WORLDS_PER_TRAJECTORY, collect_trajectories

        count = self.num_effect_trajectories
        print(f"collecting {count} trajectories of {self.steps} steps: random, with undeclared effects")
        worlds = draw_effect_worlds(
            self.spec, count * WORLDS_PER_TRAJECTORY, np.random.default_rng([self.seed, 40_000])
        )
        return collect_trajectories(
            self.spec,
            num_trajectories=count,
            num_steps=self.steps,
            static_share=self.static_share,
            seed=self.seed * 1000 + 500,
            num_threads=self.threads,
            task=self.task,
            worlds=[
                worlds[i : i + WORLDS_PER_TRAJECTORY] for i in range(0, len(worlds), WORLDS_PER_TRAJECTORY)
            ],
        )

    def describe_round(self, number: int) -> dict[str, Any]:
        """See `wm_robot.training.trainer.TrajectorySource`."""
        from wm_robot.agent.onnx_planner import digest_objective
        from wm_robot.io.durable import compute_digest
        from wm_robot.spec import encode_canonical_json

        # Random actions depend on no task.
        objective = {"objective": digest_objective(self.spec, self.task)} if number else {}
        ranges = self.spec.randomize
        randomize = {"randomize": compute_digest(encode_canonical_json(ranges))} if ranges else {}
        start = {"start": dict(starts)} if (starts := self.spec.find_task(self.task).start) else {}
        # Its home, where trajectories start, is not in the spec's digest.
        base = {"base": asdict(self.spec.base)} if self.spec.base else {}
        return {
            **objective,
            **randomize,
            **base,
            **start,
            "robot": self.spec.compute_digest(),
            "kinematics": compute_digest(
                encode_canonical_json([self.spec.tip, *map(asdict, self.spec.chain)])
            ),
            "worlds": compute_digest(encode_canonical_json(self.spec.world)),
            "task": self.task,
            "round": number,
            "trajectories": self.num_trajectories[min(number, 1)],
            "steps": self.steps,
            "static_share": self.static_share,
            "seed": self.seed,
            "nominal_only": self.nominal_only,
        }

    def __call__(self, number: int, model: "WorldModel | None") -> "TrajectoryBatch":
        count = self.num_trajectories[min(number, 1)]
        print(
            f"collecting {count} trajectories of {self.steps} steps: {'planner in the loop' if model else 'random'}"
        )
        return self.collect(number, model, count, self.steps)

    def collect(self, number: int, model: "WorldModel | None", count: int, steps: int) -> "TrajectoryBatch":
        """Collect trajectories of a round.

        Args:
            model: Model of the planner; None for random actions.
        """
        from wm_robot.agent.batch_agent import BatchAgent
        from wm_robot.agent.rollout_objective import TorchPlanner
        from wm_robot.model.torch_backend import TorchBackend
        from wm_robot.planning.mppi import MppiConfig
        from wm_robot.tasks.goal_types import list_goal_periods
        from wm_robot_sim.rollouts import collect_trajectories
        from wm_robot_sim.worlds import DomainRandomization

        policy = None
        if model is not None:
            # A coarser search than the robot's: its mistakes are useful data, and it costs a quarter.
            planner = MppiConfig(num_samples=32, num_iterations=1, refine_iterations=0)
            plans = TorchPlanner(model, self.spec, task=self.task, planner=planner)
            policy = BatchAgent(
                TorchBackend(model),
                plans,
                self.spec,
                goal_periods=list_goal_periods(self.spec, self.spec.find_task(self.task)),
                seed=self.seed + number,
            )
        nominal = [DomainRandomization(self.spec).make_nominal_world()]
        return collect_trajectories(
            self.spec,
            num_trajectories=count,
            num_steps=steps,
            static_share=self.static_share,
            seed=self.seed * 1000 + number,
            policy=policy,
            num_threads=self.threads,
            task=self.task,
            worlds=[nominal] * count if self.nominal_only else None,
        )
