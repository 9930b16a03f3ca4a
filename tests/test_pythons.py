"""Set-up and core tests with every Python that the README names, where the machine has it."""

import subprocess
import time

import pytest

from tests.checkout import clean_environment, copy_checkout, python_of

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]
MINORS = (10, 11, 12, 13)
LONGEST_SETUP = 180.0
"""Seconds that `make setup` may take."""


@pytest.mark.parametrize("minor", MINORS)
def test_setup_core_tests_and_a_bench_work_with_this_python(minor, tmp_path):
    python = python_of(minor)
    if python is None:
        pytest.skip(f"Python 3.{minor} is not on this machine")
    checkout, environment = copy_checkout(tmp_path), clean_environment()

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    began = time.monotonic()
    run("make", "setup", f"PYTHON={python}")
    taken = time.monotonic() - began
    run(".venv/bin/python", "-m", "pytest", "--quiet", "--tier=core", "--numprocesses=2")
    assert '"ratio' in run(".venv/bin/wm-robot", "bench", "sim", "--quick", "--json").splitlines()[-1]
    assert taken <= LONGEST_SETUP


def test_an_old_python_is_refused_in_the_first_second(tmp_path):
    old = next((found for minor in (9, 8, 7) if (found := python_of(minor))), None)
    if old is None:
        pytest.skip("no Python older than 3.10 is on this machine")
    checkout, began = copy_checkout(tmp_path), time.monotonic()
    done = subprocess.run(
        ["make", "setup", f"PYTHON={old}"],
        cwd=checkout,
        env=clean_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0 and time.monotonic() - began < 1
    assert "wm_robot needs Python 3.10 to 3.13" in done.stdout
