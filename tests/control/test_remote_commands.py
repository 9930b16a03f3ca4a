"""Commands of another process, period by period; without ROS."""

import numpy as np

from tests.safety.specs import spec_of
from wm_robot.control.remote_commands import RemoteCommands
from wm_robot.streams.rejection import BadMessageError, RejectionReason

SPEC = spec_of()
HOLD, ACTION = np.zeros(3, np.float32), np.float32([0.1, 0.2, 0.3])
PERIOD = round(1e9 * SPEC.dt)


class Peer:
    """A plant that publishes an observation in each period, and a controller that answers where it is told to."""

    def __init__(self):
        self.now = 10 * PERIOD
        self.remote = RemoteCommands(SPEC, HOLD, max_age=0.1, timeout=0.5, clock=lambda: self.now)

    def period(self, *, answer=True, stamp=None):
        self.remote.expect_answer(self.now)
        if answer:
            stamp = self.now if stamp is None else stamp
            self.remote.accept_command(ACTION, stamp, self.now + 1000, monotonic_now=self.now)
        self.now += PERIOD
        self.remote.start_period()
        return self.remote


def test_before_the_first_command_it_holds_and_nobody_drives():
    remote = Peer().period(answer=False)
    assert not (remote.has_started or remote.is_active or remote.is_overdue)
    np.testing.assert_array_equal(remote.select_command(None), HOLD)


def test_a_command_is_followed_and_its_age_is_kept_for_the_period():
    remote = Peer().period()
    assert remote.is_active and remote.age_ms == 0.001 and remote.latency.count == 1
    np.testing.assert_array_equal(remote.select_command(None), ACTION)


def test_who_answers_observations_owes_each_an_answer_and_a_person_does_not():
    peer = Peer()
    assert not peer.period().is_overdue
    assert peer.period(answer=False).is_overdue and peer.remote.is_active
    assert not peer.period().is_overdue
    # A stamp that no observation had.
    assert not peer.period(stamp=peer.now + 5).is_overdue
    assert not peer.period(answer=False).is_overdue


def test_without_an_observation_no_answer_is_owed():
    peer = Peer()
    peer.period()
    peer.now += PERIOD
    peer.remote.start_period()
    assert not peer.remote.is_overdue


def test_after_the_timeout_the_controller_is_gone():
    peer = Peer()
    peer.period()
    while peer.period(answer=False).is_active:
        assert peer.now < 10 * PERIOD + 10**9
    np.testing.assert_array_equal(peer.remote.select_command(None), ACTION)


def test_only_what_a_broken_controller_sends_is_a_fault():
    remote = Peer().period()
    remote.reject_command(BadMessageError(RejectionReason.NAMES, "joint 'm9' is unknown"))
    assert remote.rejection == ""
    remote.reject_command(BadMessageError(RejectionReason.NOT_FINITE, "m1 is not finite"))
    assert remote.rejection == "a command was rejected: m1 is not finite"
    assert remote.buffer.rejections.total == 2
    remote.clear_reports()
    assert remote.rejection == ""


def test_an_agent_that_stops_in_order_is_not_late_and_one_that_stops_by_an_error_is_broken():
    peer = Peer()
    peer.period()
    assert not peer.remote.update_agent(False, ""), "it never said that it acts"
    assert not peer.remote.update_agent(True, "")
    assert peer.remote.update_agent(False, "")
    remote = peer.period(answer=False)
    assert not (remote.is_active or remote.is_overdue) and remote.fault == ""
    remote.update_agent(True, "")
    assert remote.update_agent(False, "ValueError: no plan")
    assert remote.fault == "the agent stopped: ValueError: no plan"
    assert not remote.update_agent(False, "ValueError: no plan"), "said again, it is no news"


def test_from_a_new_action_in_force_it_holds_as_if_no_command_had_come():
    peer = Peer()
    peer.period()
    peer.remote.restart_from(HOLD + 1)
    assert not peer.remote.has_started
    np.testing.assert_array_equal(peer.remote.select_command(None), HOLD + 1)
