"""An agent that cannot save at its end: what it lived is in a second place, or in its process, and it says so."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim]

from tests.ros.built import need_messages
from tests.ros.test_agent import Plant, saver
from wm_robot.errors import DeviceError
from wm_robot.store.store import Store
from wm_robot.store.verification import find_damage
from wm_robot_ros.middleware.environment import make_node_command
from wm_robot_ros.middleware.lifecycle import LifecycleClient

KEEPER = str(Path(__file__).with_name("keeper_agent.py"))


class Robot:
    """An agent that acts, whose state belongs into `store`; its second places are `user` and `temporary`."""

    def __init__(self, start, peer, environment, folder, store):
        self.peer, self.store, self.folder = peer, Store(store), folder
        environment.update(XDG_STATE_HOME=str(folder / "user"), TMPDIR=str(folder / "temporary"))
        patient = {"observation.max_age": 10.0, "target.max_age": 3600.0, "status_rate": 50.0}
        command = make_node_command("agent_node", {**patient, "save_to": str(store)})
        self.process = start([sys.executable, KEEPER, *command[3:]])
        self.client = LifecycleClient(peer.node, peer.executor, "agent")
        self.client.configure_node()
        self.client.activate_node()
        self.plant = Plant(peer)

    def live(self, steps):
        for _ in range(steps):
            self.plant.advance()

    def log(self):
        return next(self.folder.glob("node*.log")).read_text(errors="replace")

    def until_logged(self, words):
        self.peer.until(lambda: words in self.log(), f"it does not say: {words}\n{self.log()}")

    def bring_back(self, environment):
        """Run the command that it printed."""
        command = re.search(r"Restore it: wm-robot (state clone .*)", self.log())[1]
        return subprocess.run(
            [sys.executable, "-m", "wm_robot_cli", *shlex.split(command)],
            env=environment,
            capture_output=True,
            text=True,
        )


@pytest.fixture
def robot(start, peer, tmp_path, environment):
    return lambda store: Robot(start, peer, environment, tmp_path, store)


@pytest.fixture
def tmpfs(tmp_path):
    """A disk of its own, of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", place], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def fill(place):
    with (place / "full").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))


def test_on_a_full_disk_a_copy_is_made_elsewhere_and_the_printed_command_brings_it_back(
    robot, tmpfs, environment
):
    robot = robot(tmpfs / "lives")
    robot.live(6)
    answer = saver(robot.peer)()
    robot.peer.until(answer.done, "no answer")
    assert answer.result().success
    robot.live(6)
    fill(tmpfs)
    robot.client.deactivate_node()
    robot.peer.until(lambda: "Nothing is lost" in robot.plant.told()["fault"], "it does not tell")
    with pytest.raises(DeviceError, match="did not clean up"):
        robot.client.clean_up_node()
    # Safe, it ends when it is asked to; with a code that says where it is not.
    began = time.monotonic()
    assert robot.process.stop_process(kill_timeout=10) == 1
    assert time.monotonic() - began < 5
    assert "No space left on device" in robot.log() and "Traceback" not in robot.log()
    assert robot.store.read_manifest().steps == 5 and find_damage(robot.store) == []
    (tmpfs / "full").unlink()
    done = robot.bring_back(environment)
    assert done.returncode == 0, done.stderr
    assert [each.steps for each in robot.store.iterate_lineage()] == [11, 5] and find_damage(
        robot.store
    ) == []


def refuse(folder, *names):
    """Have nothing written below these names, whoever asks: a file is in the way."""
    for name in names:
        (folder / name).write_text("a file where a folder should be")


def test_where_no_place_takes_it_the_process_keeps_the_state_until_one_does(robot, tmp_path):
    robot = robot(tmp_path / "disk" / "lives")
    robot.live(6)
    refuse(tmp_path, "disk", "user", "temporary")
    os.kill(robot.process.pid, signal.SIGINT)
    robot.until_logged("keeps the state and tries again every 5 s: free disk space")
    time.sleep(1)
    assert robot.process.is_running and "no rescue folder can be written either" in robot.log()
    (tmp_path / "disk").unlink()
    assert robot.process.wait_for_exit(20) == 0
    assert robot.store.read_manifest().steps == 5


def test_another_request_to_end_gives_the_state_up(robot, tmp_path):
    robot = robot(tmp_path / "disk" / "lives")
    robot.live(6)
    refuse(tmp_path, "disk", "user", "temporary")
    os.kill(robot.process.pid, signal.SIGTERM)
    robot.until_logged("Another Ctrl-C or SIGTERM discards the state")
    os.kill(robot.process.pid, signal.SIGTERM)
    assert robot.process.wait_for_exit(10) == 1
    assert "discarded: all updates since the last save" in robot.log()


def test_once_there_is_room_again_it_is_saved_where_it_belongs_and_can_be_cleaned_up(robot, tmp_path):
    robot = robot(tmp_path / "disk" / "lives")
    robot.live(6)
    refuse(tmp_path, "disk")
    robot.client.deactivate_node()
    with pytest.raises(DeviceError, match="did not clean up"):
        robot.client.clean_up_node()
    (tmp_path / "disk").unlink()
    answer = saver(robot.peer)()
    robot.peer.until(answer.done, "no answer")
    assert answer.result().success and robot.store.read_manifest().steps == 5
    robot.client.clean_up_node()
    assert robot.client.read_state() == "unconfigured" and robot.process.stop_process(kill_timeout=10) == 0


def test_after_a_failed_save_and_a_good_one_nothing_is_reported_as_unsaved(robot, peer, tmp_path):
    need_messages()
    from wm_robot_msgs.msg import LifetimeStatus

    robot = robot(tmp_path / "disk" / "lives")
    statuses = peer.hear(LifetimeStatus, "agent/lifetime")
    robot.live(6)
    refuse(tmp_path, "disk")
    robot.client.deactivate_node()
    peer.until(lambda: statuses and "state not saved" in statuses[-1].fault, "it does not tell")
    assert statuses[-1].unsaved and "Nothing is lost" in statuses[-1].fault
    # While there is no room, to ask for it fails, and what is told of the copy stays.
    failed = saver(peer)()
    peer.until(failed.done, "no answer")
    assert not failed.result().success
    (tmp_path / "disk").unlink()
    answer = saver(peer)()
    peer.until(answer.done, "no answer")
    assert answer.result().success
    peer.until(lambda: not statuses[-1].unsaved, "it is told as unsaved")
    assert statuses[-1].fault == "" and statuses[-1].snapshot == robot.store.resolve("main")
    robot.client.clean_up_node()
    assert robot.client.read_state() == "unconfigured" and robot.process.stop_process(kill_timeout=10) == 0


def test_a_cleanup_saves_what_a_full_disk_kept_from_being_saved(robot, tmp_path):
    robot = robot(tmp_path / "disk" / "lives")
    robot.live(6)
    refuse(tmp_path, "disk")
    robot.client.deactivate_node()
    (tmp_path / "disk").unlink()
    robot.client.clean_up_node()
    assert robot.store.read_manifest().steps == 5 and robot.process.stop_process(kill_timeout=10) == 0


def test_where_nothing_can_be_saved_it_does_not_begin(robot, tmp_path):
    refuse(tmp_path, "disk")
    with pytest.raises(DeviceError, match="did not configure"):
        robot(tmp_path / "disk" / "lives")
    log = next(tmp_path.glob("node*.log")).read_text()
    assert f"nothing can be saved in {tmp_path}/disk/lives" in log and "Traceback" not in log
