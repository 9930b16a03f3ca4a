from wm_robot.streams.source_lock import MOST, OneSource

ONE, OTHER, THIRD = b"one", b"other", b"third"


def followed(*, wary):
    source = OneSource(wary=wary)
    source.follow(ONE)
    return source


def test_anybody_may_begin_and_then_that_one_alone_is_heard():
    source = OneSource(wary=True)
    assert not source.refuses(ONE) and not source.refuses(OTHER)
    source.follow(ONE)
    source.follow(OTHER)
    assert source.followed == ONE
    assert not source.refuses(ONE) and source.refuses(OTHER)


def test_when_it_is_gone_another_may_begin():
    source = followed(wary=False)
    assert source.refuses(OTHER)
    source.gone()
    assert not source.refuses(OTHER)


def test_who_spoke_against_a_controller_does_not_follow_it_unless_somebody_says_so():
    source = followed(wary=True)
    assert source.refuses(OTHER)
    source.gone()
    assert source.refuses(OTHER) and not source.refuses(THIRD)
    source.forget()
    assert not source.refuses(OTHER)


def test_it_can_be_handed_over_to_one_that_was_refused():
    source = followed(wary=True)
    assert source.refuses(OTHER)
    source.hand_over(OTHER)
    assert not source.refuses(OTHER) and source.refuses(ONE)


def test_only_so_many_are_remembered():
    source = followed(wary=True)
    for number in range(MOST + 1):
        assert source.refuses(b"%d" % number)
    source.gone()
    assert not source.refuses(b"0") and source.refuses(b"%d" % MOST)
