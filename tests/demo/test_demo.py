"""The demo as people start it, with small untrained bases: that everything runs, ends and is left in order."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from wm_robot.recording.session_file import read_session
from wm_robot.store.store import Store

pytestmark = [
    pytest.mark.ros,
    pytest.mark.sim,
    pytest.mark.learn,
    pytest.mark.alone,
    pytest.mark.timeout(180),
]


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    import torch

    from wm_robot.model.base import save_base
    from wm_robot.model.config import ModelConfig
    from wm_robot.model.world_model import WorldModel
    from wm_robot.robots import load_spec
    from wm_robot_sim.worlds import DomainRandomization

    folder, spec = tmp_path_factory.mktemp("bases"), load_spec("arm")
    torch.manual_seed(0)
    digests, truth = {}, len(DomainRandomization(spec).parameter_names)
    for name, memory in (("learns", "gru"), ("frozen", "null")):
        config = ModelConfig.from_spec(spec, truth=truth, memory=memory, width=16, context=8)
        digests[name] = save_base(folder / name, WorldModel(config), spec, card={})
    return folder, digests["learns"], spec.compute_digest()


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("demo") / "out"


def command(out: Path, bases: Path, *options: str) -> list[str]:
    verb = [sys.executable, "-m", "wm_robot_cli", "demo", "--quick", "--out", str(out)]
    return [*verb, "--base", str(bases / "learns"), "--frozen", str(bases / "frozen"), *options]


@pytest.fixture(scope="module")
def finished(out, bases):
    began = time.monotonic()
    done = subprocess.run(command(out, bases[0]), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, time.monotonic() - began


def left_running(out: Path) -> list[int]:
    """Processes that were started for this folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(out).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_it_leaves_report_recording_and_state_and_nothing_running(finished, out):
    text, seconds = finished
    assert seconds < 100, f"{seconds:.0f} s; about 40 s on two quiet cores"
    assert {"report.html", "session.mcap", "state", "logs"} <= {path.name for path in out.iterdir()}
    assert str(out / "report.html") in text
    assert left_running(out) == []


def test_without_a_terminal_it_prints_plain_lines(finished):
    text, _ = finished
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)
    assert "The adaptive arm starts from the initial state" in text
    assert re.search(r"^ *\d+\.\d s  adaptive \d+ mm, frozen \d+ mm, latency p99 ", text, re.MULTILINE)
    assert re.search(r"The world has changed: a damaged cable harness", text)


def test_the_report_stands_alone(finished, out):
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "://" not in page and len(page.encode()) < 5_000_000
    for figure in ("first-visit", "surprise", "foresight", "second-visit", "latency"):
        assert f'id="{figure}-' in page
    # No physical parameter has changed.
    assert 'id="belief-' not in page
    assert "wm-robot demo" in page and "--fresh" in page


def test_the_recording_holds_every_topic_of_every_robot(finished, out):
    session = read_session(out / "session.mcap")
    assert session.is_whole and "/diagnostics" in session.topics
    for robot in ("adaptive", "frozen", "restored", "newborn"):
        for name in (
            "joint_states",
            "applied_command",
            "joint_command",
            "target",
            "ground_truth/gripper",
            "ground_truth/event",
            "agent/status",
            "agent/surprise",
        ):
            assert session.topics.get(f"/{robot}/{name}"), f"{robot}/{name}"


def test_another_reader_agrees_with_the_recording(finished, out):
    from rosbags.highlevel import AnyReader

    with AnyReader([out / "session.mcap"]) as reader:
        types = {c.topic: c.msgtype for c in reader.connections}
        messages = sum(1 for _ in reader.messages())
    assert types["/adaptive/joint_states"] == "sensor_msgs/msg/JointState"
    assert types["/frozen/ground_truth/event"] == "std_msgs/msg/String"
    assert messages == sum(len(topic) for topic in read_session(out / "session.mcap").topics.values())


def test_both_arms_met_the_same_change_at_the_same_time_of_their_lives(finished, out):
    from wm_robot.robots import load_spec
    from wm_robot_demo.load_session import read_robot_recording

    session, spec = read_session(out / "session.mcap"), load_spec("arm")
    adaptive, frozen = (read_robot_recording(session, name, spec, "reach") for name in ("adaptive", "frozen"))
    assert adaptive.worlds == frozen.worlds
    assert [effect["kind"] for effect in adaptive.worlds["change"]["effects"]] == ["command_mixing"]
    assert adaptive.change_time == pytest.approx(frozen.change_time, abs=0.3)
    one, other = (told.target[told.time >= 0] for told in (adaptive, frozen))
    # The same path, at whatever pace a busy machine lets them go along it.
    apart = np.linalg.norm(one[:200, None] - other[None, :300], axis=-1).min(1)
    assert apart.max() < 0.02
    assert np.linalg.norm(np.ptp(one[:200], axis=0)) > 0.1


def test_the_state_loads_and_has_lived(finished, out, bases):
    _, base, spec = bases
    state = Store(out / "state").load(base_digest=base, spec_digest=spec)
    assert state["step"].max() > 0


@pytest.fixture
def running(finished, out, bases) -> Iterator[subprocess.Popen[str]]:
    """A second run in the same folder, in the middle of its first visit."""
    process = subprocess.Popen(
        command(out, bases[0]), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        said = [""]
        while not re.search(r"s  adaptive \d+ mm", said[-1]):
            said.append(process.stdout.readline())
            assert said[-1], f"it ended before the robots moved: {said}"
        assert "continues from" in "".join(said)
        time.sleep(2.0)
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(10)
        process.stdout.close()


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_everything_and_leaves_valid_files(running, out, bases, end):
    before = Store(out / "state").read_branches()
    asked = time.monotonic()
    running.send_signal(end)
    text, _ = running.communicate(timeout=10)
    assert time.monotonic() - asked < 4, "3 s on quiet cores"
    assert running.returncode == 130
    assert str(out) in text and "Traceback" not in text
    assert left_running(out) == []
    session = read_session(out / "session.mcap")
    assert session.is_whole and session.topics["/adaptive/joint_states"]
    Store(out / "state").load(base_digest=bases[1], spec_digest=bases[2])
    assert Store(out / "state").read_branches() != before
    assert not (out / "report.html").exists()


def test_a_process_that_dies_ends_the_demo_with_its_log(running, out):
    def is_newborn_agent(pid: int) -> bool:
        return b"agent_node" in Path(f"/proc/{pid}/cmdline").read_bytes()

    os.kill(next(pid for pid in left_running(out) if is_newborn_agent(pid)), signal.SIGKILL)
    text, _ = running.communicate(timeout=10)
    assert running.returncode == 1
    assert "'adaptive-agent' ended with code -9" in text and "adaptive-agent.log" in text
    assert left_running(out) == []


def test_when_the_demo_is_killed_its_processes_end_too(running, out):
    running.kill()
    running.wait()
    deadline = time.monotonic() + 8
    while left_running(out) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left_running(out) == []


def test_a_missing_base_is_named_at_once(tmp_path):
    done = subprocess.run(command(tmp_path / "out", tmp_path), capture_output=True, text=True, timeout=20)
    assert done.returncode == 2
    assert "no base in" in done.stderr and "wm-robot train" in done.stderr
