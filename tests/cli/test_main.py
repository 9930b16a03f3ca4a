"""Whatever the user can mend is one line and exit code 2; nothing ends in a traceback unless it is asked for."""

import errno
import inspect
import io
import os
import subprocess
import sys
from typing import Any, get_args, get_type_hints

import pytest

from wm_robot.errors import ConfigError
from wm_robot_cli import main as cli
from wm_robot_cli.values import Count, Seed, Share, ValueRange, check_before_call, find_range

EVERY_VERB = {
    **{(name,): verb for name, verb in cli.VERBS.items() if name not in cli.GROUPS},
    **{(group, name): verb for group, (verbs, _) in cli.GROUPS.items() for name, verb in verbs.items()},
}


def verb(error: BaseException):
    def fails() -> None:
        """A verb."""
        raise error

    return fails


def ends(capsys, *args):
    """Exit code and stderr of a call."""
    with pytest.raises(SystemExit) as ended:
        cli.main(list(args))
    return ended.value.code, capsys.readouterr().err


FULL, GONE = (
    OSError(errno.ENOSPC, "No space left on device", "runs/x"),
    FileNotFoundError(2, "No such file", "a"),
)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ConfigError("rate is 0"), 2, "ConfigError: rate is 0. See: wm-robot train --help"),
        (ConfigError("rate is 0. See: wm-robot keys ls"), 2, "ConfigError: rate is 0. See: wm-robot keys ls"),
        (FULL, 2, "OSError: 'runs/x': No space left on device. Free disk space there, or select a"),
        (GONE, 2, "FileNotFoundError: 'a': No such file. Check its spelling"),
        (ValueError("a\nb"), 2, "ValueError: a b. Check the given values"),
        (UnicodeEncodeError("utf-8", "a\udcff", 1, 2, "surrogates not allowed"), 2,
         r"UnicodeEncodeError: 'a\udcff' is not valid text in this locale, utf-8. Run: export PYTHONUTF8=1"),
        (MemoryError(), 2, "MemoryError: there is not enough memory for this; select smaller values."),
        (TypeError("no"), 70, "TypeError: no. This is a fault of wm_robot. Run the same command with"),
        (AssertionError(), 70, "AssertionError: no reason was given. This is a fault of wm_robot"),
        (KeyboardInterrupt(), 130, "Stopped. The same command continues the training."),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_one_line(monkeypatch, capsys, error, code, words):
    monkeypatch.setattr(cli, "VERBS", {"train": verb(error), "demo": verb(error)})
    ended, said = ends(capsys, "train")
    assert ended == code and said.startswith(words) and len(said.splitlines()) == 1


def test_a_bench_that_was_stopped_is_no_training(monkeypatch, capsys):
    monkeypatch.setattr(cli, "GROUPS", {"bench": ({"sim": verb(KeyboardInterrupt())}, "")})
    assert ends(capsys, "bench", "sim") == (
        130,
        "Stopped. A stopped bench has no figures; run it again.\n",
    )


@pytest.mark.parametrize("asks", [["--debug", "train"], ["train", "--debug"]])
def test_a_traceback_is_for_those_who_ask(monkeypatch, capsys, asks):
    monkeypatch.setattr(cli, "VERBS", {"train": verb(ConfigError("rate is 0"))})
    code, said = ends(capsys, *asks)
    assert code == 2 and "Traceback" in said and said.splitlines()[-1].startswith("ConfigError: rate is 0.")


def test_the_environment_may_ask_for_a_traceback(monkeypatch, capsys):
    monkeypatch.setattr(cli, "VERBS", {"train": verb(ConfigError("rate is 0"))})
    monkeypatch.setenv("WM_ROBOT_DEBUG", "1")
    assert "Traceback" in ends(capsys, "train")[1]
    monkeypatch.setenv("WM_ROBOT_DEBUG", "0")
    assert "Traceback" not in ends(capsys, "train")[1]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["trian"], "verb 'trian' is unknown. Did you mean 'train'?"),
        (["bench", "adaption"], "bench 'adaption' is unknown. Did you mean 'adaptation'?"),
        (["state", "brunch"], "state verb 'brunch' is unknown. Did you mean 'branch'?"),
        (["keys", "trsut"], "keys verb 'trsut' is unknown. Did you mean 'trust'?"),
        (["xyzzy"], "verb 'xyzzy' is unknown. There are new, check, upgrade-spec, train,"),
    ],
)
def test_a_misspelt_verb_is_told_its_likeness_and_where_all_are_listed(capsys, args, words):
    code, said = ends(capsys, *args)
    prog = " ".join(["wm-robot", *args[:-1]])
    assert code == 2 and words in said and said.endswith(f"See: {prog} --help\n")


def test_a_misspelt_option_is_told_its_likeness(capsys):
    code, said = ends(capsys, "train", "--update", "5")
    assert code == 2 and "--update, 5" in said and "--updates" in said and "wm-robot train --help" in said


def test_the_version_is_printed_with_the_commit(capsys):
    from wm_robot import __version__

    cli.main(["--version"])
    assert capsys.readouterr().out.startswith(f"wm-robot {__version__} (commit ")


def test_every_bench_has_a_verb_that_says_what_it_takes(capsys):
    for name in cli.BENCHES:
        with pytest.raises(SystemExit) as ended:
            cli.main(["bench", name, "--help"])
        assert ended.value.code == 0 and "--json" in capsys.readouterr().out


# --- numbers ------------------------------------------------------------------------------------------------


def holds_numbers(annotation: Any) -> bool:
    return annotation in (int, float) or any(map(holds_numbers, get_args(annotation)))


NUMBERS = [
    (words, name, hint)
    for words, verb in EVERY_VERB.items()
    for name, hint in get_type_hints(verb, include_extras=True).items()
    if holds_numbers(hint)
]


def test_every_number_of_every_verb_has_a_range():
    assert len(NUMBERS) > 70
    assert [f"{' '.join(words)} {name}" for words, name, hint in NUMBERS if find_range(hint) is None] == []


def test_every_verb_refuses_a_number_below_its_range_in_one_sentence(capsys):
    for words, name, _ in NUMBERS:
        option = f"--{name.replace('_', '-')}"
        positional = inspect.signature(EVERY_VERB[words]).parameters.values()
        needed = [
            "there" for each in positional if each.kind is each.POSITIONAL_ONLY and each.default is each.empty
        ]
        code, said = ends(capsys, *words, *needed, option, "-1")
        prog = " ".join(["wm-robot", *words])
        told = f"ConfigError: {option} is -1"
        assert (code, len(said.splitlines())) == (2, 1), (words, said)
        assert said.startswith(told) and "; it must be " in said and said.endswith(f"See: {prog} --help\n"), (
            said
        )


@pytest.mark.parametrize(
    ("allowed", "inside", "outside", "words"),
    [
        (ValueRange(0), (0, 5), (-1, float("inf"), float("nan")), "at least 0"),
        (ValueRange(0, is_low_excluded=True), (1e-9,), (0, -1), "above 0"),
        (ValueRange(1, 256), (1, 256), (0, 257), "at least 1 and at most 256"),
        (ValueRange(0, 2**32 - 1), (2**32 - 1,), (2**32,), "at least 0 and at most 4294967295"),
    ],
)
def test_a_range_holds_its_ends_and_no_number_that_is_not_finite(allowed, inside, outside, words):
    assert all(value in allowed for value in inside) and not any(value in allowed for value in outside)
    assert str(allowed) == words


def test_numbers_in_lists_and_optional_numbers_are_checked_too():
    def some(*, seeds: tuple[Seed, ...] = (0,), worlds: Count | None = None, still: Share = 0.5) -> None:
        raise AssertionError("it was called")

    with pytest.raises(ConfigError, match="--seeds is 0 -1; each must be at least 0 and at most"):
        check_before_call(some)(seeds=(0, -1))
    with pytest.raises(ConfigError, match="--worlds is 0; it must be at least 1"):
        check_before_call(some)(worlds=0)
    with pytest.raises(AssertionError, match="it was called"):
        check_before_call(some)(worlds=None, still=1.0)


# --- output -------------------------------------------------------------------------------------------------

PLAIN = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def run(*args, **env):
    command = [sys.executable, "-m", "wm_robot_cli", *args]
    return subprocess.run(command, env={**os.environ, **env}, capture_output=True, timeout=60)


@pytest.mark.parametrize(
    "args", [["--help"], ["episodes", "--help"], ["bench", "memory", "--help"], ["trian"]]
)
def test_an_ascii_pipe_gets_plain_letters(args):
    done = run(*args, **PLAIN)
    said = (done.stdout + done.stderr).decode("ascii")
    assert done.returncode == (0 if "--help" in args else 2) and "Error:" not in said.replace(
        "ConfigError:", ""
    )
    assert "..." in said if args[0] == "episodes" else True


def test_letters_of_names_are_escaped_and_bytes_that_are_no_text_go_out_as_they_came():
    from wm_robot_cli.terminal_output import ERROR_HANDLER, accept_any_text

    accept_any_text()
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors=ERROR_HANDLER)
    out.write("± 3 … Zürich \udcff")
    out.flush()
    assert out.buffer.getvalue() == b"+/- 3 ... Z\\xfcrich \xff"


@pytest.mark.parametrize("count", [1, 200_000])
def test_a_reader_that_has_enough_is_told_no_more(count):
    program = (
        f"from wm_robot_cli import main; main.VERBS = dict(x=lambda: print({count} * 'x')); main.main(['x'])"
    )
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", program], stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_what_cannot_be_written_is_told():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "wm_robot_cli", "--version"], stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 2
    assert done.stderr.startswith(b"OSError: No space left on device. Free disk space there")
