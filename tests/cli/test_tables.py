"""No digit of a table is cut: not in a pipe, and not on a narrow terminal."""

import io
import sys

from rich.console import Console

from wm_robot_cli.tables import format_number, print_rows, print_table, split_columns

NUMBERS = {f"column {number}": 1234567 * (number + 1) for number in range(30)}
ROWS = [{"arm": name, **NUMBERS} for name in ("robust", "oracle")]


def printed(rows, width: int) -> list[str]:
    out = io.StringIO()
    print_table(Console(file=out, width=width), rows)
    return out.getvalue().splitlines()


def test_a_piped_table_is_as_wide_as_it_must_be(capsys):
    print_rows(ROWS, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    (header,) = (line for line in lines if "column 0" in line)
    assert all(name in header for name in NUMBERS)
    (robust,) = (line for line in lines if "robust" in line)
    assert robust.split() == ["robust", *(str(value) for value in NUMBERS.values())]


def test_a_narrow_terminal_gets_several_tables_with_every_number():
    lines = printed(ROWS, 60)
    assert all(len(line) <= 60 for line in lines)
    found = [line.split()[1:] for line in lines if "robust" in line]
    assert len(found) > 1
    assert [int(digits) for part in found for digits in part] == list(NUMBERS.values())


def test_a_terminal_as_wide_as_the_table_gets_one():
    whole = max(len(line) for line in printed(ROWS, 10_000))
    assert list(split_columns(ROWS, whole)) == [["arm", *NUMBERS]]
    assert len(list(split_columns(ROWS, whole - 2))) == 2


def test_numbers_stay_whole_where_even_one_column_does_not_fit():
    (line,) = (
        each for each in printed([{"arm": "a very long name", "error": 1234567}], 16) if "1234567" in each
    )
    assert len(line) <= 16


def test_words_alone_are_folded_and_not_cut():
    text = "".join(chr(ord("a") + n % 26) for n in range(90))
    assert text in "".join(line.strip() for line in printed([{"file": text}], 40))


def test_a_name_in_brackets_is_no_markup():
    assert any("[red]" in line for line in printed([{"file": "[red]"}], 40))


def test_a_number_keeps_what_is_before_its_point():
    assert format_number(25001.4, 4) == "25001"
    assert format_number(1234.5) == "1234"
    assert format_number(0.123456) == "0.123"
    assert format_number(-123456.0) == "-123456"


def test_no_rows_are_nothing(capsys):
    print_rows([], as_json=False)
    assert capsys.readouterr().out == "nothing\n"
    assert sys.stdout is not None
