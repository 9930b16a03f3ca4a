from wm_robot.streams.source_lock import MAX_REJECTED, SourceLock

ONE, OTHER, THIRD = b"one", b"other", b"third"


def followed(*, wary):
    source = SourceLock(block_rejected=wary)
    source.lock_to(ONE)
    return source


def test_anybody_may_begin_and_then_that_one_alone_is_heard():
    source = SourceLock(block_rejected=True)
    assert not source.rejects(ONE) and not source.rejects(OTHER)
    source.lock_to(ONE)
    source.lock_to(OTHER)
    assert source.followed_source == ONE
    assert not source.rejects(ONE) and source.rejects(OTHER)


def test_when_it_is_gone_another_may_begin():
    source = followed(wary=False)
    assert source.rejects(OTHER)
    source.release()
    assert not source.rejects(OTHER)


def test_who_spoke_against_a_controller_does_not_follow_it_unless_somebody_says_so():
    source = followed(wary=True)
    assert source.rejects(OTHER)
    source.release()
    assert source.rejects(OTHER) and not source.rejects(THIRD)
    source.reset()
    assert not source.rejects(OTHER)


def test_it_can_be_handed_over_to_one_that_was_refused():
    source = followed(wary=True)
    assert source.rejects(OTHER)
    source.switch_to(OTHER)
    assert not source.rejects(OTHER) and source.rejects(ONE)


def test_only_so_many_are_remembered():
    source = followed(wary=True)
    for number in range(MAX_REJECTED + 1):
        assert source.rejects(b"%d" % number)
    source.release()
    assert not source.rejects(b"0") and source.rejects(b"%d" % MAX_REJECTED)
