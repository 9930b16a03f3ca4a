"""`wm-robot validate --replay` and `--model-only`: what a log determines, as a table and as JSON."""

import json

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim, pytest.mark.learn, pytest.mark.episodes]

from tests.cli.grades import called
from tests.evaluation.live_run import BASE, SPEC, live_run, make_config
from wm_robot.agent.builder import load_agent
from wm_robot.recording.agent_log import read_agent_log


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    return live_run(BASE, steps=80).save(tmp_path_factory.mktemp("session") / "session.mcap")


def test_a_session_and_its_state_at_the_end_are_compared(session, tmp_path):
    agent = load_agent(make_config(BASE), SPEC).agent
    log = read_agent_log(session, SPEC)
    agent.begin(log.initial_action)
    for step in log.steps:
        agent.observe(
            step.obs,
            step.applied,
            step.next_obs,
            valid=step.valid,
            intervention=step.intervention,
            is_new=step.is_new,
        )
    agent.save(tmp_path / "store")
    store = str(tmp_path / "store")
    done = called("validate", BASE, "--replay", session, "--end-state", store, "--json")
    found = json.loads(done.said.splitlines()[-1])
    assert done.code == 0 and found["live"]["equal"] and found["live"]["num_compared"] == found["num_steps"]
    assert found["end_state_difference"] == 0.0
    assert {each["horizon"] for each in found["open_loop"]} == {1, 8, 32}
    assert {each["group"] for each in found["open_loop"]} == {"all", "joints/position", "joints/velocity"}
    assert found["uncertainty"] == "calibrated" and found["commands"]["count"] > 70
    table = called("validate", BASE, "--replay", session, "--state", store)
    assert table.code == 0 and "steps differ from the live run" in table.said


def test_a_recording_that_is_not_there_is_refused_before_anything_is_loaded(tmp_path):
    done = called("validate", BASE, "--replay", tmp_path / "nothing.mcap")
    assert done.code == 2 and "does not exist" in done.said


def test_the_world_model_is_judged_on_a_session(session):
    done = called("validate", BASE, "--model-only", "--logs", session, "--json")
    found = json.loads(done.said.splitlines()[-1])
    assert done.code == 0 and {each["model"] for each in found["figures"]} == {
        "world model",
        "simulator",
        "least squares",
    }
