"""A bench is one module: its name, options and help are read from there, when they are needed."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from wm_robot_benchmarks.harness import bench_table
from wm_robot_benchmarks.harness.bench import Bench
from wm_robot_benchmarks.harness.bench_table import BENCHES, FOLDER, BenchTable

NEW_BENCH = '''"""`wm-robot bench jitter`."""

from dataclasses import dataclass

from wm_robot.progress import Progress
from wm_robot_benchmarks.harness.bench import FirstSeedBench, RobotBench
from wm_robot_benchmarks.harness.result import Result
from wm_robot_cli.values import Count


@dataclass(frozen=True, kw_only=True)
class JitterBench(RobotBench, FirstSeedBench):
    """Jitter of a clock."""

    periods: Count = 3
    """How many are counted."""

    def run(self, progress: Progress) -> Result:
        return Result(setting=self.make_setting(), figures={"periods": float(self.periods)}, table=[])
'''


def test_the_modules_of_the_package_are_the_benches():
    assert list(BENCHES) == sorted(path.stem.replace("_", "-") for path in FOLDER.glob("[!_]*.py"))
    assert {"recall", "reward-independence"} <= set(BENCHES)
    assert "harness" not in BENCHES and "result" not in BENCHES
    with pytest.raises(KeyError):
        BENCHES["result"]


@pytest.mark.parametrize("name", BENCHES)
def test_a_bench_has_the_name_of_its_module_and_help_of_its_own(name):
    bench = BENCHES[name]
    assert issubclass(bench, Bench) and bench.__doc__ and bench.__doc__ != Bench.__doc__
    setting = bench().make_setting()
    assert setting.bench == name and len(setting.asked) >= 1
    # What a smaller sample is differs from bench to bench, so each has words of its own for it.
    assert "quick" in bench.__annotations__


@pytest.mark.parametrize("name", BENCHES)
def test_what_results_name_is_what_was_asked_for(name):
    named = {each.name for each in dataclasses.fields(BENCHES[name])}
    given = {"robot": "pole", "seeds": (7, 8), "bases": Path("own"), "quick": True}
    setting = BENCHES[name](**{key: value for key, value in given.items() if key in named}).make_setting()
    assert setting.quick and setting.seeds in ((7,), (0,)) and (setting.seeds == (7,)) == ("seeds" in named)
    assert ("robot" in named) == (setting.robot == "pole") and ("bases" in named) == (
        setting.bases == Path("own")
    )


def test_names_cost_no_import():
    code = (
        "import sys; from wm_robot_benchmarks.harness.bench_table import BENCHES; list(BENCHES); 'sim' in BENCHES; "
        "print([name for name in sys.modules if name in "
        "{f'wm_robot_benchmarks.{each}'.replace(chr(45), chr(95)) for each in BENCHES}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_new_bench_is_one_file(tmp_path, monkeypatch, capsys):
    import wm_robot_benchmarks
    from wm_robot_cli import main as cli

    (tmp_path / "jitter.py").write_text(NEW_BENCH)
    monkeypatch.setattr(bench_table, "FOLDER", tmp_path)
    monkeypatch.setattr(wm_robot_benchmarks, "__path__", [*wm_robot_benchmarks.__path__, str(tmp_path)])
    monkeypatch.setitem(cli.GROUPS, "bench", (BenchTable(), "Benches."))
    cli.main(["bench", "jitter", "--periods", "5", "--seeds", "4", "5", "--json"])
    said = capsys.readouterr().out
    assert '"bench": "jitter", "robot": "arm"' in said and '"seeds": [4]' in said and '"periods": 5.0' in said
    with pytest.raises(SystemExit) as ended:
        cli.main(["bench", "jitter", "--periods", "0"])
    assert ended.value.code == 2 and "--periods is 0; it must be at least 1" in capsys.readouterr().err
    sys.modules.pop("wm_robot_benchmarks.jitter")
