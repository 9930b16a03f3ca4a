"""A replay of a recorded session equals the live run: surprise at every step, and the lifetime state at the end."""

import json
from dataclasses import asdict

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim, pytest.mark.learn, pytest.mark.episodes]

from tests.evaluation.live_run import BASE, LOST_ACTION, LOST_STATE, SPEC, STOPPED, live_run, make_config
from tests.recording.sessions import PERIOD, START, record, text
from wm_robot.agent.builder import load_agent
from wm_robot.evaluation.validation.command_comparison import CommandComparison
from wm_robot.evaluation.validation.open_loop_models import AgentPredictions, BasePredictions
from wm_robot.evaluation.validation.replay import SAME, compare_states, replay_log
from wm_robot.model.base import load_base
from wm_robot.recording.agent_log import read_agent_log
from wm_robot.safety.logged_gate import LoggedGate
from wm_robot.spec import make_home_obs
from wm_robot.streams.transition_record import TransitionRecord

STEPS = 120


@pytest.fixture(scope="module")
def live():
    return live_run(BASE, steps=STEPS)


@pytest.fixture(scope="module")
def session(live, tmp_path_factory):
    return live.save(tmp_path_factory.mktemp("session") / "session.mcap")


@pytest.fixture(scope="module")
def replayed(session):
    agent = load_agent(make_config(BASE), SPEC).agent
    log = read_agent_log(session, SPEC)
    return agent, log, replay_log(agent, log, AgentPredictions(agent), SPEC)


def test_the_surprise_of_every_step_equals_that_of_the_live_run(live, replayed):
    _, log, found = replayed
    assert log.is_live and len(log.steps) == len(live.surprises) > STEPS - 5
    assert np.abs(np.array(found.surprises) - live.surprises).max() <= SAME
    assert found.live is not None and found.live.is_equal
    assert found.live.num_compared == len(live.surprises) and found.live.first_different is None
    assert found.live.max_prediction_difference <= SAME


def test_whether_it_learned_and_where_it_began_is_read_from_its_counters(replayed, tmp_path):
    _, log, found = replayed
    assert log.learning is True and log.num_updates_before == 0 and not found.notes
    frozen = live_run(BASE, steps=30, learning=False, faults=False)
    path = frozen.save(tmp_path / "frozen.mcap")
    log = read_agent_log(path, SPEC)
    assert log.learning is False and log.num_updates_before == 0
    agent = load_agent(make_config(BASE, learning=False), SPEC).agent
    again = replay_log(agent, log, AgentPredictions(agent), SPEC)
    assert again.live is not None and again.live.is_equal and again.num_updates == 0
    own = [one for one in frozen.said if one[0] in ("agent/prediction", "agent/surprise")]
    late = [one for one in frozen.said if all(one is not gone for gone in own[:-10])]
    record(tmp_path / "late.mcap", late, robot="")
    (note,) = read_agent_log(tmp_path / "late.mcap", SPEC).notes
    assert note.startswith("the agent took 20 transitions, and 5 of them are in the log")


def test_the_lifetime_state_at_the_end_equals_that_of_the_live_run(live, replayed):
    agent, _, found = replayed
    assert compare_states(agent.state, live.flat_state) <= SAME
    assert found.num_updates == live.flat_state["step"][0] > 80


def test_a_step_without_observation_or_action_is_invalid_and_one_with_an_intervention_is_marked(replayed):
    _, log, found = replayed
    at = {(step.stamp - START) // PERIOD: step for step in log.steps}
    assert LOST_STATE not in at and not at[LOST_STATE + 1].valid and not at[LOST_ACTION].valid
    assert at[STOPPED].intervention and at[STOPPED].valid
    assert sum(step.intervention for step in log.steps) == 1
    # Ten steps from an intervention on are not learned from.
    assert found.report.num_valid == len(log.steps) - 2 and found.report.num_excluded >= 10


def test_what_the_agent_recorded_of_its_transitions_comes_before_what_is_inferred(live, session, tmp_path):
    # Its own action of step 70 had not arrived, and it used another.
    inferred = read_agent_log(session, SPEC)
    said = list(live.said)
    for step in inferred.steps:
        late = step.stamp == START + 70 * PERIOD
        record_of_step = TransitionRecord(
            start=step.stamp - PERIOD,
            stamp=step.stamp,
            valid=step.valid and not late,
            intervention=False,
            has_acted=True,
            surprise=1.5,
            applied=np.float32([7, 0, 0, 0, 0, 0]) if late else None,
        )
        if step.stamp != START + (LOST_STATE + 1) * PERIOD:
            values = asdict(record_of_step)
            if values["applied"] is None:
                del values["applied"]
            else:
                values["applied"] = values["applied"].tolist()
            said.append(text("agent/transition", json.dumps(values)))
    said.append(text("agent/transition", "nothing that can be read"))
    record(tmp_path / "recorded.mcap", said, robot="")
    log = read_agent_log(tmp_path / "recorded.mcap", SPEC)
    assert log.is_live and len(log.steps) == len(inferred.steps) - 1
    at = {(step.stamp - START) // PERIOD: step for step in log.steps}
    assert not at[70].valid and at[70].applied[0] == 7 and at[71].valid and at[71].applied[0] != 7
    assert not at[STOPPED].intervention and {step.surprise for step in log.steps} == {1.5}


def test_open_loop_figures_equal_those_of_the_definition(replayed):
    agent, log, found = replayed
    # Recomputed by hand: predictions from every eighth step, over steps without a gap.
    again = load_agent(make_config(BASE), SPEC).agent
    again.begin(log.initial_action)
    states = []
    for step in log.steps:
        again.observe(
            step.obs,
            step.applied,
            step.next_obs,
            valid=step.valid,
            intervention=step.intervention,
            is_new=step.is_new,
        )
        states.append(again.state)
    errors, inside = [], []
    for start in range(0, len(log.steps) - 8, 8):
        window = log.steps[start + 1 : start + 9]
        if all(step.valid and step.continues for step in window):
            plan = np.stack([step.applied for step in window])
            predicted = again.predict_outcome(log.steps[start].next_obs, plan, states[start])
            errors.append(window[-1].next_obs - predicted.mean[-1])
            inside.append(np.abs(errors[-1]) <= predicted.deviation[-1])
    position = found.report.find_figure("joints/position", 8)
    assert position.count == len(errors) >= 8
    assert position.error == pytest.approx(np.sqrt(np.square(np.array(errors)[:, :6]).mean()), rel=1e-5)
    assert position.coverage == pytest.approx(np.array(inside)[:, :6].mean())
    assert position.ratio < 0.5 < found.report.find_figure("all", 8).coverage
    assert found.report.find_figure("joints/velocity", 32).count >= 1


def test_a_batch_of_predictions_with_the_whole_uncertainty_has_the_errors_of_single_ones(session, replayed):
    agent = load_agent(make_config(BASE), SPEC).agent
    whole = replay_log(agent, read_agent_log(session, SPEC), BasePredictions(load_base(BASE)), SPEC)
    for horizon, tolerance in ((1, 1e-4), (8, 0.2), (32, 0.2)):
        one, other = (each.report.find_figure("all", horizon) for each in (whole, replayed[2]))
        # The agent publishes steps one after another, and plans with latents: equal for one step, and close for more.
        assert one.ratio == pytest.approx(other.ratio, rel=tolerance) and one.count == other.count
        # What the state does not know widens the deviations.
        assert one.coverage >= other.coverage


def test_another_state_than_that_of_the_start_is_found(session, live, tmp_path):
    agent = load_agent(make_config(BASE), SPEC).agent
    log = read_agent_log(session, SPEC)
    agent.begin(log.initial_action)
    for step in log.steps[:30]:
        agent.observe(step.obs, step.applied, step.next_obs, valid=step.valid)
    agent.save(tmp_path / "store")
    other = replay_log(agent, log, AgentPredictions(agent), SPEC, restore=tmp_path / "store")
    assert other.live is not None and not other.live.is_equal
    assert other.live.num_different > 50 and other.live.first_different == log.steps[0].stamp
    assert compare_states(agent.state, live.flat_state) > SAME


def test_an_observation_that_the_recorder_lost_is_a_note_and_a_gap(live, session, tmp_path):
    gone = [one for one in live.said if one[0] == "joint_states"][100]
    record(tmp_path / "cut.mcap", [one for one in live.said if one is not gone], robot="")
    whole, log = read_agent_log(session, SPEC), read_agent_log(tmp_path / "cut.mcap", SPEC)
    assert not whole.notes and log.notes == ("1 transitions of the agent lack an observation in the log",)
    assert len(log.steps) == len(whole.steps) - 1
    assert sum(not step.valid for step in log.steps) == sum(not step.valid for step in whole.steps) + 1


def test_a_shadow_is_compared_with_what_another_controller_applied(tmp_path):
    path = live_run(BASE, steps=40, driver="shadow", faults=False).save(tmp_path / "shadow.mcap")
    log = read_agent_log(path, SPEC, agent="shadow")
    agent = load_agent(make_config(BASE), SPEC).agent
    gate = LoggedGate(SPEC, log.initial_action)
    found = replay_log(agent, log, AgentPredictions(agent), SPEC, gate=gate)
    assert found.live is not None and found.live.is_equal
    apart = np.stack([np.abs(step.command - step.applied) for step in log.steps if step.command is not None])
    shares = apart / (SPEC.action_high - SPEC.action_low)
    told = found.report.commands
    assert told["count"] == len(apart) == len(log.steps)
    assert told["distance"]["mean"] == pytest.approx(shares.mean()) and told["distance"]["mean"] > 0.001
    assert told["distance"]["largest"] == pytest.approx(shares.max())
    assert told["by_actuator"] == pytest.approx(dict(zip(SPEC.action_names, apart.mean(0), strict=True)))
    # Seen as the agent that drives, it has no log of its own: every message counts, and nothing is compared.
    other = read_agent_log(path, SPEC)
    assert not other.is_live and all(step.command is None for step in other.steps)


def test_a_command_beyond_the_limits_is_named_by_its_rule():
    gate = LoggedGate(SPEC, SPEC.home_action)
    comparison = CommandComparison(SPEC, gate)
    obs, hold = make_home_obs(SPEC), SPEC.home_action
    comparison.add_step(hold, obs, 0, hold)
    comparison.add_step(hold + 3 * SPEC.action_step, obs, PERIOD, hold)
    comparison.add_step(None, obs, 2 * PERIOD, hold)
    told = comparison.to_dict()
    assert told["count"] == 2 and told["violations"]["rate"] == 1 and told["limited_share"] == 0.5
    assert told["distance"]["largest"] == pytest.approx(
        (3 * SPEC.action_step / (SPEC.action_high - SPEC.action_low)).max(), rel=1e-4
    )
