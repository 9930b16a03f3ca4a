"""Plant logs: random motion of simulated plants other than the nominal one, as the log of an agent that watches."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from wm_robot.evaluation.validation.battery import Check
from wm_robot.evaluation.validation.scenario import Scenario
from wm_robot.recording.agent_log import AgentLog, LoggedStep
from wm_robot.spec import RobotSpec
from wm_robot.types import Observation
from wm_robot_cli.validation.plant import ScenarioPlant
from wm_robot_cli.validation.worlds import ScenarioSource
from wm_robot_sim.standins.catalog import list_standins

DECLARED_PLANTS = 4


@runtime_checkable
class MovingPlant(Protocol):
    """Plant that moves at random: part of `ValidationPlant`."""

    @property
    def last_action(self) -> np.ndarray: ...

    def read(self) -> Observation: ...

    def write(self, action: np.ndarray) -> np.ndarray: ...

    def draw_random_actions(self, num_steps: int) -> np.ndarray: ...


MakePlant = Callable[[RobotSpec, Scenario], MovingPlant]


def collect_log(plant: MovingPlant, spec: RobotSpec, num_steps: int) -> AgentLog:
    """Move a plant at random, and return what an agent that watches it gets."""
    hold, period, steps = plant.last_action.astype(np.float32), round(spec.dt * 1e9), []
    obs = plant.read().values.astype(np.float32)
    for number, action in enumerate(plant.draw_random_actions(num_steps)):
        applied = plant.write(action)
        next_obs = plant.read().values.astype(np.float32)
        steps.append(
            LoggedStep(
                start=number * period,
                stamp=(number + 1) * period,
                obs=obs,
                applied=applied.astype(np.float32),
                next_obs=next_obs,
                valid=True,
                continues=number > 0,
            )
        )
        obs = next_obs
    return AgentLog(initial_action=hold, steps=tuple(steps))


def list_plant_scenarios(spec: RobotSpec, task: str, *, seed: int, seconds: float) -> Iterator[Scenario]:
    """List the scenarios of plants: some in the declared ranges, one of each undeclared effect, and stand-ins."""
    check = Check(name="model", group="", measure="prediction", severity="minor")
    source = ScenarioSource(spec, task, seed=seed)
    sizes = {"seconds": seconds}
    yield from source.draw(check, {"worlds": "declared", "episodes": DECLARED_PLANTS, **sizes})
    yield from source.draw(check, {"worlds": "effects", **sizes})
    for standin in list_standins(spec):
        own = ScenarioSource(spec, task, seed=seed, standin=str(standin))
        yield from own.draw(check, {"worlds": "nominal", **sizes})


def collect_plant_logs(
    spec: RobotSpec, scenarios: Sequence[Scenario], make_plant: MakePlant = ScenarioPlant
) -> dict[str, AgentLog]:
    """Collect the log of each plant, by its name: that of its world, or of its stand-in."""
    return {
        each.standin or each.name: collect_log(make_plant(spec, each), spec, each.num_steps)
        for each in scenarios
    }
