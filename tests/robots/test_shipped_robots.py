"""The page of the robots that ship lists them all, with their tasks; each of them loads without MuJoCo."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from wm_robot.robots import ROBOTS_FOLDER, find_stored_model, load_spec
from wm_robot.tasks import EXPERIMENTAL_REWARDS

ROOT = Path(__file__).parents[2]
ROBOTS = sorted(path.stem for path in ROBOTS_FOLDER.glob("*.yaml"))
WITHOUT_MUJOCO = """
import sys
sys.modules.update(dict.fromkeys(("mujoco", "wm_robot_sim")))
from wm_robot.robots import load_spec
for name in sys.argv[1:]:
    assert load_spec(name).model_digest, name
"""


def rows_of_the_page() -> list[list[str]]:
    """Robot, task, reward, whether it is solved, and command of each row."""
    page = (ROOT / "docs" / "robots.md").read_text(encoding="utf-8").partition("## ")[0]
    lines = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| `")]
    return [[cell.strip("`") for cell in line] for line in lines]


def test_the_page_lists_the_robots_that_ship_with_their_tasks_in_order():
    rows = rows_of_the_page()
    assert sorted({robot for robot, *_ in rows}) == ROBOTS
    for name in ROBOTS:
        tasks = [(task, reward) for robot, task, reward, *_ in rows if robot == name]
        assert tasks == [(task, values.reward) for task, values in load_spec(name).tasks.items()]


def test_the_page_says_solved_only_where_a_base_ships():
    trained = {folder.name.partition("-")[0] for folder in (ROOT / "bases").iterdir()}
    for robot, _, reward, solved, command in rows_of_the_page():
        is_measured = solved.startswith("yes: [results](results.md#") or solved.startswith("not measured")
        assert is_measured == (robot in trained) and is_measured != solved.startswith("not trained yet")
        assert solved.endswith("; experimental") == (reward in EXPERIMENTAL_REWARDS)
        assert re.search(rf"(train|--robot) {robot}\b", command)


@pytest.mark.parametrize("name", ROBOTS)
def test_a_shipped_robot_has_a_stored_model_of_its_name(name):
    spec = load_spec(name)
    assert spec.name == name and spec.model_digest and spec.tasks
    assert find_stored_model(ROBOTS_FOLDER / f"{name}.yaml").is_file()


def test_shipped_robots_load_where_there_is_no_mujoco():
    command = [sys.executable, "-c", WITHOUT_MUJOCO, *ROBOTS]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
