"""The lifetime state of an agent between its control loop, its worker thread and its store; without processes."""

import threading
from concurrent.futures import Future

import numpy as np
import pytest

pytestmark = pytest.mark.ros

from wm_robot.errors import SnapshotError
from wm_robot_ros.state_api.state_session import StateSession

HOLD = np.zeros(2, np.float32)


class Agent:
    """Counts what it learned; its saves can be stopped half-way, and can fail."""

    def __init__(self):
        self.started_from, self.saved, self.copies, self.notes = [], [], [], []
        self.steps = 0
        self.fails = self.copy_fails = False
        self.started, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()
        self._saving = False

    def begin(self, hold, restore=None):
        assert not self._saving, "it begins during a save"
        self.started_from.append(restore)
        self.steps = 0

    def save(self, place, *, note=""):
        self.notes.append(note)
        assert not self._saving, "two saves at once"
        self._saving = True
        steps = self.steps
        self.started.set()
        assert self.go_on.wait(10)
        self._saving = False
        if self.fails:
            raise OSError("disk full")
        self.saved.append(steps)
        return f"{steps:064d}"

    def rescue(self, place):
        if self.copy_fails:
            raise OSError("disk full there too")
        self.copies.append(self.steps)
        return "c" * 64


class Log:
    def __init__(self):
        self.lines = []

    def info(self, message):
        self.lines.append(message)

    error = info


class Robot:
    """A session with its agent, which has started."""

    def __init__(self, place, *, initial_state=""):
        self.agent, self.log = Agent(), Log()
        self.session = StateSession(
            place=str(place),
            initial_state=initial_state,
            resume=False,
            keep_last=0,
            name="robot",
            log=self.log,
        )
        self.session.attach_agent(self.agent, HOLD)
        self.start()

    def start(self):
        self.session.start_agent(HOLD)

    def learn(self, steps=1):
        for _ in range(steps):
            self.agent.steps += 1
            self.session.record_update()

    def stop_in_save(self):
        """Have the next save wait half-way, until `go_on` is set."""
        self.agent.started.clear()
        self.agent.go_on.clear()

    def until_saving(self):
        assert self.agent.started.wait(10)

    @property
    def record(self):
        return self.session.record


@pytest.fixture
def robot(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "user"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    return Robot(tmp_path / "states")


def test_a_request_to_save_after_a_failed_save_leaves_nothing_that_must_be_kept(robot):
    robot.learn(5)
    robot.agent.fails = True
    robot.session.save_and_wait()
    assert robot.session.must_be_kept and "state not saved: OSError: disk full" in robot.record.error
    robot.agent.fails = False
    assert robot.session.save_in_worker().result() == f"{5:064d}"
    assert not robot.session.must_be_kept and not robot.record.is_unsaved and robot.record.error == ""
    assert robot.record.source == robot.session.place


def test_what_is_learned_during_a_save_is_unsaved(robot):
    robot.learn(5)
    robot.stop_in_save()
    job = robot.session.save_in_worker()
    robot.until_saving()
    robot.learn()
    robot.agent.go_on.set()
    job.result()
    assert robot.agent.saved == [5] and robot.record.is_unsaved
    robot.session.save_and_wait()
    assert robot.agent.saved == [5, 6] and not robot.record.is_unsaved


def test_a_state_is_unsaved_until_its_save_has_succeeded(robot):
    robot.learn()
    robot.stop_in_save()
    robot.agent.fails = True
    robot.session.save_in_background()
    robot.until_saving()
    assert robot.session.must_be_kept
    robot.agent.go_on.set()
    robot.session.save_and_wait()
    assert robot.session.must_be_kept and robot.agent.copies == [1]


def test_who_waits_behind_a_save_that_saves_everything_does_not_save_again(robot):
    robot.learn()
    robot.stop_in_save()
    robot.session.save_in_background()
    robot.until_saving()
    threading.Timer(0.05, robot.agent.go_on.set).start()
    robot.session.save_and_wait()
    assert robot.agent.saved == [1] and not robot.session.must_be_kept


def test_saves_in_background_do_not_pile_up_behind_a_slow_disk(robot):
    robot.learn()
    robot.stop_in_save()
    for _ in range(5):
        robot.session.save_in_background()
        robot.until_saving()
        robot.learn()
    robot.agent.go_on.set()
    robot.session.worker.wait_until_idle()
    assert robot.agent.saved == [1]
    robot.session.save_in_background()
    robot.session.worker.wait_until_idle()
    assert robot.agent.saved == [1, 6]


def test_a_state_in_doubt_is_not_saved_by_a_save_that_was_asked_for_before(robot):
    robot.learn()
    robot.stop_in_save()
    first, second = robot.session.save_in_worker(), robot.session.save_in_worker()
    robot.until_saving()
    robot.learn()
    robot.session.mark_damaged("RuntimeError: the planner fell over")
    robot.agent.go_on.set()
    assert first.result() == f"{1:064d}"
    with pytest.raises(
        SnapshotError, match="by the error that stopped the agent: RuntimeError: the planner fell over"
    ):
        second.result()
    with pytest.raises(SnapshotError, match="The saved state is unchanged"):
        robot.session.save_in_worker()
    robot.session.save_and_wait()
    assert robot.agent.saved == [1] and robot.agent.copies == []


def test_a_save_that_fails_after_the_state_fell_in_doubt_does_not_keep_it(robot):
    robot.learn()
    robot.stop_in_save()
    robot.agent.fails = True
    robot.session.save_in_background()
    robot.until_saving()
    robot.session.mark_damaged("RuntimeError: the planner fell over")
    robot.agent.go_on.set()
    robot.session.worker.wait_until_idle()
    assert not robot.session.must_be_kept


def test_a_state_in_doubt_returns_to_what_was_saved_last(robot):
    robot.learn(3)
    robot.session.save_in_worker().result()
    robot.learn()
    robot.session.mark_damaged("an error")
    robot.session.discard_if_damaged()
    assert not robot.record.has_started and robot.record.damage == ""
    robot.start()
    assert robot.agent.started_from == [None, None, robot.session.place]


def test_a_sound_state_goes_on_after_a_pause(robot):
    robot.learn()
    robot.session.discard_if_damaged()
    assert robot.record.has_started and robot.record.is_unsaved


def test_no_save_overlaps_with_the_beginning_of_another_state(robot):
    robot.learn()
    robot.stop_in_save()
    robot.session.save_in_background()
    robot.until_saving()
    robot.session.mark_damaged("an error")
    threading.Timer(0.05, robot.agent.go_on.set).start()
    robot.session.discard_if_damaged()
    robot.start()
    assert robot.agent.saved == [1] and robot.agent.started_from[-1] == robot.session.place


def test_a_restart_comes_after_the_saves_before_it_and_stops_those_behind_it(robot):
    robot.learn()
    robot.stop_in_save()
    robot.session.save_in_background()
    robot.until_saving()
    restart = robot.session.restart_from(None, lambda: "prepared")
    behind = robot.session.save_in_worker()
    robot.agent.go_on.set()
    assert restart.result() == "prepared"
    with pytest.raises(SnapshotError, match="the agent has not started yet"):
        behind.result()
    assert robot.record.source is None and not robot.record.has_started and robot.agent.saved == [1]
    # A step that was under way when the state was given up is not an update of the next one.
    robot.learn()
    assert not robot.record.is_unsaved
    robot.start()
    assert robot.agent.started_from[-1] is None and not robot.record.is_unsaved


def test_a_restart_that_cannot_be_prepared_changes_nothing(robot):
    robot.learn()

    def refuse():
        raise SnapshotError("no such snapshot")

    with pytest.raises(SnapshotError, match="no such snapshot"):
        robot.session.restart_from("elsewhere", refuse).result()
    assert robot.record.has_started and robot.record.is_unsaved and robot.record.source is None


def test_a_save_that_fails_leaves_one_copy_of_each_state_and_names_it_once(robot):
    robot.learn(2)
    robot.agent.fails = True
    for _ in range(3):
        robot.session.save_and_wait()
    assert robot.agent.copies == [2] and not robot.session.only_in_memory
    assert len(robot.log.lines) == 1
    assert "state not saved: OSError: disk full. Nothing is lost: a copy is" in robot.log.lines[0]
    assert "Restore it: wm-robot state clone" in robot.log.lines[0]
    # A request to save that fails too does not hide where the copy is.
    with pytest.raises(SnapshotError, match="OSError: disk full"):
        robot.session.save_in_worker().result()
    assert "Nothing is lost" in robot.record.error
    robot.learn()
    assert robot.session.only_in_memory and "Nothing is lost" not in robot.record.error
    robot.session.save_and_wait()
    assert robot.agent.copies == [2, 3] and not robot.session.only_in_memory


def test_a_state_that_no_place_takes_is_only_in_memory(robot):
    robot.learn()
    robot.agent.fails = robot.agent.copy_fails = True
    for _ in range(2):
        robot.session.save_and_wait()
    assert robot.session.only_in_memory and len(robot.log.lines) == 1
    assert "no rescue folder can be written either" in robot.record.error
    robot.agent.fails = False
    robot.session.save_and_wait()
    assert not robot.session.only_in_memory and robot.log.lines[-1].startswith("saved 000000000000 in ")


def test_a_state_with_nothing_new_is_not_saved_again(robot):
    robot.learn()
    for _ in range(2):
        robot.session.save_and_wait()
        robot.session.save_in_background()
    robot.session.worker.wait_until_idle()
    assert robot.agent.saved == [1]


def test_without_a_store_nothing_is_saved_and_nothing_must_be_kept():
    robot = Robot("")
    robot.learn()
    robot.session.save_and_wait()
    robot.session.save_in_background()
    assert robot.record.is_unsaved and not robot.session.must_be_kept and not robot.session.only_in_memory
    with pytest.raises(SnapshotError, match="parameter 'save_to' is empty"):
        robot.session.save_in_worker()


def test_before_the_first_step_there_is_nothing_to_save_and_the_caller_can_say_why(tmp_path):
    session = StateSession(
        place=str(tmp_path / "states"), initial_state="", resume=False, keep_last=0, name="robot", log=Log()
    )
    session.attach_agent(Agent(), HOLD)
    with pytest.raises(SnapshotError, match="^the agent has not started yet. No observation$"):
        session.save_in_worker(explain=lambda words: f"{words}. No observation")


def test_a_new_agent_waits_for_the_saves_of_the_one_before(robot):
    robot.learn()
    robot.stop_in_save()
    job: Future[str] = robot.session.save_in_worker()
    robot.until_saving()
    threading.Timer(0.05, robot.agent.go_on.set).start()
    follower = Agent()
    robot.session.attach_agent(follower, HOLD)
    assert job.done() and follower.started_from == [robot.session.place] and not robot.record.has_started


def test_a_note_goes_with_each_save_while_it_is_set(robot):
    for note in ("", "accepted risk: a test", ""):
        robot.session.note = note
        robot.learn()
        robot.session.save_and_wait()
    assert robot.agent.notes == ["", "accepted risk: a test", ""]
