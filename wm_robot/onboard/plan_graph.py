"""A planner's iteration as a graph: imagine, score and average."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import torch
from torch import Tensor

from wm_robot.errors import ConfigError
from wm_robot.io.durable import digest
from wm_robot.lifetime.memory import State
from wm_robot.models.world_model import WorldModel
from wm_robot.onboard.graph import Graph, exported, state_input
from wm_robot.planning.mppi import Improve, Mppi, MppiConfig, Score
from wm_robot.spec import RobotSpec, canonical_json
from wm_robot.tasks import Reward, reward_of

MEAN, NOISE, HOLD = "search.mean", "search.noise", "search.hold"


def objective_of(spec: RobotSpec, task: str) -> str:
    """Digest of all that a graph has of a spec: the task and what it is computed from, and the limits."""
    return digest(
        canonical_json(
            {
                "task": {"name": task, **asdict(spec.task(task))},
                "chain": [asdict(link) for link in spec.chain],
                "tip": spec.tip,
                "actuators": [asdict(actuator) for actuator in spec.actuators],
                "rate": spec.rate,
            }
        )
    )


def scoring(
    model: WorldModel,
    reward: Reward,
    state: State,
    obs: Tensor,
    goals: Tensor,
    *,
    risk: float = 0.0,
    doubts: int = 4,
    alone: bool = False,
) -> Score:
    """How good plans are from this moment of a life: the reward summed over what is imagined.

    Args:
        obs: `B O`.
        goals: Goal at each step of the horizon, `B H G`.
        risk: Deviations of that sum, over states that the life may as well be in, that count against a plan.
        doubts: How many such states.
        alone: For a single life, what `WorldModel.imagine_alone` has folded.
    """
    z = model.observe(state, obs)

    def score(plans: Tensor) -> Tensor:
        following = model.imagine_alone(state, z, plans) if alone else model.imagine(state, z, plans).mean
        return reward(following, plans, following, goals[:, None]).sum(-1)

    def cautious(plans: Tensor) -> Tensor:
        each = [x.repeat_interleave(doubts, 0) for x in (z, plans, goals)]
        following, _ = model.imagine(others, *each[:2])
        scores = reward(following, each[1], following, each[2][:, None]).sum(-1).unflatten(0, (-1, doubts))
        return score(plans) - risk * scores.std(1)

    if risk == 0:
        return score
    others = model.sampled(state, doubts)
    return cautious


class PlanGraph:
    """One iteration of the search of one robot. The state is an input: to swap a life is to pass another."""

    def __init__(self, graph: Graph, *, objective: str, planner: MppiConfig):
        """Args:
        objective: What it plans for; see `objective_of`.
        """
        self.objective, self.planner, self._graph = objective, planner, graph

    def fits(self, spec: RobotSpec, *, task: str, planner: MppiConfig) -> bool:
        """Whether it was made for this task of this spec and for iterations like these, however many."""
        wanted = objective_of(spec, task), replace(planner, iterations=self.planner.iterations)
        return wanted == (self.objective, self.planner)

    def improving(self, state: State, obs: Tensor, goals: Tensor) -> Improve:
        """The iteration at this moment of a life; what `Mppi.plan` asks for. Shapes as in `scoring`, `B` = 1."""
        known = {"obs": obs, "goals": goals} | {state_input(name): value for name, value in state.items()}
        moment = self._graph.taken(known)

        def improve(mean: Tensor, noise: Tensor, hold: Tensor) -> Tensor:
            search = self._graph.taken({MEAN: mean, NOISE: noise, HOLD: hold})
            return self._graph(moment | search)["better"]

        return improve


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What a graph that rounds gives up of an iteration, over random moments."""

    action: float
    """Root mean square of what its plans are off, in the unit of an action."""
    gain: float
    """Part of what an iteration improves the predicted return by, as torch predicts it, that is lost."""


class Iteration:
    """`Mppi.improve` on a model's imagination, with everything that changes as an argument."""

    def __init__(self, model: WorldModel, spec: RobotSpec, *, task: str, planner: MppiConfig):
        """Raises:
        ConfigError: If the planner shuns risk.
        """
        if planner.risk:
            raise ConfigError(
                f"planner.risk is {planner.risk}; a graph is of one state, so it plans without risk, 0"
            )
        self.model, self.planner, self._goal = model, planner, spec.task(task).goal
        self._reward = reward_of(spec, spec.task(task))
        self._search = Mppi(planner, low=spec.action_low, high=spec.action_high, step=spec.action_step)
        self._hold = torch.as_tensor(spec.action_low + spec.action_high, dtype=torch.float32)[None] / 2
        self._names = list(self._born())

    def graph(self) -> bytes:
        """It as a graph."""
        return exported(self.model, partial(self, alone=True), self.example(seed=0), ["better"])

    @torch.inference_mode()
    def differences(self, graph: PlanGraph, trials: int = 20) -> Sequence[float]:
        """How far a graph is from it over random states and plans, in the unit of an action."""
        found = []
        for seed in range(trials):
            inputs = self.example(seed)
            if seed == 0:
                # All plans tie.
                inputs[NOISE] = torch.zeros_like(inputs[NOISE])
            state = {name: inputs[state_input(name)] for name in self._names}
            improve = graph.improving(state, inputs["obs"], inputs["goals"])
            better = improve(inputs[MEAN], inputs[NOISE], inputs[HOLD])
            found.append(float((better - self(*inputs.values())).abs().max()))
        return found

    @torch.inference_mode()
    def loss(self, graph: PlanGraph, trials: int = 40) -> Loss:
        """What a graph that does not compute the same in every digit costs."""
        squares, returns = [], []
        for seed in range(trials):
            inputs = self.example(seed)
            state = {name: inputs[state_input(name)] for name in self._names}
            before = self(*(inputs | {NOISE: torch.zeros_like(inputs[NOISE])}).values())
            exact = self(*inputs.values())
            improve = graph.improving(state, inputs["obs"], inputs["goals"])
            found = improve(inputs[MEAN], inputs[NOISE], inputs[HOLD])
            score = scoring(self.model, self._reward, state, inputs["obs"], inputs["goals"])
            squares.append((found - exact).square().mean())
            returns.append(score(torch.stack([before, exact, found], 1))[0])
        start, best, reached = torch.stack(returns).sum(0)
        return Loss(
            action=float(torch.stack(squares).mean().sqrt()),
            gain=float((best - reached) / (best - start)),
        )

    def example(self, seed: int) -> dict[str, Tensor]:
        """Random arguments by name."""
        generator = torch.Generator().manual_seed(seed)
        config, born = self.model.config, self._born()
        horizon, motors = self.planner.horizon, config.action

        def around(center: Tensor | float, *shape: int, size: float = 0.1) -> Tensor:
            return center + size * torch.randn(shape, generator=generator)

        def lived(value: Tensor) -> Tensor:
            if value.is_floating_point():
                return around(value, *value.shape)
            return torch.randint(100, value.shape, generator=generator)

        return {
            "obs": around(self.model.obs_mean, 1, config.obs),
            "goals": around(0.2, 1, horizon, self._goal),
            MEAN: around(self._hold[:, None], 1, horizon, motors),
            NOISE: around(0.0, 1, self.planner.samples, horizon, motors),
            HOLD: around(self._hold, 1, motors),
            **{state_input(name): lived(born[name]) for name in self._names},
        }

    def __call__(
        self,
        obs: Tensor,
        goals: Tensor,
        mean: Tensor,
        noise: Tensor,
        hold: Tensor,
        *state: Tensor,
        alone: bool = False,
    ) -> Tensor:
        """See `Mppi.improve` and `scoring`."""
        life = dict(zip(self._names, state, strict=True))
        score = scoring(self.model, self._reward, life, obs, goals, alone=alone)
        return self._search.improve(score, mean, noise, hold)

    def _born(self) -> State:
        return self.model.birth(1, hold=self._hold)
