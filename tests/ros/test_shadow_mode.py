"""Shadow mode: a candidate runs beside the agent that drives a robot, and no plant gets its commands."""

import json
import subprocess
import sys
from collections import Counter

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim, pytest.mark.learn, pytest.mark.timeout(240)]

from std_msgs.msg import String

from tests.evaluation.live_run import BASE, SPEC
from tests.ros.built import need_messages
from wm_robot.agent.builder import AgentConfig, load_agent
from wm_robot.evaluation.validation.open_loop_models import AgentPredictions
from wm_robot.evaluation.validation.replay import SAME, replay_log
from wm_robot.recording.agent_log import read_agent_log
from wm_robot.recording.session_file import read_session
from wm_robot.safety.logged_gate import LoggedGate
from wm_robot_ros.middleware.convert import decode_json_message, read_stamp
from wm_robot_ros.middleware.environment import make_node_command
from wm_robot_ros.middleware.qos import LATCHED_QOS

SECONDS = 6.0


def listen(peer, topic):
    heard = []
    peer.node.create_subscription(
        String, topic, lambda message: heard.append(decode_json_message(message)), LATCHED_QOS
    )
    return heard


@pytest.fixture
def run(start, peer, tmp_path):
    """One run of plant, driving agent, shadow and recorder, until the plant has ended."""
    session = tmp_path / "session.mcap"
    recorder = start(make_node_command("recorder_node", {"path": str(session), "agents": "agent,shadow"}))
    shared = {"base": str(BASE), "autostart": True}
    shadow = start(make_node_command("agent_node", {**shared, "shadow": True, "seed": 9}, name="shadow"))
    reports, statuses = listen(peer, "shadow/report"), listen(peer, "shadow/status")
    peer.until(lambda: any(each["active"] for each in statuses), "the shadow is not active", timeout=90)
    agent = start(make_node_command("agent_node", {**shared, "min_subscribers": 1}))
    drivers = listen(peer, "agent/status")
    peer.until(lambda: any(each["active"] for each in drivers), "the agent is not active", timeout=90)
    plant = start(
        make_node_command("plant_node", {"duration": SECONDS, "hold_if_late": False, "min_subscribers": 3})
    )
    names = Counter()
    peer.until(lambda: statuses[-1]["num_actions"] > 50, "the shadow does not answer", timeout=60)
    for info in peer.node.get_publishers_info_by_topic("joint_command"):
        names[info.node_name] += 1
    peer.until(lambda: not plant.is_running, "the plant goes on", timeout=60)
    peer.spin(1.0)
    for process in (shadow, agent):
        assert process.stop_process(kill_timeout=20) == 0
    peer.spin(0.5)
    assert recorder.stop_process(kill_timeout=20) == 0
    return session, names, reports[-1], statuses, drivers


@pytest.mark.alone
def test_a_shadow_commands_nothing_and_both_agents_equal_their_replays(run):
    session, names, report, statuses, drivers = run
    # No publisher of commands but the agent that drives, and no message that it did not send.
    assert names == {"agent": 1}
    topics = read_session(session).topics
    sent = [read_stamp(message) for _, message in topics["/joint_command"]]
    would = [read_stamp(message) for _, message in topics["/shadow/shadow_command"]]
    assert len(sent) == len(set(sent)) == drivers[-1]["num_actions"] > 50
    assert len(would) == statuses[-1]["num_actions"] > 50
    assert statuses[-1]["shadow"] is True and drivers[-1]["shadow"] is False
    for name, seed, mine in (("agent", 0, drivers), ("shadow", 9, statuses)):
        log = read_agent_log(session, SPEC, agent=name)
        agent = load_agent(AgentConfig(base=str(BASE), task="reach", seed=seed), SPEC).agent
        gate = LoggedGate(SPEC, log.steps[0].applied)
        found = replay_log(agent, log, AgentPredictions(agent), SPEC, gate=gate)
        lived = mine[-1]["lifetime"]
        # A busy machine misses periods, so that few transitions are valid; those that are not are replayed too.
        assert log.is_live and log.learning is not False and not found.notes
        assert len(log.steps) == lived["num_valid"] + lived["num_invalid"] > 50
        assert found.live is not None and found.live.is_equal, found.live
        assert found.num_updates == lived["num_steps"]
    again = found.report.to_dict()
    # The report of live topics is that of the replay.
    assert report["num_steps"] == again["num_steps"] and report["num_excluded"] == again["num_excluded"]
    assert report["surprise"] == pytest.approx(again["surprise"], abs=SAME)
    known = {(each["group"], each["horizon"]): each for each in again["open_loop"]}
    for each in report["open_loop"]:
        other = known[each["group"], each["horizon"]]
        # The last predictions wait for outcomes that no longer come.
        assert each["count"] <= other["count"] <= each["count"] + 4
        if 0 < each["count"] == other["count"]:
            assert each["ratio"] == pytest.approx(other["ratio"], rel=1e-4)
    assert report["commands"]["count"] == again["commands"]["count"] > 50
    assert report["commands"]["distance"] == pytest.approx(again["commands"]["distance"], abs=SAME)
    assert report["commands"]["violations"] == again["commands"]["violations"]
    assert 0 < report["commands"]["distance"]["mean"] < 0.5


@pytest.mark.parametrize(
    ("parameters", "name", "told"),
    [
        ({}, "", "the node is called 'agent', whose status and surprise a plant reads"),
        ({"heartbeat_file": "/dev/shm/none"}, "shadow", "a guard watches the agent that drives"),
    ],
)
def test_what_would_take_a_shadow_for_the_driver_is_refused(start, tmp_path, parameters, name, told):
    command = make_node_command("agent_node", {"base": str(BASE), "shadow": True, **parameters}, name=name)
    assert start(command).wait_for_exit(30) == 2
    assert told in (tmp_path / "node0.log").read_text()


def test_one_command_gives_the_report_of_a_shadow_beside_a_running_robot(start, peer, environment):
    need_messages()
    plant = {"duration": 60.0, "hold_if_late": False}
    start(make_node_command("plant_node", plant, namespace="left"))
    start(make_node_command("agent_node", {"base": str(BASE), "autostart": True}, namespace="left"))
    drivers = listen(peer, "left/agent/status")
    peer.until(lambda: drivers and drivers[-1]["num_actions"] > 5, "the agent does not drive", timeout=90)
    command = [sys.executable, "-m", "wm_robot_cli", "up", "shadow", "namespace:=left", "seconds:=1"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(next(line for line in done.stdout.splitlines() if line.startswith('{"success"')))
    told = {each["name"]: each["value"] for each in result["metrics"]}
    assert result["success"] and result["steps"] >= 50 and told["num_valid"] > 5
    assert {"surprise/median", "open_loop/joints/position/8/coverage", "commands/distance/mean"} <= set(told)
    assert not drivers[-1]["fault"]
