"""The plant as a process: whose turn it is, what stops it, and what lets it go on."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim]

from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, String
from std_srvs.srv import Trigger

from wm_robot.robots import load_spec
from wm_robot.safety.heartbeat import Heartbeat
from wm_robot_benchmarks.fault_injection.stop_faults import fork_process
from wm_robot_ros.middleware import convert
from wm_robot_ros.middleware.environment import make_node_command
from wm_robot_ros.middleware.qos import SENSOR_QOS

SPEC = load_spec("arm")
FAKE = str(Path(__file__).with_name("fake_agent.py"))


class Plant:
    """A plant node, and what it says."""

    def __init__(self, start, peer, **parameters):
        self._peer = peer
        start(make_node_command("plant_node", {"seed": 1, "status_rate": 50.0, **parameters}))
        self._applied, self._status = (
            peer.hear(JointState, "applied_command"),
            peer.hear(String, "plant/status"),
        )
        self._speak = peer.speak(JointState, "joint_command")
        peer.until(lambda: self._applied and self._status, "the plant says nothing")
        self.start = self.applied

    @property
    def applied(self):
        return convert.decode_action_message(self._applied[-1], SPEC)

    @property
    def status(self):
        return convert.decode_json_message(self._status[-1])

    def send(self, wanted, **changes):
        message = convert.make_action_message(np.asarray(wanted, np.float32), SPEC, self._peer.now())
        for field, value in changes.items():
            setattr(message, field, value)
        self._speak.publish(message)
        return True

    def until(self, mode, *, sending=None):
        def there():
            if sending is not None:
                self.send(sending)
            return self.status["mode"] == mode

        self._peer.until(there, f"it does not come to {mode}; it is in {self.status}")

    def ask(self, service):
        client = self._peer.node.create_client(Trigger, f"plant/{service}")
        self._peer.until(client.service_is_ready, f"no service {service}")
        future = client.call_async(Trigger.Request())
        self._peer.until(future.done, f"no answer from {service}")
        return future.result()


def test_after_one_broken_command_it_holds_until_somebody_arms_it(start, peer):
    plant = Plant(start, peer)
    diagnostics = peer.hear(DiagnosticArray, "/diagnostics")
    assert plant.status["mode"] == "ready"
    plant.until("learned", sending=plant.start)
    plant.send(plant.start, position=[math.nan] * SPEC.action_dim)
    plant.until("hold")
    assert "is not finite" in plant.status["reason"]
    elsewhere = plant.start + np.float32(0.05)
    for _ in range(20):
        plant.send(elsewhere)
        peer.spin(0.02)
    assert plant.status["mode"] == "hold"
    np.testing.assert_allclose(plant.applied, plant.start, atol=1e-6)
    diagnostics.clear()
    peer.until(
        lambda: any("safety" in one.name for message in diagnostics for one in message.status), "no word"
    )
    (safety,) = [one for one in diagnostics[-1].status if one.name == "plant: safety"]
    assert safety.message.startswith("hold: ") and {each.key for each in safety.values} >= {
        "mode",
        "violations_finite",
    }
    assert plant.ask("arm").success
    plant.until("learned", sending=elsewhere)
    peer.until(
        lambda: plant.send(elsewhere) and np.allclose(plant.applied, elsewhere, atol=1e-6), "not followed"
    )


def test_the_gate_says_what_it_cut(start, peer):
    plant = Plant(start, peer)
    plant.until("learned", sending=plant.start)
    far = plant.start.copy()
    far[0] = 9.0
    peer.until(lambda: plant.send(far) and plant.status["gate"]["violations"]["range"] > 0, "nothing is cut")
    assert plant.status["gate"]["last_violation"]["quantity"] == "base_yaw"
    json.dumps(plant.status, allow_nan=False)


def test_unarmed_it_follows_nobody_and_armed_it_goes_home_first(start, peer):
    plant = Plant(start, peer, armed=False)
    for _ in range(20):
        plant.send(plant.start + np.float32(0.05))
        peer.spin(0.02)
    assert plant.status["mode"] == "limp"
    np.testing.assert_allclose(plant.applied, plant.start, atol=1e-6)
    assert plant.ask("arm").success
    plant.until("learned", sending=np.zeros(SPEC.action_dim))
    np.testing.assert_allclose(plant.applied, np.zeros(SPEC.action_dim), atol=0.05)
    assert plant.ask("disarm").success
    plant.until("limp")


def beat_for_ever(page):
    heartbeat = Heartbeat(page)
    while True:
        heartbeat.beat()
        time.sleep(0.005)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=lambda how: how.name)
def test_when_control_dies_the_guard_stops_the_plant_and_only_a_person_lets_it_go_on(
    start, peer, tmp_path, how
):
    page = tmp_path / "page"
    # Longer than by default: here other work may keep control waiting.
    command = [sys.executable, "-m", "wm_robot_cli", "guard", str(page), "--limit-ms", "500"]
    guard = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert guard.stdout.readline().startswith("guarding")
    control = fork_process(lambda: beat_for_ever(page))
    try:
        plant = Plant(start, peer, heartbeat_file=str(page))
        if plant.status["mode"] == "safe-stop":
            # On a busy machine the guard's own rounds may have been late.
            plant.ask("arm")
        plant.until("learned", sending=plant.start)
        os.kill(control, how)
        plant.until("safe-stop")
        assert "control process" in plant.status["reason"] or "guard does not run" in plant.status["reason"]
        for _ in range(20):
            plant.send(plant.start + np.float32(0.05))
            peer.spin(0.02)
        assert plant.status["mode"] == "safe-stop"
    finally:
        os.kill(control, signal.SIGKILL)
        os.waitpid(control, 0)
        guard.terminate()
        guard.wait()
        guard.stdout.close()


def test_a_plant_whose_guard_is_gone_stands_still(start, peer, tmp_path):
    plant = Plant(start, peer, heartbeat_file=str(tmp_path / "page"))
    plant.until("safe-stop")
    assert "the guard does not run" in plant.status["reason"]
    answer = plant.ask("arm")
    assert not answer.success and "the guard does not run" in answer.message


def test_a_plant_that_wants_a_signed_spec_does_not_start_without(start, tmp_path):
    pytest.importorskip("cryptography")
    process = start(make_node_command("plant_node", {"require_signed": True, "keys": str(tmp_path / "keys")}))
    assert process.wait_for_exit(20) == 2
    (log,) = tmp_path.glob("node*.log")
    assert "arm.yaml is not signed" in log.read_text() and "Traceback" not in log.read_text()


def test_an_agent_tells_the_guard_that_it_gets_on_while_it_acts(start, peer, environment, tmp_path):
    environment["NOTEBOOK"] = str(tmp_path / "notebook")
    page = Heartbeat(tmp_path / "page")
    command = make_node_command(
        "agent_node", {"robot": "arm", "autostart": True, "heartbeat_file": str(page.path)}
    )
    process = start([sys.executable, FAKE, *command[3:]])
    peer.until(lambda: page.driver == process.pid, "the agent does not say that it drives")
    count = page.num_beats
    peer.until(lambda: page.num_beats > count + 20, "the agent does not say that it gets on")
    process.stop_process()
    assert page.driver == 0
    page.close()


class Agent:
    """Plays the agent to a plant: it answers each observation, and says how it does."""

    def __init__(self, plant, peer):
        self.plant, self._peer, self.answers = plant, peer, True
        self.answered = 0
        self._surprise, self._status = (
            peer.speak(Float64, "agent/surprise"),
            peer.speak(String, "agent/status"),
        )
        # In the callback, so that it is as quick as it can be where other work shares the machine.
        peer.node.create_subscription(JointState, "joint_states", self._answer, SENSOR_QOS)

    def _answer(self, message):
        if self.answers:
            answer = convert.make_action_message(self.plant.start, SPEC, convert.read_stamp(message))
            self.plant._speak.publish(answer)
            self.answered += 1

    def be_surprised(self, nats):
        self._surprise.publish(convert.make_number_message(nats))

    def say(self, **status):
        self._status.publish(convert.make_json_message({"active": True, "fault": ""} | status))

    def until(self, mode, doing=lambda: None):
        def there():
            doing()
            return self.plant.status["mode"] == mode

        self._peer.until(there, f"it does not come to {mode}; it is in {self.plant.status}")


def test_an_agent_that_is_surprised_again_and_again_loses_its_turn(start, peer):
    plant = Plant(start, peer, hold_if_late=False)
    agent = Agent(plant, peer)
    agent.until("learned")
    # Once is nothing, however much it is.
    agent.be_surprised(1e6)
    peer.spin(0.3)
    assert plant.status["mode"] == "learned"
    agent.until("hold", lambda: agent.be_surprised(SPEC.safety.surprise_threshold + 1))
    assert plant.status["reason"].startswith("surprise above 100 nats in ")
    assert plant.ask("arm").success
    agent.until("learned")


def test_an_agent_that_owes_answers_loses_its_turn(start, peer):
    plant = Plant(start, peer, **{"command.timeout": 30.0})
    agent = Agent(plant, peer)
    # Nobody is late who does not answer: commands of a person have stamps of their own.
    plant.until("learned", sending=plant.start)
    agent.answers = False
    peer.spin(0.3)
    assert plant.status["mode"] in ("learned", "hold")
    if plant.status["mode"] == "hold":
        # On a busy machine the first answers may have been late.
        plant.ask("arm")
    agent.answers = True
    before = agent.answered
    peer.until(lambda: agent.answered > before, "no observation")
    agent.answers = False
    agent.until("hold")
    assert "deadlines missed" in plant.status["reason"]
    assert plant.status["commands"]["unanswered"] >= SPEC.safety.missed_deadline_count_window[0]


def test_an_agent_that_ends_in_order_is_not_late(start, peer):
    plant = Plant(start, peer, hold_if_late=False, **{"command.timeout": 30.0})
    agent = Agent(plant, peer)
    agent.until("learned", agent.say)
    agent.answers = False
    agent.until("ready", lambda: agent.say(active=False))
    assert plant.status["reason"] == "the controller stopped sending commands" and plant.status["holding"]
    agent.answers = True
    agent.until("learned", agent.say)


def test_an_agent_that_stops_by_an_error_ends_in_hold_and_the_reason_is_its_own(start, peer):
    plant = Plant(start, peer, hold_if_late=False)
    agent = Agent(plant, peer)
    agent.until("learned", agent.say)
    agent.answers = False
    agent.until("hold", lambda: agent.say(active=False, fault="ValueError: no plan"))
    assert plant.status["reason"] == "the agent stopped: ValueError: no plan"
    # It is armed again by a person, though the agent goes on saying so.
    agent.say(active=False, fault="ValueError: no plan")
    assert plant.ask("arm").success
    plant.until("ready")


def test_the_plant_publishes_its_interventions(start, peer):
    plant = Plant(start, peer, hold_if_late=False)
    interventions = peer.hear(String, "plant/intervention")
    agent = Agent(plant, peer)
    agent.until("learned")
    peer.spin(0.2)
    assert not interventions
    plant.send(plant.start, position=[math.nan] * SPEC.action_dim)
    plant.until("hold")
    peer.until(lambda: interventions, "no intervention")
    said = convert.decode_json_message(interventions[-1])
    assert said["mode"] == "hold" and said["stamp"] in {convert.read_stamp(one) for one in plant._applied}


def test_a_plant_writes_down_every_period(start, peer, tmp_path):
    log, report = tmp_path / "log.ndjson", tmp_path / "report.json"
    process = start(
        make_node_command(
            "plant_node", {"log": str(log), "report": str(report), "duration": 1.0, "hold_if_late": False}
        )
    )
    applied = peer.hear(JointState, "applied_command")
    speak = peer.speak(JointState, "joint_command")
    peer.until(lambda: applied, "the plant says nothing")
    speak.publish(
        convert.make_action_message(convert.decode_action_message(applied[-1], SPEC), SPEC, peer.now())
    )
    assert process.wait_for_exit(30) == 0
    told, lines = json.loads(report.read_text()), [json.loads(line) for line in log.read_text().splitlines()]
    assert told["log"] == {"alive": True, "dropped": 0}
    assert len(lines) == told["periods"] and {"ready", "learned"} <= {line["mode"] for line in lines}
    stamps = [line["stamp"] for line in lines]
    assert stamps == sorted(set(stamps)) and {convert.read_stamp(one) for one in applied[:-1]} <= set(stamps)
    assert all(line["late_ms"] >= 0 for line in lines)
    # The one command that was sent, and no other.
    assert sum("latency_ms" in line for line in lines) == told["commands"]["accepted"] == 1
