"""`wm-robot up`: a whole graph in processes of its own, from the command line to its end."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim, pytest.mark.learn]

from tests.ros.built import need_messages

need_messages()

from tests.ros.small_life import STEPS, newborn, recorded_arm
from wm_robot.lifetime.store import Store

ROOT = Path(__file__).parents[2]
UP = [sys.executable, "-m", "wm_robot", "up"]


def up(environment, *arguments, timeout=110):
    command = [*UP, *map(str, arguments)]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=timeout)


def children_of(pid):
    """Processes that it started, by their parent's number in /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
        except (OSError, IndexError):
            continue
    return found


def test_saved_lives_are_evaluated_by_one_command(environment, tmp_path):
    recording, store = recorded_arm(tmp_path), newborn(tmp_path)
    done = up(environment, "evaluate", f"recording:={recording}", f"state:={store}", "base:=bases/arm-ekf")
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(next(line for line in done.stdout.splitlines() if line.startswith('{"success"')))
    assert result["success"] and result["steps"] == STEPS
    assert [each["digest"] for each in result["snapshots"]] == [Store(store).find("main")]
    told = {each["name"]: each["value"] for each in result["metrics"]}
    # What the newborn expects of the next moment is better than that nothing changes.
    assert 0 < told["step_error"] < 1 and told["step_error"] < told["ahead_error"]


def test_a_node_that_cannot_be_brought_up_takes_the_others_down(environment, tmp_path):
    done = up(environment, "sim", "base:=nowhere", "display:=false")
    assert done.returncode == 1
    assert "no base in nowhere" in done.stdout + done.stderr
    assert "'/agent' did not configure" in done.stderr


def test_ctrl_c_ends_all_of_them_in_order(environment, tmp_path):
    graph = tmp_path / "graph.yaml"
    graph.write_text(
        "about: two\narguments: {}\nnodes:\n"
        "  - {name: plant, executable: plant_node, namespace: 'left,right',\n"
        f"     parameters: {{report: {tmp_path}/$(namespace)}}}}\n"
    )
    with subprocess.Popen(
        [*UP, str(graph)], env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while len(nodes := children_of(process.pid)) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        for line in process.stderr:
            if "up: /left/plant, /right/plant" in line:
                break
        # The plants' own handlers are set by then or a moment later.
        time.sleep(3.0)
        process.send_signal(2)
        assert process.wait(30) == 0
        process.stderr.read()
    assert len(nodes) == 2 and not any(os.path.exists(f"/proc/{node}") for node in nodes)
    # Each wrote its report on the way out, which a killed one does not.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["graph.yaml", "left", "right"]
