"""A planner's iteration as one onnxruntime graph: imagine, score and average without torch's small steps."""

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from wm_robot.errors import ConfigError, MissingExtraError, SnapshotError
from wm_robot.io.durable import digest, write_file
from wm_robot.lifetime.memory import State
from wm_robot.models.base import Base
from wm_robot.models.world_model import WorldModel
from wm_robot.planning.mppi import Improve, Mppi, MppiConfig, Score
from wm_robot.spec import RobotSpec, canonical_json
from wm_robot.tasks import Reward, reward_of

FORMAT = 2
GRAPH, CARD = "plan.onnx", "plan.json"
OPSET = 20
TOLERANCE = 1e-3
"""Largest difference to torch, in the unit of an action, that an export may have. Rounding of scores that lie
close together is amplified by the weights of the elites, to some 1e-5."""


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
) -> Score:
    """How good plans are from this moment of a life: the reward summed over what is imagined.

    Args:
        obs: `B O`.
        goals: Goal at each step of the horizon, `B H G`.
        risk: Deviations of that sum, over states that the life may as well be in, that count against a plan.
        doubts: How many such states.
    """
    z = model.observe(state, obs)

    def score(plans: Tensor) -> Tensor:
        following, _ = model.imagine(state, z, plans)
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

    def __init__(self, content: bytes, *, objective: str, planner: MppiConfig):
        """Args:
        objective: What it plans for; see `objective_of`.
        """
        self.objective, self.planner = objective, planner
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self._inputs = {node.name for node in self._session.get_inputs()}

    def fits(self, spec: RobotSpec, *, task: str, planner: MppiConfig) -> bool:
        """Whether it was made for this task of this spec and for iterations like these, however many."""
        wanted = objective_of(spec, task), replace(planner, iterations=self.planner.iterations)
        return wanted == (self.objective, self.planner)

    def improving(self, state: State, obs: Tensor, goals: Tensor) -> Improve:
        """The iteration at this moment of a life; what `Mppi.plan` asks for. Shapes as in `scoring`, `B` = 1."""
        values = {"obs": obs, "goals": goals} | {_input(name): value for name, value in state.items()}
        feed = {name: value.numpy() for name, value in values.items() if name in self._inputs}

        def improve(mean: Tensor, noise: Tensor, hold: Tensor) -> Tensor:
            search = {"mean": mean.numpy(), "noise": noise.numpy(), "hold": hold.numpy()}
            return torch.from_numpy(self._session.run(None, feed | search)[0])

        return improve


def load_plan(folder: str | Path, base: Base) -> PlanGraph | None:
    """The graph beside a base, if there is one; its bytes are checked before they are parsed.

    Raises:
        SnapshotError: If it is damaged or belongs to another base.
    """
    folder = Path(folder)
    if not (folder / CARD).exists():
        return None
    again = f"Make it again: wm-robot export {folder}"
    try:
        card = json.loads((folder / CARD).read_bytes())
        content = (folder / GRAPH).read_bytes()
        planner = MppiConfig(**card["planner"])
        objective = str(card["objective"])
        found = (card["format"], card["sha256"], card["base"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SnapshotError(f"plan graph in {folder} cannot be read: {error}. {again}") from error
    if found != (FORMAT, digest(content), base.digest):
        raise SnapshotError(f"plan graph in {folder} is damaged, or not of base {base.digest[:12]}. {again}")
    return PlanGraph(content, objective=objective, planner=planner)


def export_plan(
    folder: str | Path, base: Base, spec: RobotSpec, *, task: str, planner: MppiConfig | None = None
) -> float:
    """Write the graph of a base beside it.

    Returns:
        Largest difference to torch over random states and plans, in the unit of an action.

    Raises:
        MissingExtraError: If the exporter is not installed.
        SnapshotError: If the base is another robot's, or the graph does not compute what torch does.
        ConfigError: If the planner shuns risk.
    """
    base.check_spec(spec)
    planner = planner or MppiConfig()
    if planner.risk:
        raise ConfigError(
            f"planner.risk is {planner.risk}; a graph is of one state, so it plans without risk, 0"
        )
    iteration = _Iteration(base.model, spec, task=task, planner=planner)
    inputs = iteration.example(seed=0)
    try:
        with _quiet():
            program = torch.onnx.export(
                iteration,
                tuple(inputs.values()),
                input_names=list(inputs),
                output_names=["better"],
                dynamo=True,
                opset_version=OPSET,
                verbose=False,
            )
    except ModuleNotFoundError as error:
        raise MissingExtraError("wm-robot export", "learn") from error
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    difference = _difference(
        PlanGraph(content, objective=objective_of(spec, task), planner=planner), iteration
    )
    if not difference <= TOLERANCE:
        raise SnapshotError(
            f"the exported plan differs from torch by {difference:.2g}; at most {TOLERANCE} is allowed. "
            "Report this with the versions of torch and onnxruntime"
        )
    card = {
        "format": FORMAT,
        "kind": "plan",
        "base": base.digest,
        "task": task,
        "objective": objective_of(spec, task),
        "planner": asdict(planner),
        "sha256": digest(content),
        "difference_to_torch": difference,
    }
    write_file(Path(folder) / GRAPH, content)
    write_file(Path(folder) / CARD, json.dumps(card, indent=1).encode())
    return difference


class _Iteration(nn.Module):
    """`Mppi.improve` on a model's imagination, with everything that changes as an input."""

    def __init__(self, model: WorldModel, spec: RobotSpec, *, task: str, planner: MppiConfig):
        super().__init__()
        self.model, self.planner, self._goal = model, planner, spec.task(task).goal
        self._reward = reward_of(spec, spec.task(task))
        self._search = Mppi(planner, low=spec.action_low, high=spec.action_high, step=spec.action_step)
        self._hold = torch.as_tensor(spec.action_low + spec.action_high, dtype=torch.float32)[None] / 2
        self._names = list(self._born())

    def _born(self) -> State:
        return self.model.birth(1, hold=self._hold)

    def example(self, seed: int) -> dict[str, Tensor]:
        """Random inputs by name."""
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
            "mean": around(self._hold[:, None], 1, horizon, motors),
            "noise": around(0.0, 1, self.planner.samples, horizon, motors),
            "hold": around(self._hold, 1, motors),
            **{_input(name): lived(born[name]) for name in self._names},
        }

    def forward(
        self, obs: Tensor, goals: Tensor, mean: Tensor, noise: Tensor, hold: Tensor, *state: Tensor
    ) -> Tensor:
        life = dict(zip(self._names, state, strict=True))
        score = scoring(self.model, self._reward, life, obs, goals)
        return self._search.improve(score, mean, noise, hold)


def _input(name: str) -> str:
    """Name of a part of the state as an input of the graph."""
    return f"state.{name}"


@torch.inference_mode()
def _difference(graph: PlanGraph, iteration: _Iteration, trials: int = 20) -> float:
    differences = []
    for seed in range(trials):
        inputs = iteration.example(seed)
        if seed == 0:
            # All plans tie.
            inputs["noise"] = torch.zeros_like(inputs["noise"])
        state = {k.removeprefix("state."): v for k, v in inputs.items() if k.startswith("state.")}
        improve = graph.improving(state, inputs["obs"], inputs["goals"])
        found = improve(inputs["mean"], inputs["noise"], inputs["hold"])
        differences.append(float((found - iteration(*inputs.values())).abs().max()))
    # numpy's maximum keeps a NaN, which Python's would drop.
    return float(np.max(differences))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's talk of packages that are not needed to itself."""
    log: Any = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
