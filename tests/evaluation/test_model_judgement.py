"""The world model judged as a model: against the nominal simulator and recursive least squares on the same logs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.sim, pytest.mark.learn]

from wm_robot.agent.builder import AgentConfig, load_agent
from wm_robot.evaluation.validation.model_judgement import (
    LEAST_SQUARES,
    SIMULATOR,
    WORLD_MODEL,
    JudgedAgent,
    JudgedLeastSquares,
    judge_world_model,
)
from wm_robot.evaluation.validation.open_loop_meter import OpenLoopMeter
from wm_robot.evaluation.validation.open_loop_models import BasePredictions
from wm_robot.model.base import load_base
from wm_robot.recording.agent_log import AgentLog, LoggedStep
from wm_robot.robots import load_spec
from wm_robot_cli.validation.plant_logs import collect_log, collect_plant_logs, list_plant_scenarios
from wm_robot_cli.validation.simulator_model import SimulatorModel
from wm_robot_sim.motion import draw_random_actions
from wm_robot_sim.robot import SimRobot
from wm_robot_sim.worlds import DomainRandomization

SPEC = load_spec("arm")
BASE = Path(__file__).parents[2] / "bases" / "arm-semiparametric"
NOMINAL = DomainRandomization(SPEC).make_nominal_world()


class RandomPlant(SimRobot):
    def draw_random_actions(self, num_steps):
        rng = np.random.default_rng(1)
        return draw_random_actions(self.spec, rng, self.last_action[None], num_steps)[0]


def plant_log(world, num_steps=200):
    return collect_log(RandomPlant(SPEC, world, seed=1), SPEC, num_steps)


def make_steps(obs, applied):
    return AgentLog(
        initial_action=np.zeros(SPEC.action_dim, np.float32),
        steps=tuple(
            LoggedStep(
                start=number,
                stamp=number + 1,
                obs=obs[number],
                applied=applied[number],
                next_obs=obs[number + 1],
                valid=True,
                continues=number > 0,
            )
            for number in range(len(applied))
        ),
    )


def test_the_nominal_simulator_predicts_a_nominal_plant_up_to_the_noise_of_its_readings():
    found = judge_world_model({SIMULATOR: SimulatorModel(SPEC)}, {"nominal": plant_log(NOMINAL)}, SPEC)
    position, velocity = (
        found.find_figure(SIMULATOR, f"joints/{kind}", 32) for kind in ("position", "velocity")
    )
    assert position.error == pytest.approx(NOMINAL.position_noise, rel=0.3)
    assert velocity.error == pytest.approx(NOMINAL.velocity_noise, rel=0.3)
    assert np.isnan(position.coverage) and np.isnan(position.wins)


def test_without_noise_the_nominal_simulator_is_exact_but_for_what_positions_do_not_show():
    clean = replace(NOMINAL, position_noise=0.0, velocity_noise=0.0)
    found = judge_world_model({SIMULATOR: SimulatorModel(SPEC)}, {"clean": plant_log(clean)}, SPEC)
    assert found.find_figure(SIMULATOR, "all", 32).ratio < 1e-3


def test_recursive_least_squares_learns_a_linear_plant():
    rng = np.random.default_rng(0)
    applied = rng.uniform(-1, 1, (420, SPEC.action_dim)).astype(np.float32)
    obs = np.zeros((421, SPEC.obs_dim), np.float32)
    for step, action in enumerate(applied):
        obs[step + 1] = 0.7 * obs[step] + 0.2 * np.concatenate([action, -action])
    log, model = make_steps(obs, applied), JudgedLeastSquares(load_base(BASE), scale=3.0)
    model.begin(log.initial_action)
    errors = {}
    for number, step in enumerate(log.steps):
        if number in (8, 400):
            mean, deviation = model.predict(
                [model.read_belief()], step.obs[None], applied[None, number : number + 8]
            )
            assert deviation is None
            errors[number] = np.abs(mean[0] - obs[number + 1 : number + 9]).max()
        assert (model.observe(step) == step.next_obs).all()
    assert errors[400] < 0.01 < 0.1 < errors[8]


def test_the_world_model_is_judged_by_sensor_and_horizon_against_the_others():
    agent = load_agent(AgentConfig(base=str(BASE), task="reach", monitor_plans=False), SPEC).agent
    base = load_base(BASE)
    models = {
        WORLD_MODEL: JudgedAgent(agent, BasePredictions(base)),
        SIMULATOR: SimulatorModel(SPEC),
        LEAST_SQUARES: JudgedLeastSquares(base),
    }
    scenarios = [
        each
        for each in list_plant_scenarios(SPEC, "reach", seed=0, seconds=3.0)
        if each.name in ("0", "1") or each.name.startswith("dead_zone")
    ]
    logs = collect_plant_logs(SPEC, scenarios)
    found = judge_world_model(models, logs, SPEC)
    assert set(found.logs) == set(logs) and len(logs) >= 2
    own = found.find_figure(WORLD_MODEL, "all", 8)
    assert own.ratio < 0.6 and 0.3 < own.coverage <= 1 and np.isnan(own.wins)
    other = found.find_figure(LEAST_SQUARES, "all", 8)
    assert own.ratio < other.ratio and other.wins == 1.0
    values = found.to_dict()
    assert len(values["figures"]) == 3 * 3 * 3 and values["figures"][0]["model"] == WORLD_MODEL
    assert values["figures"][0]["wins"] is None


class KnownModel:
    """Predicts that each channel grows by its number at each step, with a deviation of 0.5."""

    uncertainty = "known"

    def predict(self, beliefs, obs, actions):
        steps = np.arange(1, actions.shape[1] + 1)[None, :, None]
        mean = obs[:, None] + steps * np.arange(obs.shape[1])[None, None]
        return mean.astype(np.float32), np.full(mean.shape, 0.5)


def test_figures_of_a_known_error_are_exact_and_end_at_a_gap():
    meter = OpenLoopMeter(KnownModel(), SPEC, horizons=(1, 2, 4), interval=4, batch=3)
    size, obs = SPEC.obs_dim, np.zeros(SPEC.obs_dim, np.float32)
    for step in range(21):
        # Every channel grows by its number and 0.25 more; channel 0 has no reading at step 2.
        obs = (obs + np.arange(size) + 0.25).astype(np.float32)
        reading = obs.copy()
        if step == 2:
            reading[0] = np.nan
        meter.add_step(None, np.zeros(SPEC.action_dim), obs, reading, valid=step != 7)
        meter.compute_due()
    meter.finish()
    figures = {(each.group, each.horizon): each for each in meter.list_figures()}
    for horizon in (1, 2, 4):
        assert figures["joints/position", horizon].error == pytest.approx(0.25 * horizon, rel=1e-5)
    # Windows begin at 0, 4, 8, 12, 16 and 20; that of 4 ends at the gap after two steps, that of 20 has none.
    assert [figures["joints/velocity", h].count for h in (1, 2, 4)] == [5, 5, 4]
    changes = np.arange(size) + 0.25
    assert figures["all", 1].ratio == pytest.approx((0.25 / changes).mean(), rel=1e-5)
    assert (
        figures["all", 1].coverage == figures["all", 2].coverage == 1.0 and figures["all", 4].coverage == 0.0
    )
