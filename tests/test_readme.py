"""What the README shows must run."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(*languages: str) -> list[str]:
    """Fenced blocks of these languages."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    return [text for language, text in found if language in languages]


def command_lines() -> list[str]:
    """Every `wm-robot …` line, in a block or between back-ticks."""
    lines = [
        line.strip().removeprefix("$ ")
        for block in blocks("", "bash", "sh", "console")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    lines += re.findall(r"`(wm-robot [^`]+)`", README)
    shown = {line.partition(" #")[0].strip() for line in lines if line.startswith("wm-robot ")}
    return sorted(line for line in shown if "…" not in line and "..." not in line)


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True)


@pytest.mark.sim
@pytest.mark.learn
@pytest.mark.parametrize("snippet", blocks("python"))
def test_a_python_snippet_runs(snippet):
    done = run("-W", "error", "-c", snippet)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("line", command_lines())
def test_a_command_line_names_a_verb_and_flags_that_exist(line):
    words = shlex.split(line)[1:]
    verb = []
    for word in words:
        if word.startswith("-"):
            break
        verb.append(word)
    done = run("-c", "from wm_robot_cli.main import main; main()", *verb, "--help")
    assert done.returncode == 0, done.stderr or done.stdout
    for word in words:
        if word.startswith("--"):
            assert re.search(rf"{re.escape(word.partition('=')[0])}\b", done.stdout), f"{word} is unknown"


def test_every_file_that_the_readme_links_to_exists():
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)\s#]+)", README)
    links += re.findall(r'src="(?!https?:)([^"]+)"', README)
    for link in links:
        assert (ROOT / link).exists(), f"{link} is missing"
