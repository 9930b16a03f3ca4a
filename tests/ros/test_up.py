"""`wm-robot up`: a whole graph in processes of its own, from the command line to its end."""

import json
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim, pytest.mark.learn]

from tests.ros.built import need_messages

need_messages()

from tests.recording.bags import write_bag
from tests.recording.sessions import record, step_of
from tests.ros.small_life import STEPS, newborn, recorded_arm
from wm_robot.errors import ConfigError, SpecError, WmRobotError
from wm_robot.model.base import save_base
from wm_robot.model.config import ModelConfig
from wm_robot.model.world_model import WorldModel
from wm_robot.recording.session_file import read_session
from wm_robot.robots import load_spec
from wm_robot.store.store import Store
from wm_robot_ros.launching import bringup
from wm_robot_ros.middleware.environment import make_node_command
from wm_robot_sim.worlds import DomainRandomization

ROOT = Path(__file__).parents[2]
UP = [sys.executable, "-m", "wm_robot_cli", "up"]


def up(environment, *arguments, timeout=110):
    command = [*UP, *map(str, arguments)]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=timeout)


def children_of(pid):
    """Processes that it started, by their parent's number in /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
        except (OSError, IndexError):
            continue
    return found


class Running:
    """`wm-robot up` of a graph, and what it says."""

    def __init__(self, process, log):
        self.process, self.log = process, log

    @property
    def said(self):
        return self.log.read_text(errors="replace")

    def until(self, words, *, timeout=60):
        deadline = time.monotonic() + timeout
        while words not in self.said:
            assert time.monotonic() < deadline and self.process.poll() is None, self.said
            time.sleep(0.05)

    def node(self, *words):
        """The process of a node, by words of its command line."""
        for pid in children_of(self.process.pid):
            command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            if all(word in command for word in words):
                return pid
        raise AssertionError(f"no process with {words}")

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(40)


@contextmanager
def running(environment, log, *arguments, folder=ROOT, **options):
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*UP, *map(str, arguments)],
            env=environment,
            cwd=folder,
            stdout=out,
            stderr=subprocess.STDOUT,
            **options,
        )
    try:
        yield Running(process, log)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(40)


def graph_of(path, *nodes):
    """A graph file of nodes that need no life."""
    path.write_text("about: some\narguments: {}\nnodes:\n" + "".join(f"  - {{{node}}}\n" for node in nodes))
    return path


@pytest.fixture
def starts_nothing(monkeypatch):
    """`wm-robot up`, in this process, which fails where it would start one."""
    from wm_robot_cli import up as module

    def refuse(*arguments):
        raise AssertionError("a process was started")

    monkeypatch.setattr(module.os, "execve", refuse)

    def call(graph, *values, **options):
        module.start_graph(graph, values, **options)

    return call


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("simm", ["'simm'", "Did you mean 'sim'?"]),
        ("sim lerning:=true", ["lerning:=true", "Did you mean 'learning'?"]),
        ("sim base=arm-semiparametric", ["'base=arm-semiparametric'", "Write base:=arm-semiparametric"]),
        ("sim seed:=many", ["seed:=many", "Write seed:=0"]),
        ("sim learning:=maybe", ["learning:=maybe", "Write learning:=true"]),
        ("robot plant:=real", ["plant:=real", "Write plant:=sim or plant:=hardware"]),
        ("sim 'namespace:=my robot'", ["namespace:=my robot", "Write namespace:=my_robot"]),
        ("sim base:=arm-semiparametrik", ["base:=arm-semiparametrik", "Did you mean 'arm-semiparametric'?"]),
        ("sim base:=", ["base:=", "the name of a base that ships. Write base:=arm-semiparametric"]),
        ("sim robot:=cartpole", ["base:=bases/arm-semiparametric", "robot 'arm'", "Write robot:=arm"]),
        (
            "sim robot:=quadruped",
            ["base:=bases/arm-semiparametric", "sensor 'base' is in the spec and not in the base"],
        ),
        ("sim robot:=amr", ["robot:=amr", "'arm'"]),
        ("sim plant:=hardware", ["plant:=hardware", "standin/sts3215", "Write plant:=nominal"]),
        ("sim plant:=standin/real", ["plant:=standin/real", "standin/coarse", "Write plant:=nominal"]),
        ("sim world:=wild", ["world:=wild", "nominal, random, or JSON", "Write world:=nominal"]),
        ("sim 'world:={\"paylod\": 1}'", ["paylod", "'payload'"]),
        ("sim record:=README.md", ["record:=README.md", "Write record:=README-2.md"]),
        ("replay recording:=no.mcap", ["recording:=no.mcap", "wm-robot up sim record:=no.mcap"]),
    ],
)
def test_a_mistake_is_answered_before_a_process_starts(starts_nothing, monkeypatch, command, words):
    monkeypatch.chdir(ROOT)
    with pytest.raises(WmRobotError) as refused:
        starts_nothing(*shlex.split(command))
    assert all(word in f"{refused.value}" for word in words), refused.value
    assert "\n" not in f"{refused.value}"


def test_the_arguments_of_a_graph_and_what_the_end_of_each_node_means_are_shown(starts_nothing, capsys):
    starts_nothing("sim", show_args=True)
    said = " ".join(capsys.readouterr().out.split())
    for words in ("namespace of all nodes", "plant required its end stops all nodes"):
        assert words in said
    assert "display optional the other nodes continue without it recorder restarted it is restarted" in said


@pytest.mark.parametrize("domain", [5000, -1])
def test_a_domain_that_ros_does_not_have_is_refused(starts_nothing, monkeypatch, domain):
    with pytest.raises(ConfigError, match=f"--domain is '{domain}'; it must be .* from 0 to 232"):
        starts_nothing("sim", domain=domain)
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    with pytest.raises(ConfigError, match=f"ROS_DOMAIN_ID is '{domain}'.* Run: export ROS_DOMAIN_ID=0"):
        starts_nothing("sim")


def test_a_recording_of_several_robots_is_evaluated_for_the_one_that_is_named(starts_nothing, tmp_path):
    session = tmp_path / "session.mcap"
    record(session, [said for step in range(5) for said in step_of(step)], robot="adaptive")
    for graph, name in (("evaluate", "namespace"), ("replay", "from_robot")):
        with pytest.raises(ConfigError, match=rf"{name}:=adptive: .* Write {name}:=adaptive"):
            starts_nothing(graph, f"recording:={session}", f"{name}:=adptive")
        with pytest.raises(AssertionError, match="a process was started"):
            starts_nothing(graph, f"recording:={session}", f"{name}:=adaptive")


@pytest.mark.parametrize("form", [{"storage": "sqlite3", "compression": "file"}, {"compression": "message"}])
def test_the_robot_of_a_bag_is_checked_as_that_of_a_session_is(starts_nothing, tmp_path, form):
    said = [one for step in range(5) for one in step_of(step)]
    bag = write_bag(tmp_path / "bag", said, robot="adaptive", **form)
    with pytest.raises(ConfigError, match="from_robot:=adptive: .* Write from_robot:=adaptive"):
        starts_nothing("replay", f"recording:={bag}", "from_robot:=adptive")
    with pytest.raises(AssertionError, match="a process was started"):
        starts_nothing("replay", f"recording:={bag}", "from_robot:=adaptive")
    bare = write_bag(
        tmp_path / "bare", [one for one in said if one[0] != "applied_command"], robot="one", **form
    )
    with pytest.raises(SpecError, match="it has no topic /one/applied_command"):
        starts_nothing("replay", f"recording:={bare}", "from_robot:=one")


def test_a_base_that_ships_is_found_from_another_folder(starts_nothing, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for base in ("bases/arm-semiparametric", "arm-semiparametric"):
        with pytest.raises(AssertionError, match="a process was started"):
            starts_nothing("sim", f"base:={base}")


def test_saved_lives_are_evaluated_by_one_command(environment, tmp_path):
    recording, store = recorded_arm(tmp_path), newborn(tmp_path)
    done = up(
        environment,
        "evaluate",
        f"recording:={recording}",
        f"state_store:={store}",
        "base:=bases/arm-semiparametric",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(next(line for line in done.stdout.splitlines() if line.startswith('{"success"')))
    assert result["success"] and result["steps"] == STEPS
    assert [each["digest"] for each in result["snapshots"]] == [Store(store).resolve("main")]
    told = {each["name"]: each["value"] for each in result["metrics"]}
    # What the newborn expects of the next moment is better than that nothing changes.
    assert 0 < told["step_error"] < 1 and told["step_error"] < told["ahead_error"]


def test_a_node_that_cannot_be_brought_up_takes_the_others_down(environment, tmp_path):
    # Held by another life: only the agent itself can say that.
    done = up(environment, "sim", f"save_to:={newborn(tmp_path)}", "display:=false")
    said = (done.stdout + done.stderr).splitlines()
    assert done.returncode == 2 and len(said) <= 15
    words = (
        "lives holds a lifetime state, and initial_state is ''. "
        f"Write initial_state:={tmp_path}/lives to continue it"
    )
    assert any(words in line for line in said)
    assert said[-1].startswith("MemberError: node '/agent' did not configure")


def test_a_node_with_parameters_that_cannot_be_ends_all_with_its_sentence(environment, tmp_path):
    plants = "name: plant, executable: plant_node, namespace: 'left,right', parameters: {seed: many}"
    done = up(environment, graph_of(tmp_path / "graph.yaml", plants))
    said = done.stdout + done.stderr
    assert done.returncode == 2 and "Traceback" not in said and len(said.splitlines()) <= 15
    # Both do; which is the first to be seen is chance.
    assert "/plant is 'many'; it must be a whole number. Write -p seed:=0" in said
    assert "/plant ended with 2; its output is above" in said


@pytest.mark.alone
def test_a_second_robot_of_one_name_is_refused_and_the_first_goes_on(environment, tmp_path):
    graph = graph_of(tmp_path / "graph.yaml", "name: plant, executable: plant_node")
    domain = environment["ROS_DOMAIN_ID"]
    with running(environment, tmp_path / "first", graph) as first:
        first.until("up: /plant (required)")
        command = [*UP, str(graph)]
        others = [
            subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True)
            for _ in range(6)
        ]
        for other in others:
            _, said = other.communicate(timeout=60)
            # One sentence, and nothing was started beside the first.
            assert other.returncode == 2 and len(said.splitlines()) == 1
            assert f"/plant is up already in ROS domain {domain}. " in said
        (remedy,) = re.findall(r"Run: wm-robot up (.*)", said)
        with running(environment, tmp_path / "elsewhere", *shlex.split(remedy)) as elsewhere:
            elsewhere.until("up: /plant (required)")
            assert elsewhere.stop() == 0
        assert first.stop() == 0
    assert "WARN" not in first.said and "ERROR" not in first.said


def test_of_two_that_start_at_one_instant_one_comes_up(environment, tmp_path):
    graph = graph_of(tmp_path / "graph.yaml", "name: plant, executable: plant_node, namespace: 'left,right'")
    with (
        running(environment, tmp_path / "one", graph) as one,
        running(environment, tmp_path / "other", graph) as other,
    ):
        pair, deadline = (one, other), time.monotonic() + 60
        while not any("up: " in each.said for each in pair) or all(
            each.process.poll() is None for each in pair
        ):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        codes = [each.process.poll() for each in pair]
        assert sorted(codes, key=str) == [2, None]
        (winner,) = (each for each in pair if each.process.poll() is None)
        assert winner.stop() == 0


def test_a_node_that_was_started_by_hand_is_not_doubled(environment, start, tmp_path, peer):
    start(make_node_command("plant_node", {}))
    peer.until(lambda: "plant" in peer.node.get_node_names(), "no plant")
    second = up(environment, graph_of(tmp_path / "graph.yaml", "name: plant, executable: plant_node"))
    assert second.returncode == 2 and "/plant is up already" in second.stderr


def test_a_viewer_and_a_recorder_that_end_leave_the_robot_alone(environment, tmp_path):
    session = tmp_path / "session.mcap"
    graph = graph_of(
        tmp_path / "graph.yaml",
        "name: plant, executable: plant_node",
        "name: display, executable: display_node, policy: optional",
        "name: recorder, executable: recorder_node, policy: restarted, restarted_with: {numbered: true},"
        f" parameters: {{path: {session}}}",
    )
    # A file of this size is all that the disk takes: half a second of recording.
    full = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))}
    with running(environment, tmp_path / "log", graph, **full) as robot:
        robot.until("up: /plant (required), /display (optional), /recorder (restarted)")
        os.kill(robot.node("-m", "wm_robot_ros.nodes.display_node"), signal.SIGKILL)
        robot.until("/display ended with -9; its output is above. It is optional; the other nodes continue")
        robot.until(
            "/recorder ended with 1; its output is above. It is restarted in 2 s; the other nodes continue"
        )
        robot.until("/recorder was restarted")
        assert f"{session} is incomplete: [Errno 27] File too large. To recover its messages" in robot.said
        robot.until(f"recording one robot to {tmp_path}/session-2.mcap")
        assert robot.node("-m", "wm_robot_ros.nodes.plant_node")
        assert robot.stop() == 0
    assert "Traceback" not in robot.said
    first = session.read_bytes()
    assert len(first) == 40_000
    done = subprocess.run(
        [sys.executable, "-m", "wm_robot_cli", "recover", str(session)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(read_session(session).topics["/joint_states"]) > 10


def test_a_restarted_node_is_started_again_after_longer_and_longer_waits_and_then_given_up(monkeypatch):
    now = 0.0
    monkeypatch.setattr(bringup, "time", SimpleNamespace(monotonic=lambda: now))
    node = {"name": "recorder", "namespace": "", "executable": "recorder_node", "policy": "restarted"}
    member = bringup.GraphMember(node, {})
    assert [member.record_end() for _ in range(8)] == [2, 4, 8, 16, 32, 60, None, None]
    assert not member.is_waiting
    # One that worked for more than a minute begins at the first wait again.
    now = 61.0
    assert member.record_end() == 2 and member.is_waiting and member.restart_time == 63
    optional = bringup.GraphMember({**node, "policy": "optional"}, {})
    assert optional.record_end() is None and not optional.is_waiting


def test_a_required_node_that_ends_ends_all_with_one(environment, tmp_path):
    graph = graph_of(
        tmp_path / "graph.yaml",
        "name: plant, executable: plant_node",
        "name: display, executable: display_node, policy: optional",
    )
    with running(environment, tmp_path / "log", graph) as robot:
        robot.until("up: /plant")
        nodes = children_of(robot.process.pid)
        os.kill(robot.node("-m", "wm_robot_ros.nodes.plant_node"), signal.SIGKILL)
        assert robot.process.wait(30) == 1
    assert "GraphError: /plant ended with -9; its output is above" in robot.said
    assert len(nodes) == 2 and not any(os.path.exists(f"/proc/{node}") for node in nodes)


def test_ctrl_c_ends_all_of_them_in_order(environment, tmp_path):
    graph = tmp_path / "graph.yaml"
    graph.write_text(
        "about: two\narguments: {}\nnodes:\n"
        "  - {name: plant, executable: plant_node, namespace: 'left,right',\n"
        f"     parameters: {{report: {tmp_path}/$(namespace)}}}}\n"
    )
    with subprocess.Popen(
        [*UP, str(graph)], env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while len(nodes := children_of(process.pid)) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        for line in process.stderr:
            if "up: /left/plant (required), /right/plant (required)" in line:
                break
        # The plants' own handlers are set by then or a moment later.
        time.sleep(3.0)
        process.send_signal(2)
        assert process.wait(30) == 0
        process.stderr.read()
    assert len(nodes) == 2 and not any(os.path.exists(f"/proc/{node}") for node in nodes)
    # Each wrote its report on the way out, which a killed one does not.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["graph.yaml", "left", "right"]


def small_base(folder, robot):
    """A base that was never trained, small enough to be quick."""
    spec = load_spec(robot)
    shape = {"truth": len(DomainRandomization(spec).parameter_names), "width": 16, "blocks": 1}
    save_base(folder, WorldModel(ModelConfig.from_spec(spec, **shape)), spec, {})
    return folder


@pytest.mark.soak
def test_a_robot_without_a_gripper_is_up_with_its_display(environment, tmp_path):
    base = small_base(tmp_path / "base", "cartpole")
    with running(environment, tmp_path / "log", "sim", "robot:=cartpole", f"base:={base}") as robot:
        robot.until("up: /plant (required), /agent (required), /display (optional)")
        robot.until("[plant]: mode learned")
        time.sleep(5.0)
        assert robot.node("-m", "wm_robot_ros.nodes.display_node")
        assert robot.node("-m", "wm_robot_ros.nodes.agent_node")
        assert robot.stop() == 0
    assert "Traceback" not in robot.said and "no path is drawn" in robot.said


@pytest.mark.soak
def test_of_several_robots_one_whose_agent_is_killed_goes_on_with_what_it_had_saved(environment, tmp_path):
    lives = tmp_path / "lives"
    with running(environment, tmp_path / "log", "multi", f"state_stores:={lives}") as robots:
        robots.until("up: /left/plant (restarted), /right/plant (restarted)")
        save = [sys.executable, "-m", "wm_robot_cli", "state", "save", "/left/agent"]
        time.sleep(2.0)
        done = subprocess.run(save, env=environment, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        saved = Store(lives / "left").read_manifest()
        others = [
            robots.node("__ns:=/right", f"wm_robot_ros.nodes.{kind}_node") for kind in ("plant", "agent")
        ]
        os.kill(robots.node("__ns:=/left", "wm_robot_ros.nodes.agent_node"), signal.SIGKILL)
        robots.until("/left/agent ended with -9; its output is above. It is restarted in 2 s")
        robots.until("/left/agent was restarted", timeout=90)
        time.sleep(5.0)
        assert others == [
            robots.node("__ns:=/right", f"wm_robot_ros.nodes.{kind}_node") for kind in ("plant", "agent")
        ]
        # The plant follows what was started in the place of the one that died.
        assert robots.said.count("[left.plant]: mode learned") == 2
        assert robots.stop() == 0
    ended = Store(lives / "left").read_manifest()
    assert ended.parents == (saved.digest,) and ended.steps > saved.steps


@pytest.mark.parametrize(("state", "code", "saved"), [("lives", 0, True), ("lives", 1, False), ("", 1, True)])
def test_the_end_says_whether_those_that_save_a_state_did(state, code, saved):
    nodes = [{"name": "agent", "namespace": "", "policy": "required", "parameters": {"save_to": state}}]
    graph = bringup.GraphBringup(
        nodes, driver=None, executor=None, shutdown_flag=SimpleNamespace(num_requests=0)
    )
    graph._members[0].process = SimpleNamespace(stop_process=lambda **_: code)
    assert graph.stop_members() is saved
