"""What is installed from a wheel works away from the checkout: specs, default bases, snippets, the demo."""

import shlex
import subprocess
import sys
import venv

import pytest

from tests.checkout import CONSTRAINTS, ROOT, clean_environment

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]
TORCH = "torch==2.13.0"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Folder of the executables of a new environment that has the wheel with `sim` and `learn`, and no ROS."""
    place = tmp_path_factory.mktemp("wheel")
    wheels, home = place / "wheels", place / "venv"
    environment = clean_environment(PIP_CONSTRAINT=" ".join(str(ROOT / name) for name in CONSTRAINTS))
    pip = ["-m", "pip", "-qq", "--no-input", "--disable-pip-version-check"]
    venv.create(home, with_pip=True)
    python = str(home / "bin" / "python")
    for command in (
        [sys.executable, *pip, "wheel", "--no-deps", "--wheel-dir", str(wheels), str(ROOT)],
        # First and by itself, as `make setup` does: pip may take a CPU build then.
        [python, *pip, "install", TORCH],
    ):
        subprocess.run(command, env=environment, check=True)
    wheel = next(wheels.glob("*.whl"))
    subprocess.run([python, *pip, "install", f"{wheel}[sim,learn]"], env=environment, check=True)
    return home / "bin"


def run(installed, folder, *command: str) -> str:
    done = subprocess.run(
        [str(installed / command[0]), *command[1:]],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def test_the_python_snippet_of_the_readme_runs(installed, tmp_path):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    snippet = readme.split("```python\n")[1].split("```")[0]
    run(installed, tmp_path, "python", "-c", snippet)
    assert (tmp_path / "runs" / "readme-state").is_dir()


def test_the_bench_of_the_readme_runs(installed, tmp_path):
    line = "wm-robot bench adaptation --robot arm --quick"
    assert line in (ROOT / "README.md").read_text(encoding="utf-8")
    assert "oracle" in run(installed, tmp_path, *shlex.split(line))


def test_the_demo_runs_in_one_process_where_ros_is_not_installed(installed, tmp_path):
    told = run(installed, tmp_path, "wm-robot", "demo", "--quick", "--out", "demo")
    assert "ROS 2 is not installed" in told
    assert (tmp_path / "demo" / "report.html").stat().st_size > 10_000
    assert not (tmp_path / "demo" / "session.mcap").exists()
