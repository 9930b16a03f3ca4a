"""`wm-robot diagnose` names what is wrong with a robot, in words and in JSON, from a recording or a simulation."""

import json

import numpy as np
import pytest

pytestmark = pytest.mark.sim
pytest.importorskip("mujoco")

from wm_robot.robots import load_spec
from wm_robot.types import Fault
from wm_robot_cli import diagnose
from wm_robot_cli.main import main

SHORT = ("--seconds", "20", "--no-stops")


def run(*words):
    try:
        main(["diagnose", *map(str, words)])
    except SystemExit as exit:
        return exit.code
    return 0


def read(capsys):
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def test_a_drift_of_17_degrees_is_found_with_joint_size_and_words(capsys):
    assert run("arm", "--simulate", "encoder_zero:elbow_pitch:0.297", *SHORT, "--json") == 3
    found = read(capsys)
    (finding,) = found["findings"]
    assert (finding["kind"], finding["joint"], finding["unit"]) == ("encoder_zero", "elbow_pitch", "rad")
    assert finding["size"] == pytest.approx(0.297, rel=0.1)
    assert finding["interval"][0] < finding["size"] < finding["interval"][1]
    assert finding["probability"] > 0.95 and "elbow_pitch" in finding["words"] and "°" in finding["words"]
    assert found["words"][0].startswith("arm: 1 fault found in 20 s")


def test_nothing_is_found_on_a_healthy_robot_and_what_cannot_be_told_is_said(capsys):
    assert run("arm", "--simulate", "healthy", *SHORT, "--json") == 0
    found = read(capsys)
    assert found["verdict"] == "nothing found" and found["findings"] == []
    # Gravity does not act on a vertical axis, and no stop was met.
    assert "base_yaw" in [each["joint"] for each in found["cannot_be_told"]]
    assert "stops" in found["cannot_be_told"][0]["would_tell"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "needs one of --recording and --simulate"),
        (("--simulate", "weak:elbow:0.3"), "did you mean 'elbow_pitch'"),
        (("--simulate", "tired:elbow_pitch"), "kinds are encoder_zero"),
        (("--simulate", "healthy", "--seconds", "5"), "at least 10 s"),
        (("--simulate", "healthy", "--state", "store"), "--state is given without --base"),
        (("--recording", "absent.mcap"), "absent.mcap"),
        (("--simulate", "healthy", "--payload", "-1"), "--payload is -1.0; it must be at least 0"),
    ],
)
def test_a_mistake_is_one_sentence_with_the_next_step(words, told, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("arm", *words) == 2
    error = capsys.readouterr().err
    assert told in error and "Traceback" not in error


def test_a_robot_with_a_floating_base_is_refused(capsys):
    assert run("rover", "--simulate", "healthy") == 2
    assert "a diagnosis needs a fixed base" in capsys.readouterr().err


def test_the_last_part_of_a_long_recording_is_kept():
    from wm_robot_sim.diagnosis_motion import make_episode

    spec, steps = load_spec("arm"), 50
    action = np.arange(steps, dtype=np.float32)[:, None] * np.ones(6, np.float32)
    obs = np.arange(steps + 1, dtype=np.float32)[:, None] * np.ones(12, np.float32)
    cut = diagnose._cut_end(make_episode(spec, obs, action, -np.ones(6, np.float32)), 20)
    assert len(cut) == 20 and cut.obs[0, 0] == 30 and cut.action[0, 0] == 30 and cut.initial_action[0] == 29


@pytest.mark.episodes
def test_a_recorded_episode_is_diagnosed(tmp_path, capsys):
    from wm_robot.recording.episode_file import write_episode
    from wm_robot.recording.episode_origin import EpisodeOrigin
    from wm_robot_sim.diagnosis_motion import simulate_recording

    spec = load_spec("arm")
    fault = Fault(kind="noisy", joint="wrist_pitch", size=0.02)
    episode = simulate_recording(spec, [fault], seed=3, seconds=12, stops=False)
    write_episode(tmp_path / "episode_000000.parquet", episode, EpisodeOrigin.from_robot(spec))
    assert run("arm", "--recording", tmp_path, "--json") == 3
    (finding,) = read(capsys)["findings"]
    assert (finding["kind"], finding["joint"]) == ("noisy", "wrist_pitch")
    assert finding["size"] == pytest.approx(0.02, rel=0.2)
