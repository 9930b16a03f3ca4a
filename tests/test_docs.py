"""The documents are as long as agreed, point at what exists, and their code runs."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.test_architecture import FILES, OFF_ROBOT, ON_ROBOT

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted(DOCS.rglob("*.md")),
]
NOTES = sorted((DOCS / "lab").glob("*.md"))
SCRIPTS = sorted((DOCS / "lab").glob("*.py"))
WALKTHROUGHS = sorted(DOCS.glob("add_a_*.md"))
ARCHITECTURE = DOCS / "architecture.md"
ABSTRACT = ("**Question.** ", "**Result.** ", "**Conclusion.** ")
LONGEST_README, LONGEST_CHANGELOG, LONGEST_PARAGRAPH = 1200, 40, 60
"""Words, lines and words."""
QUESTIONS = 10
ACTING_SECONDS = 30
"""Time for the nodes of a graph to start and act, in s."""


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What a link into a page may end in: its headings, as GitHub writes them."""
    headings = re.findall(r"^#+ (.*)$", without_code(read(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def answers() -> list[str]:
    """The places that answer the questions of the architecture page, one a question."""
    section = read(ARCHITECTURE).partition("## Ten questions")[2]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return [row[1] for row in rows if not row[0].startswith(("question", "---"))]


def paragraphs(page: Path) -> list[str]:
    """Paragraphs and list items of a page; tables, headings and code left out."""
    parts = re.split(r"\n\s*\n|\n(?=- |\* |\d+\. )", without_code(read(page)))
    return [part for part in parts if part.strip() and not part.lstrip().startswith(("#", "|", "<!--"))]


def test_the_readme_and_the_changelog_are_short():
    assert len(read(ROOT / "README.md").split()) <= LONGEST_README
    assert len(read(ROOT / "CHANGELOG.md").splitlines()) <= LONGEST_CHANGELOG


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_resolves(page):
    for link in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", without_code(read(page))):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} is missing"
        assert not anchor or anchor in anchors(target), f"{link}: there is no such heading"


@pytest.mark.parametrize("note", NOTES, ids=name_of)
def test_a_lab_note_begins_with_question_result_and_conclusion(note):
    title, _, rest = read(note).partition("\n\n")
    abstract = rest.partition("\n\n")[0].splitlines()
    assert title.startswith(f"# {note.name[:2]} · ")
    assert len(abstract) == len(ABSTRACT)
    for line, beginning in zip(abstract, ABSTRACT, strict=True):
        assert line.startswith(beginning)


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=name_of)
def test_a_paragraph_has_one_idea(page):
    for paragraph in paragraphs(page):
        assert len(paragraph.split()) <= LONGEST_PARAGRAPH, paragraph[:80]


def test_ten_questions_have_one_place_each():
    places = answers()
    assert len(places) == QUESTIONS
    for place in places:
        (path,) = re.findall(r"`([^`]+)`", place)
        assert (ROOT / path).exists(), f"{path} is missing"


def test_every_path_of_the_architecture_page_exists():
    folders = (ROOT, ROOT / "wm_robot")
    paths = re.findall(r"`([\w/]+/[\w./]*)`", without_code(read(ARCHITECTURE)))
    assert len(paths) > 20
    for path in paths:
        assert any((folder / path).exists() for folder in folders), f"{path} is missing"


@pytest.mark.parametrize("room", [*ON_ROBOT, *FILES, *OFF_ROBOT])
def test_every_room_has_a_paragraph(room):
    assert f"**`{room}`**" in read(ARCHITECTURE)


@pytest.mark.sim
@pytest.mark.learn
@pytest.mark.parametrize("page", WALKTHROUGHS, ids=name_of)
def test_the_code_and_the_tests_of_a_walkthrough_pass(page, tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```", read(page), re.MULTILINE | re.DOTALL)
    written = tmp_path / f"test_{page.stem}.py"
    written.write_text("\n".join([*blocks, "def test_the_page_runs():\n    pass\n"]), encoding="utf-8")
    options = ["-q", "--config-file", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path)]
    command = [sys.executable, "-m", "pytest", *options, str(written)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def robot_page_commands(folder: Path) -> list[list[str]]:
    """The words of every command of the page, whose files are written."""
    page = read(DOCS / "add_a_robot.md")
    for name, text in re.findall(r"^```xml\n<!-- (\S+) -->\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        (folder / name).write_text(text, encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    return [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]


def run_command(words: list[str], folder: Path) -> str:
    assert words[0] == "wm-robot"
    command = [sys.executable, "-m", "wm_robot_cli", *words[1:]]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0 and "failed" not in done.stdout, done.stdout + done.stderr
    return done.stdout


@pytest.mark.sim
def test_the_robot_page_goes_from_a_model_to_a_checked_spec(tmp_path):
    commands = robot_page_commands(tmp_path)[:2]
    assert [words[1] for words in commands] == ["new", "check"]
    for words in commands:
        run_command(words, tmp_path)
    names = re.findall(r"^\| `(crane\.[\w.]+)` \|", read(DOCS / "add_a_robot.md"), re.MULTILINE)
    assert len(names) == 3
    for name in names:
        assert (tmp_path / name).is_file(), f"{name} is missing"


@pytest.mark.sim
@pytest.mark.learn
@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_the_robot_page_goes_from_a_model_to_a_robot_that_learns(tmp_path):
    """Ten minutes on two quiet cores."""
    pytest.importorskip("matplotlib", reason='matplotlib is not installed: pip install "wm_robot[report]"')
    commands = robot_page_commands(tmp_path)
    verbs = ["new", "check", "train", "bench", "bench", "demo", "up", "state"]
    assert [words[1] for words in commands] == verbs
    for words in commands[:6]:
        run_command(words, tmp_path)
    for variant in ("semiparametric", "robust", "oracle"):
        assert (tmp_path / f"runs/first/crane-{variant}/base.json").is_file()
    assert "crane" in (tmp_path / "runs/demo-crane/report.html").read_text(encoding="utf-8")
    pytest.importorskip("rclpy", reason='rclpy is not installed: pip install "wm_robot[ros]"')
    run_until_interrupt(commands[6], tmp_path)
    assert "main" in run_command(commands[7], tmp_path)


def run_until_interrupt(words: list[str], folder: Path) -> None:
    """Start a graph, and press Ctrl-C once its agent has acted."""
    environment = {**os.environ, "ROS_DOMAIN_ID": str(50 + os.getpid() % 50)}
    command = [sys.executable, "-m", "wm_robot_cli", *words[1:]]
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    try:
        time.sleep(ACTING_SECONDS)
        assert process.poll() is None, f"it ended with code {process.returncode}"
        process.send_signal(signal.SIGINT)
        process.wait(60)
    finally:
        process.kill()


@pytest.mark.sim
@pytest.mark.learn
@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_a_script_of_the_lab_starts(script):
    command = [sys.executable, "-W", "error", str(script), "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
