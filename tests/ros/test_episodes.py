"""Episodes recorded while they are lived, read back, and lived again."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim, pytest.mark.learn, pytest.mark.episodes]

from wm_robot.io.episode_file import read_episode, read_origin
from wm_robot.io.episode_folder import episodes_in, open_in
from wm_robot.io.experience import load_experience
from wm_robot.io.recovery import recover_session
from wm_robot.io.session_file import read_session
from wm_robot.lifetime.store import Store
from wm_robot.models.base import save_base
from wm_robot.models.world_model import ModelConfig, WorldModel
from wm_robot_ros.environment import node_command
from wm_robot_ros.life import LifeConfig, load_life
from wm_robot_sim import load_spec
from wm_robot_sim.worlds import WorldDistribution

SPEC = load_spec("arm")
FAKE = str(Path(__file__).parent / "fake_agent.py")
SMALL = {"planner.samples": 16, "planner.horizon": 3, "planner.iterations": 1}
PATIENT = {"observation.max_age": 5.0, "target.max_age": 5.0, "realtime.priority": 0}


@pytest.fixture
def live(start, environment, tmp_path):
    """Lets an agent live with a plant for some seconds beside a recorder; says where everything is."""

    def once(name: str, agent: list[str], *, seconds: float, end: signal.Signals = signal.SIGINT):
        out = tmp_path / name
        out.mkdir()
        place = SimpleNamespace(
            session=out / "session.mcap", episodes=out / "episodes", report=out / "agent.json"
        )
        recorder = start(
            node_command(
                "recorder_node",
                {"path": str(place.session), "robots": "one", "episodes": str(place.episodes)},
            )
        )
        wait(place.session.exists, "no recorder")
        living = start([*agent, "-p", f'report:="{place.report}"'])
        plant = start(node_command("plant_node", {"robot": "arm", "duration": seconds}, namespace="one"))
        assert plant.wait(60) == 0
        assert living.stop() == 0
        if end is signal.SIGINT:
            assert recorder.stop() == 0
        else:
            subprocess.run(["kill", f"-{end.value}", str(recorder.pid)], check=True)
            assert recorder.wait(5) == -end.value
        place.told = json.loads(place.report.read_text())
        return place

    return once


def wait(holds, why, timeout: float = 30.0) -> None:
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, why
        time.sleep(0.05)


def agent_command(**parameters) -> list[str]:
    common = {"robot": "arm", "autostart": True, "listeners": 2, **PATIENT}
    return node_command("agent_node", {**common, **parameters}, namespace="one")


def heard_all(place) -> bool:
    """Whether the agent heard every message, and the recorder what came of it: a busy machine drops some."""
    predicted = [
        m.header.stamp.sec * 10**9 + m.header.stamp.nanosec
        for _, m in read_session(place.session).topics["/one/agent/prediction"]
    ]
    stamps = load_experience(place.session, SPEC)[0].stamp.tolist()
    told = place.told
    lived = told["life"]["watched"] + told["life"]["invalid"]
    return predicted == stamps[1 : lived + 1] and not any(told["refused"].values())


def when_all_is_heard(live, agent: list[str], **how):
    for attempt in range(4):
        place = live(f"attempt{attempt}", agent, **how)
        if heard_all(place):
            return place
    pytest.fail(
        f"the machine is too busy: messages were lost in four runs; the last had {place.told['refused']}"
    )


def test_what_was_recorded_is_what_the_agent_lived_number_by_number(live, environment, tmp_path):
    notebook = tmp_path / "notebook"
    environment.update(NOTEBOOK=str(notebook), THINKS="0")
    place = when_all_is_heard(live, [sys.executable, FAKE, *agent_command()[3:]], seconds=2.0)
    notes = [json.loads(line) for line in notebook.read_text().splitlines()]
    born = max(i for i, note in enumerate(notes) if "begin" in note)
    lived = [note for note in notes[born:] if "live" in note]
    (episode,) = load_experience(place.session, SPEC)
    np.testing.assert_array_equal(np.float32(episode.hold), np.float32(notes[born]["begin"]))
    assert len(lived) >= 90
    assert (
        sum(note["valid"] for note in lived)
        == place.told["life"]["watched"]
        == episode.valid[: len(lived)].sum()
    )
    for note, step in zip(lived, episode, strict=False):
        for told, recorded in zip(note["live"], (step.obs, step.action, step.next_obs), strict=True):
            np.testing.assert_array_equal(np.float32(told), np.float32(recorded))
        assert note["valid"] == step.valid

    # And the recorder's own files hold the same as its session, to the last bit.
    (file,) = episodes_in(place.episodes / "one")
    found = read_episode(file, SPEC)
    for name in episode.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(found, name), getattr(episode, name))
    assert read_origin(file)[0].source == "session.mcap" and not open_in(place.episodes / "one")


def test_a_session_lived_again_gives_the_very_state_that_was_saved(live, tmp_path):
    truth = len(WorldDistribution(SPEC).names)
    base = tmp_path / "base"
    save_base(base, WorldModel(ModelConfig.of(SPEC, goal=3, truth=truth, width=16, blocks=1)), SPEC, {})
    for attempt in range(4):
        store = Store(tmp_path / f"lives{attempt}")
        command = agent_command(base=str(base), state=str(store.folder), **SMALL)
        place = live(f"attempt{attempt}", command, seconds=2.0)
        if heard_all(place):
            break
    else:
        pytest.fail("the machine is too busy: messages were lost in four runs")
    agent = load_life(LifeConfig(base=str(base), task="reach", samples=16, horizon=3, iterations=1), SPEC)
    (episode,) = load_experience(place.session, SPEC)
    agent.begin(episode.hold)
    lived = place.told["life"]
    for step, _ in zip(episode, range(lived["watched"] + lived["invalid"]), strict=False):
        agent.live(step.obs, step.action, step.next_obs, valid=step.valid)
    assert agent.counters == lived
    saved = store.load()
    assert saved.keys() == agent.state.keys()
    for name, value in saved.items():
        np.testing.assert_array_equal(agent.state[name].numpy(), value, err_msg=name)


def test_of_a_killed_recorder_all_but_about_a_second_is_saved(live, start, environment, tmp_path):
    environment.update(NOTEBOOK=str(tmp_path / "notebook"), THINKS="0")
    fake = [sys.executable, FAKE, *agent_command()[3:]]
    place = live("killed", fake, seconds=3.0, end=signal.SIGKILL)
    lived = place.told["life"]["watched"] + place.told["life"]["invalid"]
    assert len(open_in(place.episodes / "one")) == 1 and not episodes_in(place.episodes / "one")
    recovered = recover_session(place.session)
    assert (recovered.what, recovered.lost) == ("its recorder was killed", 1.0)
    (recorded,) = load_experience(place.session, SPEC)
    assert lived - len(recorded) < 75
    # The next recorder saves the episode before it begins one of its own.
    again = tmp_path / "again.mcap"
    parameters = {"path": str(again), "robots": "one", "episodes": str(place.episodes)}
    recorder = start(node_command("recorder_node", parameters))
    wait(again.exists, "no recorder")
    assert recorder.stop() == 0
    (episode,) = load_experience(place.episodes / "one", SPEC)
    assert read_origin(place.episodes / "one" / "episode_000000.parquet")[0].salvaged
    assert lived - len(episode) < 75
    both = min(len(episode), len(recorded)) + 1
    np.testing.assert_array_equal(episode.obs[:both], recorded.obs[:both])


def test_of_another_robot_no_episode_is_written_and_the_session_is_whole(start, environment, tmp_path):
    session, episodes = tmp_path / "session.mcap", tmp_path / "episodes"
    parameters = {"path": str(session), "robots": "one", "episodes": str(episodes), "robot": "cartpole"}
    recorder = start(node_command("recorder_node", parameters))
    wait(session.exists, "no recorder")
    plant = start(node_command("plant_node", {"robot": "arm"}, namespace="one"))
    time.sleep(2.5)
    assert plant.stop() == 0 and recorder.stop() == 1
    (log,) = (path for path in tmp_path.glob("node*.log") if "episodes" in path.read_text())
    assert (
        "the session is whole, its episodes are not: SpecError: the plant is robot 'arm'" in log.read_text()
    )
    assert read_session(session).whole and not episodes_in(episodes / "one")


def test_two_recorders_do_not_write_episodes_in_one_folder(start, environment, tmp_path):
    def recorder(name):
        parameters = {"path": str(tmp_path / name), "robots": "one", "episodes": str(tmp_path / "episodes")}
        return start(node_command("recorder_node", parameters))

    first = recorder("first.mcap")
    wait(lambda: (tmp_path / "first.mcap").exists(), "no recorder")
    assert recorder("second.mcap").wait(20) == 1
    assert "another process writes episodes in" in (tmp_path / "node1.log").read_text()
    assert first.stop() == 0 and not (tmp_path / "second.mcap").exists()
