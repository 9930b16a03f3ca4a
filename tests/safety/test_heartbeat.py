import pytest

from wm_robot.errors import DeviceError
from wm_robot.safety.guard import Guard
from wm_robot.safety.heartbeat import MAX_GUARD_SILENCE, Heartbeat

LIMIT = 0.03
MS = 1_000_000


class Clock:
    """In ns; it stands still until told."""

    def __init__(self):
        self.now = 10**15

    def __call__(self):
        return self.now

    def pass_ms(self, ms):
        self.now += round(ms * MS)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def page(tmp_path, clock):
    page = Heartbeat(tmp_path / "heartbeat", clock=clock)
    yield page
    page.close()


def test_what_one_process_writes_another_reads(page, tmp_path, clock):
    other = Heartbeat(tmp_path / "heartbeat", clock=clock)
    page.beat()
    page.beat()
    assert other.num_beats == 2 and other.last_beat == clock.now and other.driver > 0
    page.record_guard_check()
    page.stop_plant("because")
    assert other.stopped() == "because"
    other.close()


def test_a_plant_with_a_guard_stands_still_until_the_guard_is_there(page, clock):
    assert "the guard does not run" in page.stopped()
    page.record_guard_check()
    assert page.stopped() == ""
    clock.pass_ms(1e3 * MAX_GUARD_SILENCE + 1)
    assert "no check for 31 ms" in page.stopped()


def test_nobody_who_drives_is_no_emergency(page, clock):
    guard = Guard(page, max_silence=LIMIT)
    for _ in range(10):
        clock.pass_ms(100)
        assert guard.run_check() == "" and page.stopped() == ""


def test_a_loop_that_gets_on_is_left_alone_and_one_that_does_not_is_stopped(page, clock):
    guard = Guard(page, max_silence=LIMIT)
    page.beat()
    for _ in range(100):
        clock.pass_ms(20)
        page.beat()
        assert guard.run_check() == ""
    clock.pass_ms(30)
    assert guard.run_check() == ""
    clock.pass_ms(1)
    assert "made no progress for 31 ms" in guard.run_check()
    assert "made no progress" in page.stopped() and guard.num_stops == 1


def test_progress_after_the_stop_changes_nothing_and_a_person_does(page, clock):
    guard = Guard(page, max_silence=LIMIT)
    page.beat()
    clock.pass_ms(31)
    guard.run_check()
    for _ in range(10):
        clock.pass_ms(5)
        page.beat()
        guard.run_check()
        assert "made no progress" in page.stopped()
    page.release()
    assert page.stopped() == ""


def test_whoever_comes_back_after_the_stop_is_watched_again(page, clock):
    guard = Guard(page, max_silence=LIMIT)
    page.beat()
    clock.pass_ms(31)
    guard.run_check()
    assert page.driver == 0
    page.beat()
    page.release()
    assert guard.run_check() == ""
    clock.pass_ms(31)
    assert "made no progress" in guard.run_check()


def test_the_first_reason_stays(page):
    page.stop_plant("first")
    page.stop_plant("second")
    assert page.stopped() == "first"


def test_a_reason_may_be_of_any_length_and_language(page):
    page.stop_plant("ü" * 500)
    assert page.stopped().startswith("üüü") and len(page.stopped()) <= 128


def test_an_end_in_order_is_no_emergency(page, clock):
    guard = Guard(page, max_silence=LIMIT)
    page.beat()
    guard.run_check()
    page.deregister_driver()
    clock.pass_ms(1000)
    assert guard.run_check() == "" and page.stopped() == ""


def test_what_is_no_heartbeat_is_left_alone(tmp_path):
    path = tmp_path / "notes"
    path.write_text("shopping")
    with pytest.raises(DeviceError, match="is no heartbeat"):
        Heartbeat(path)
    assert path.read_text() == "shopping"
    path.write_bytes(b"\1" * 4096)
    with pytest.raises(DeviceError, match="another version"):
        Heartbeat(path)
