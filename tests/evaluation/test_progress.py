"""Parts of a work are reported in the unit of the whole."""

from wm_robot.progress import make_part_progress


def test_a_part_is_reported_where_it_stands_in_the_whole():
    said: list[float] = []
    last = make_part_progress(lambda done, total: said.append(done / total), 6, 2, 8)
    for done in (0, 1, 2, 4):
        last(done, 4)
    assert said == [6 / 8, 6.5 / 8, 7 / 8, 1.0]


def test_parts_of_parts_are_still_parts_of_the_whole():
    said: list[float] = []
    outer = make_part_progress(lambda done, total: said.append(done / total), 1, 1, 2)
    make_part_progress(outer, 1, 3, 4)(1, 3)
    assert said == [0.75]
