"""Episodes recorded while they are lived, read back, and lived again."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim, pytest.mark.learn, pytest.mark.episodes]

from wm_robot.agent.builder import AgentConfig, load_agent
from wm_robot.memory.lifetime_state import PLANNER_NOISE
from wm_robot.recording.episode_file import read_episode, read_origin
from wm_robot.recording.episode_folder import list_episodes, list_open_files
from wm_robot.recording.recorded_experience import load_experience
from wm_robot.recording.session_file import read_session
from wm_robot.recording.session_recovery import recover_session
from wm_robot.robots import load_spec
from wm_robot.store.store import Store
from wm_robot.streams.joint_message import read_stamp
from wm_robot_ros.middleware.environment import make_node_command

SPEC = load_spec("arm")
FAKE = str(Path(__file__).parent / "fake_agent.py")
BASE = Path(__file__).parents[2] / "bases" / "arm-semiparametric"
PATIENT = {"observation.max_age": 5.0, "target.max_age": 5.0, "realtime.priority": 0}


@pytest.fixture
def live(start, environment, tmp_path):
    """Lets an agent live with a plant for some seconds beside a recorder; says where everything is."""

    def once(name: str, agent: list[str], *, seconds: float):
        out = tmp_path / name
        out.mkdir()
        place = SimpleNamespace(
            session=out / "session.mcap", episodes=out / "episodes", report=out / "agent.json"
        )
        recorder = start(recorder_command(place.session, place.episodes))
        wait(place.session.exists, "no recorder")
        living = start([*agent, "-p", f'report:="{place.report}"'])
        # However late an agent is on a busy machine, it is to go on living.
        parameters = {"robot": "arm", "duration": seconds, "hold_if_late": False, "min_subscribers": 2}
        plant = start(make_node_command("plant_node", parameters, namespace="one"))
        assert plant.wait_for_exit(60) == 0
        assert living.stop_process() == 0 and recorder.stop_process() == 0
        place.told = json.loads(place.report.read_text())
        return place

    return once


def wait(holds, why, timeout: float = 30.0) -> None:
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, why
        time.sleep(0.05)


def recorder_command(session: Path, episodes: Path, **more: str) -> list[str]:
    return make_node_command(
        "recorder_node", {"path": str(session), "robots": "one", "episodes": str(episodes), **more}
    )


def agent_command(**parameters) -> list[str]:
    common = {"robot": "arm", "autostart": True, "min_subscribers": 2, **PATIENT}
    return make_node_command("agent_node", {**common, **parameters}, namespace="one")


def heard_all(place) -> bool:
    """Whether agent and recorder heard every message; on a busy machine they find each other late, or drop some."""
    topics, told = read_session(place.session).topics, place.told
    if not {"/one/agent/prediction", "/one/joint_states", "/one/applied_command"} <= topics.keys():
        return False
    predicted = [read_stamp(message) for _, message in topics["/one/agent/prediction"]]
    stamps = load_experience(place.session, SPEC)[0].stamp.tolist()
    lived = told["lifetime"]["num_valid"] + told["lifetime"]["num_invalid"]
    # A period of another length is one for both.
    refused = {name for name, count in told["rejected"].items() if count} - {"gap"}
    return predicted == stamps[1 : lived + 1] and not refused


def when_all_is_heard(live, command, **how):
    """The first run in which nothing was lost.

    Args:
        command: Of the agent, for each attempt.
    """
    for attempt in range(5):
        place = live(f"attempt{attempt}", command(attempt), **how)
        if heard_all(place):
            return place, attempt
    pytest.fail(
        f"the machine is too busy: messages were lost in five runs; the last had {place.told['rejected']}"
    )


@pytest.mark.alone
def test_what_was_recorded_is_what_the_agent_lived_number_by_number(live, environment, tmp_path):
    notebook = tmp_path / "notebook"
    environment.update(NOTEBOOK=str(notebook), THINKS="0")
    fake = [sys.executable, FAKE, *agent_command()[3:]]
    place, _ = when_all_is_heard(live, lambda _: fake, seconds=2.0)
    notes = [json.loads(line) for line in notebook.read_text().splitlines()]
    born = max(i for i, note in enumerate(notes) if "begin" in note)
    lived = [note for note in notes[born:] if "learn" in note]
    (episode,) = load_experience(place.session, SPEC)
    np.testing.assert_array_equal(np.float32(episode.initial_action), np.float32(notes[born]["begin"]))
    assert len(lived) >= 80
    assert (
        sum(note["valid"] for note in lived)
        == place.told["lifetime"]["num_valid"]
        == episode.valid[: len(lived)].sum()
    )
    for note, step in zip(lived, episode, strict=False):
        for told, recorded in zip(note["learn"], (step.obs, step.action, step.next_obs), strict=True):
            np.testing.assert_array_equal(np.float32(told), np.float32(recorded))
        assert note["valid"] == step.valid

    # And the recorder's own files hold the same as its session, to the last bit.
    (file,) = list_episodes(place.episodes / "one")
    found = read_episode(file, SPEC)
    for name in episode.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(found, name), getattr(episode, name))
    assert read_origin(file)[0].source == "session.mcap" and not list_open_files(place.episodes / "one")


@pytest.mark.alone
def test_a_session_lived_again_gives_the_very_state_that_was_saved(live, tmp_path):
    def command(attempt):
        return agent_command(base=str(BASE), save_to=str(tmp_path / f"lives{attempt}"))

    place, attempt = when_all_is_heard(live, command, seconds=2.0)
    agent = load_agent(AgentConfig(base=str(BASE), task="reach", monitor_plans=False), SPEC).agent
    (episode,) = load_experience(place.session, SPEC)
    agent.begin(episode.initial_action)
    lived = place.told["lifetime"]
    for step, _ in zip(episode, range(lived["num_valid"] + lived["num_invalid"]), strict=False):
        agent.observe(step.obs, step.action, step.next_obs, valid=bool(step.valid))
    # What a node finds of its plans is no part of the life.
    assert agent.counters.items() <= lived.items() and "plans" in lived
    saved = Store(tmp_path / f"lives{attempt}").load()
    assert saved.pop(PLANNER_NOISE).shape == (1, 6)
    found = agent.state.flatten()
    assert saved.keys() == found.keys()
    for name, value in saved.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.alone
def test_of_a_killed_recorder_all_but_about_a_second_is_saved(start, environment, tmp_path):
    environment.update(NOTEBOOK=str(tmp_path / "notebook"), THINKS="0")
    session, folder = tmp_path / "session.mcap", tmp_path / "episodes"
    recorder = start(recorder_command(session, folder))
    start([sys.executable, FAKE, *agent_command()[3:]])
    start(make_node_command("plant_node", {"robot": "arm"}, namespace="one"))
    wait(
        lambda: (
            list_open_files(folder / "one") and list_open_files(folder / "one")[0].stat().st_size > 40_000
        ),
        "no episode",
    )
    os.kill(recorder.pid, signal.SIGKILL)
    killed = time.time_ns()
    assert recorder.wait_for_exit(5) == -signal.SIGKILL and not list_episodes(folder / "one")
    recovered = recover_session(session)
    assert (recovered.status, recovered.max_lost_time) == ("its recorder was killed", 1.0)
    (recorded,) = load_experience(session, SPEC)
    # The next recorder saves the episode before it begins one of its own.
    again = tmp_path / "again.mcap"
    recorder = start(recorder_command(again, folder))
    wait(again.exists, "no recorder")
    assert recorder.stop_process() == 0
    first = folder / "one" / "episode_000000.parquet"
    (episode,) = load_experience(first, SPEC)
    assert read_origin(first)[0].salvaged and len(episode) > 60
    for saved in (recorded, episode):
        # A second, and what a busy machine adds to it.
        assert killed - saved.stamp[-1] < 2e9
    both = min(len(episode), len(recorded)) + 1
    np.testing.assert_array_equal(episode.obs[:both], recorded.obs[:both])


def test_of_another_robot_no_episode_is_written_and_the_session_is_whole(start, environment, tmp_path):
    session, folder = tmp_path / "session.mcap", tmp_path / "episodes"
    recorder = start(recorder_command(session, folder, robot="cartpole"))
    wait(session.exists, "no recorder")
    plant = start(make_node_command("plant_node", {"robot": "arm"}, namespace="one"))
    log = tmp_path / "node0.log"
    wait(lambda: "no more episodes: the plant is robot 'arm'" in log.read_text(), "it does not say so")
    assert plant.stop_process() == 0 and recorder.stop_process() == 1
    assert (
        "the session is complete, its episodes are not: SpecError: the plant is robot 'arm'"
        in log.read_text()
    )
    assert read_session(session).is_whole and not list_episodes(folder / "one")


def test_two_recorders_do_not_write_episodes_in_one_folder(start, environment, tmp_path):
    first = start(recorder_command(tmp_path / "first.mcap", tmp_path / "episodes"))
    wait((tmp_path / "first.mcap").exists, "no recorder")
    second = start(recorder_command(tmp_path / "second.mcap", tmp_path / "episodes"))
    assert second.wait_for_exit(20) == 2
    assert "another process writes episodes in" in (tmp_path / "node1.log").read_text()
    assert first.stop_process() == 0 and not (tmp_path / "second.mcap").exists()
