"""What a shell offers while a command is typed."""

import shutil
import subprocess

import numpy as np
import pytest

from wm_robot.store.store import Store
from wm_robot_cli.completion import SCRIPTS, find_candidates
from wm_robot_cli.main import GROUPS, VERBS


def offered(line):
    return find_candidates(line.split(" "), VERBS, {name: verbs for name, (verbs, _) in GROUPS.items()})


@pytest.fixture
def store(tmp_path):
    place = Store(tmp_path / "lives")
    place.save({"step": np.zeros(1, np.int64)}, base_digest="b" * 64, spec_digest="c" * 64)
    place.create_branch("gripper")
    place.create_pin("golden")
    return place.folder


def test_verbs_and_the_verbs_of_verbs():
    assert offered("tr") == ["train"]
    assert offered("bench dur") == ["durability"]
    assert set(offered("state ")) == set(GROUPS["state"][0])


def test_branches_and_pins_of_the_store_before_the_sign(store):
    assert offered(f"state log {store}@") == [f"{store}@{name}" for name in ("gripper", "main", "golden")]
    assert offered(f"state log {store}@g") == [f"{store}@gripper", f"{store}@golden"]
    assert offered(f"state log {store}-none@") == []


def test_options_by_their_beginning():
    assert "--keep-last" in offered("state gc --")
    assert offered("state gc --js") == ["--json"]


def test_where_a_file_is_meant_the_shell_is_left_to_it():
    assert offered("state log runs/li") == []


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash here")
def test_the_script_is_one_that_bash_reads_and_that_asks_for_the_line(store, tmp_path, capsys):
    (tmp_path / "bin").mkdir()
    answer = tmp_path / "bin" / "wm-robot"
    answer.write_text(f'#!/bin/sh\necho "$3" > {tmp_path}/asked\necho "{store}@gripper"\n')
    answer.chmod(0o755)
    line = f"wm-robot state log {store}@g"
    script = (
        f'{SCRIPTS["bash"]}\nCOMP_LINE="{line}" COMP_POINT={len(line)} _wm_robot\necho "${{COMPREPLY[0]}}"'
    )
    path = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}
    done = subprocess.run(["bash", "-c", script], env=path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "gripper" and (tmp_path / "asked").read_text().strip() == line
    VERBS["completion"]("bash")
    assert "complete -o default -F _wm_robot wm-robot" in capsys.readouterr().out
