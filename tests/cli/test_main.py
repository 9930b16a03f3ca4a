"""Whatever the user can mend is one line and exit code 2."""

import pytest

from wm_robot.cli import main as cli
from wm_robot.errors import ConfigError


def verb(error: BaseException):
    def fails() -> None:
        """A verb."""
        raise error

    return fails


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [(ConfigError("rate is 0"), 2, "ConfigError: rate is 0"), (KeyboardInterrupt(), 130, "Stopped.")],
)
def test_what_goes_wrong_is_one_line(monkeypatch, capsys, error, code, words):
    monkeypatch.setattr(cli, "VERBS", {"train": verb(error), "demo": verb(error)})
    with pytest.raises(SystemExit) as ended:
        cli.main(["train"])
    said = capsys.readouterr().err
    assert ended.value.code == code and said.startswith(words) and len(said.splitlines()) == 1


def test_every_bench_has_a_verb_that_says_what_it_takes(capsys):
    for name in cli.BENCHES:
        with pytest.raises(SystemExit) as ended:
            cli.main(["bench", name, "--help"])
        assert ended.value.code == 0 and "--json" in capsys.readouterr().out
