"""Recorded experience: sessions and episode files give the same episodes."""

import json
from dataclasses import replace

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.episodes]

from tests.recording.sessions import (
    JOINTS,
    PERIOD,
    SPEC,
    act,
    applied,
    at,
    command,
    goal,
    obs,
    record,
    say,
    sensed,
    step_of,
    target,
    text,
)
from wm_robot.errors import SnapshotError, SpecError
from wm_robot.recording import episode_splitter
from wm_robot.recording.episode_file import write_episode
from wm_robot.recording.episode_origin import EpisodeOrigin
from wm_robot.recording.recorded_experience import list_robots, load_experience, split_session
from wm_robot.types import Episode


def steps(*numbers: int) -> list:
    return [one for step in numbers for one in step_of(step)]


def without(name: str, lost: int) -> list:
    """Return the messages of a hundred steps, with one message lost."""
    return [one for step in range(1, 101) for one in step_of(step) if not (step == lost and one[0] == name)]


def loaded(tmp_path, said, **options) -> list[Episode]:
    path = tmp_path / "session.mcap"
    record(path, said, **options)
    return load_experience(path, SPEC)


def check(episode: Episode, first: int, last: int) -> None:
    """Check that an episode has these steps, number by number."""
    rows = range(first, last + 1)
    np.testing.assert_array_equal(episode.stamp, [at(row) for row in rows])
    np.testing.assert_array_equal(episode.obs, [obs(row) for row in rows])
    np.testing.assert_array_equal(episode.action, [act(row) for row in rows[1:]])
    np.testing.assert_array_equal(episode.initial_action, act(first))
    np.testing.assert_array_equal(episode.goal, [goal(row) for row in rows])


def test_a_session_holds_the_episode_that_was_lived(tmp_path):
    (episode,) = loaded(tmp_path, steps(*range(1, 101)))
    check(episode, 1, 100)
    assert episode.valid.all() and np.isnan(episode.reward).all()
    assert (episode.truncated, episode.terminated) == (True, False)


def test_topics_keep_no_order_among_one_another(tmp_path):
    def jumbled(step):
        goal_, done, seen, answer = step_of(step)
        # The applied command arrives after the observation that follows it, and the answering command before it.
        return [goal_, seen, answer, done] if step % 2 else [answer, goal_, done, seen]

    said = [one for step in range(1, 101) for one in jumbled(step)]
    (episode,) = loaded(tmp_path, said)
    assert episode.valid.all()
    check(episode, 1, 100)


def test_it_begins_with_the_first_observation_that_a_command_answers(tmp_path):
    waiting = [one for step in range(1, 200) for one in (target(step), applied(step), sensed(step))]
    (episode,) = loaded(tmp_path, [*waiting, *steps(*range(200, 260))])
    check(episode, 200, 259)


def test_a_command_that_comes_periods_later_begins_it_where_it_belongs(tmp_path):
    said = [one for step in range(1, 8) for one in (target(step), applied(step), sensed(step))]
    (episode,) = loaded(tmp_path, [*said, command(5), *steps(*range(8, 60))])
    check(episode, 5, 59)


def test_a_robot_whose_commands_are_not_recorded_lived_all_of_it(tmp_path):
    said = [one for step in range(1, 101) for one in (target(step), applied(step), sensed(step))]
    (episode,) = loaded(tmp_path, said)
    check(episode, 1, 100)


def test_a_lost_observation_makes_one_transition_invalid_and_ends_nothing(tmp_path):
    said = [
        one
        for step in range(1, 101)
        for one in step_of(step)
        if not (step == 50 and one[0] == "joint_states")
    ]
    (episode,) = loaded(tmp_path, said)
    assert len(episode) == 98 and np.flatnonzero(~episode.valid).tolist() == [48]
    assert (episode.stamp[48], episode.stamp[49]) == (at(49), at(51))


def test_a_lost_action_makes_its_transition_invalid_and_no_other(tmp_path):
    said = [
        one
        for step in range(1, 101)
        for one in step_of(step)
        if not (step == 50 and one[0] == "applied_command")
    ]
    (episode,) = loaded(tmp_path, said)
    assert len(episode) == 99 and np.flatnonzero(~episode.valid).tolist() == [48]
    assert np.isfinite(episode.action).all()


def test_steps_with_an_intervention_of_the_plant_are_not_to_be_learned_from(tmp_path):
    """Nor are the nine after each. A message of another program changes nothing."""
    said = []
    for step in range(1, 101):
        if step in (30, 35, 70):
            said.append(
                text("plant/intervention", json.dumps({"stamp": at(step), "mode": "hold", "violations": []}))
            )
        if step == 50:
            said += [text("plant/intervention", words) for words in ("", "[1]", '{"stamp": "now"}')]
        said += step_of(step)
    (episode,) = loaded(tmp_path, said)
    check(episode, 1, 100)
    doubted = set(range(30, 45)) | set(range(70, 80))
    assert {row for row in range(2, 101) if not episode.valid[row - 2]} == doubted


@pytest.mark.parametrize("what", ["a pause", "a silent agent", "a clock that was set back"])
def test_an_episode_ends_with(tmp_path, what):
    if what == "a pause":
        said = steps(*range(1, 101), *range(160, 260))
        expected = [(1, 100), (160, 259)]
    if what == "a silent agent":
        unanswered = [one for step in range(101, 300) for one in (target(step), applied(step), sensed(step))]
        said = [*steps(*range(1, 101)), *unanswered, *steps(*range(300, 400))]
        # Until the pause of commands is long enough.
        expected = [(1, 151), (300, 399)]
    if what == "a clock that was set back":
        said = steps(*range(301, 401), *range(1, 101))
        expected = [(301, 400), (1, 100)]
    found = loaded(tmp_path, said)
    assert len(found) == len(expected)
    for episode, (first, last) in zip(found, expected, strict=True):
        check(episode, first, last)
        assert episode.valid.all()


def test_a_very_long_episode_goes_on_in_the_next_with_the_observation_that_it_ended_with(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(episode_splitter, "MAX_EPISODE_TIME", 1.0)
    found = loaded(tmp_path, steps(*range(1, 121)))
    for episode, (first, last) in zip(found, [(1, 51), (51, 101), (101, 120)], strict=True):
        check(episode, first, last)


def test_single_readings_that_an_agent_refuses_are_left_out_and_counted(tmp_path):
    said = steps(*range(1, 201))
    bad = {
        20: sensed(20, position=np.array([np.nan])),
        60: sensed(60, velocity=np.zeros(2)),
        100: sensed(100, name=["knee"]),
        140: sensed(140, position=np.array([500.0])),
    }
    for step, message in bad.items():
        said[said.index(next(one for one in said[4 * (step - 1) :] if one[0] == "joint_states"))] = message
    said.insert(4 * 170, sensed(170))
    record(tmp_path / "session.mcap", said)
    cut = split_session(tmp_path / "session.mcap", SPEC)
    (episode,) = cut.episodes
    assert cut.rejections == {"names": 1, "size": 1, "not_finite": 1, "range": 1, "duplicate": 1, "gap": 4}
    assert np.flatnonzero(~episode.valid).tolist() == [18, 57, 96, 135]
    assert np.isfinite(episode.obs).all() and len(episode) == 195


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("reversed", r"out_of_order.*the first is joint_states: stamp \d+ after \d+: out_of_order"),
        ("twice", "100 duplicate"),
        ("nan", "not_finite.*the first is joint_states: position is not finite for .'elbow'."),
        ("joints", "joints .'elbow'. are missing; the message has .'knee'."),
        ("actuators", "actuators .'knee'. are unknown"),
        ("no stamp", "no_stamp"),
        ("slow", "has an observation every 40 ms; robot 'elbow' runs at 50 Hz, one every 20 ms"),
        ("fast", "has an observation every 10 ms"),
        ("unanswered", "holds no transition of robot 'elbow': no observation that a command answers"),
        ("unapplied", "invalid, by gaps or missing actions"),
        ("digest", "the plant is robot 'knee' with spec ffffffffffff; the given spec is that of 'elbow'"),
        ("nothing", "holds 0 robots"),
    ],
)
def test_a_log_that_is_no_good_is_refused_with_the_reason(tmp_path, what, words):
    numbers = range(1, 101)
    said = steps(*numbers)
    if what == "reversed":
        said = steps(1, *(number for tens in range(0, 100, 4) for number in range(tens + 4, tens, -1)))
    if what == "twice":
        said = [two for one in said for two in ([one, one] if one[0] == "joint_states" else [one])]
    if what == "nan":
        said = [sensed(9, position=np.array([np.nan])) if one[0] == "joint_states" else one for one in said]
    if what == "joints":
        said = [sensed(9, name=["knee"]) if one[0] == "joint_states" else one for one in said]
    if what == "actuators":
        said = [applied(9, name=["knee"]) if one[0] == "applied_command" else one for one in said]
    if what == "no stamp":
        said = [sensed(9, stamp=0) if one[0] == "joint_states" else one for one in said]
    if what == "slow":
        said = steps(*numbers[::2])
    if what == "fast":
        said = [
            one
            for step in numbers
            for one in (applied(step, at(0) + step * PERIOD // 2), sensed(step, at(0) + step * PERIOD // 2))
        ]
    if what == "unanswered":
        said = [one for one in said if one[0] != "joint_command"] + [command(-9)]
    if what == "unapplied":
        said = [one for one in said if one[0] != "applied_command"]
        said[3:3] = [applied(1)]
    if what == "digest":
        said.append(text("plant/status", json.dumps({"robot": "knee", "spec_digest": "f" * 64})))
    if what == "slow":
        said.append(text("plant/status", "what anybody may say"))
    if what == "nothing":
        said = [text("plant/status", json.dumps({"robot": "elbow", "spec_digest": SPEC.compute_digest()}))]
    with pytest.raises(SpecError, match=words):
        loaded(tmp_path, said)


STATES, APPLIED, COMMANDS = "joint_states", "applied_command", "joint_command"


def moved(said: list, name: str, by: int) -> list:
    """Return all messages of a topic with shifted stamps, in ns."""
    make = {STATES: sensed, APPLIED: applied, COMMANDS: command}[name]
    later = {id(one): make(1 + number // 4) for number, one in enumerate(said) if one[0] == name}
    for number, one in enumerate(said):
        if one[0] == name:
            stamp = at(1 + number // 4) + by
            later[id(one)][2].header.stamp.sec, later[id(one)][2].header.stamp.nanosec = divmod(stamp, 10**9)
    return [later.get(id(one), one) for one in said]


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (
            "no joint_states",
            "holds 0 robots to learn from: it has no topic joint_states, in any namespace",
        ),
        (
            "no applied_command",
            "it has no topic /one/applied_command, and a robot learns from what was applied .the command is "
            "not always applied unchanged.*It has /one/joint_command .sensor_msgs/msg/JointState., "
            "/one/joint_states.*ros2 bag record /one/joint_states /one/applied_command /one/joint_command "
            "/one/target",
        ),
        (
            "only joint_states",
            "a robot learns from what was applied. The plant publishes it, or control_node. It has /one/joint_states",
        ),
        (
            "another type",
            "it has /one/applied_command of type 'std_msgs/msg/String', which must be 'sensor_msgs",
        ),
        (
            "an applied_command of its own clock",
            "no applied_command has the stamp of an observation.* 3 ms off",
        ),
        ("a joint_command of its own clock", "no joint_command has the stamp of an observation.* 4 ms off"),
        ("joint_states of its own clock", "no applied_command has the stamp of an observation.* 5 ms off"),
        ("one observation", "joint_states holds one stamp only, and a transition needs two"),
        ("an applied_command of which no message came", "applied_command holds no message"),
        ("a joint_command of which no message came", "joint_command holds no message"),
        ("no topic", "holds no message: nothing was recorded"),
        (
            "joints of other names",
            "joints .'elbow'. are missing; the message has .'knee'..* Use the spec of the robot",
        ),
    ],
)
def test_a_recording_without_a_transition_is_refused_with_what_is_missing(tmp_path, what, words):
    path, said, declared = tmp_path / "session.mcap", steps(*range(1, 101)), ""
    if what == "no joint_states":
        said = [one for one in said if one[0] != STATES]
    if what == "no applied_command":
        said = [one for one in said if one[0] != APPLIED]
    if what == "only joint_states":
        said = [one for one in said if one[0] == STATES]
    if what == "another type":
        said = [text(APPLIED, "up") if one[0] == APPLIED else one for one in said]
    if what == "an applied_command of its own clock":
        said = moved(said, APPLIED, 3_000_000)
    if what == "a joint_command of its own clock":
        said = moved(said, COMMANDS, 4_000_000)
    if what == "joint_states of its own clock":
        said = moved(said, STATES, 5_000_000)
    if what == "one observation":
        said = said[:4]
    if what in ("an applied_command of which no message came", "a joint_command of which no message came"):
        declared = APPLIED if APPLIED in what else COMMANDS
        said = [one for one in said if one[0] != declared]
    if what == "no topic":
        said = []
    if what == "joints of other names":
        said = [sensed(9, name=["knee"]) if one[0] == STATES else one for one in said]
    writer = record(path, said, close=False)
    if declared:
        writer.add_topic(f"/one/{declared}", JOINTS)
    writer.close()
    with pytest.raises(SpecError, match=words) as refused:
        load_experience(path, SPEC)
    assert str(refused.value).startswith(str(path)) and "\n" not in str(refused.value)


def test_a_topic_of_another_type_that_is_not_needed_is_passed_over(tmp_path):
    said = [
        text(one[0], "somewhere") if one[0] in ("target", COMMANDS) else one for one in steps(*range(1, 101))
    ]
    (episode,) = loaded(tmp_path, said)
    assert len(episode) == 99 and np.isnan(episode.goal).all() and episode.valid.all()


def test_of_several_robots_one_must_be_named(tmp_path):
    path = tmp_path / "session.mcap"
    writer = record(path, steps(*range(1, 101)), robot="one", close=False)
    say(writer, steps(*range(201, 301)), robot="two/arm")
    say(writer, steps(*range(401, 501)), robot="")
    writer.close()
    assert list_robots(path) == ["", "one", "two/arm"]
    with pytest.raises(SpecError, match="holds 3 robots: .'', 'one', 'two/arm'.; .* Set namespace"):
        load_experience(path, SPEC)
    with pytest.raises(SpecError, match="holds no robot 'three'"):
        load_experience(path, SPEC, namespace="three")
    for name, first in (("one", 1), ("/two/arm", 201), ("", 401)):
        (episode,) = load_experience(path, SPEC, namespace=name)
        check(episode, first, first + 99)


def test_a_session_that_was_cut_holds_a_true_beginning(tmp_path):
    path = tmp_path / "session.mcap"
    record(path, steps(*range(1, 2001)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (episode,) = load_experience(path, SPEC)
    assert 100 < len(episode) < 1900
    check(episode, 1, len(episode) + 1)


def test_episode_files_give_what_their_session_gives(tmp_path):
    record(tmp_path / "session.mcap", steps(*range(1, 101), *range(160, 260)))
    session = load_experience(tmp_path / "session.mcap", SPEC)
    (tmp_path / "episodes").mkdir()
    for number, episode in enumerate(session):
        write_episode(
            tmp_path / "episodes" / f"episode_{number:06d}.parquet", episode, EpisodeOrigin.from_robot(SPEC)
        )
    for path, expected in (("episodes", session), ("episodes/episode_000001.parquet", session[1:])):
        found = load_experience(tmp_path / path, SPEC)
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            for name in other.__dataclass_fields__:
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_numbers_that_are_not_finite_in_a_file_are_not_handed_out(tmp_path):
    record(tmp_path / "session.mcap", steps(*range(1, 101)))
    (whole,) = load_experience(tmp_path / "session.mcap", SPEC)
    whole.obs[40, 0], whole.action[70, 0] = np.nan, np.inf
    write_episode(
        tmp_path / "e.parquet",
        replace(whole, initial_action=np.array([np.nan])),
        EpisodeOrigin.from_robot(SPEC),
    )
    (episode,) = load_experience(tmp_path / "e.parquet", SPEC)
    assert (
        np.isfinite(episode.obs).all()
        and np.isfinite(episode.action).all()
        and np.isfinite(episode.initial_action)
    )
    assert len(episode) == 98
    # As in an agent that rejects them: a gap in place of two transitions, and a missing action.
    assert np.flatnonzero(~episode.valid).tolist() == [39, 69]
    np.testing.assert_array_equal(episode.action[69], whole.action[69])
    kept = np.delete(np.arange(100), 40)
    np.testing.assert_array_equal(episode.obs, whole.obs[kept])
    np.testing.assert_array_equal(np.delete(episode.action, 69, 0), np.delete(whole.action, [39, 70], 0))


def test_files_of_another_robot_or_rate_are_refused(tmp_path):
    record(tmp_path / "session.mcap", steps(*range(1, 101)))
    (episode,) = load_experience(tmp_path / "session.mcap", SPEC)
    write_episode(tmp_path / "e.parquet", episode, EpisodeOrigin.from_robot(replace(SPEC, rate=25)))
    with pytest.raises(SpecError, match="is of robot 'elbow' with spec"):
        load_experience(tmp_path, SPEC)
    slow = replace(episode, stamp=episode.stamp[0] + 2 * (episode.stamp - episode.stamp[0]))
    write_episode(tmp_path / "e.parquet", slow, EpisodeOrigin.from_robot(SPEC))
    with pytest.raises(SpecError, match="has an observation every 40 ms"):
        load_experience(tmp_path, SPEC)


@pytest.mark.parametrize(
    ("what", "words"), [("empty", "holds no episode file"), ("missing", "does not exist")]
)
def test_what_holds_no_experience_is_refused(tmp_path, what, words):
    with pytest.raises(SnapshotError, match=words):
        load_experience(tmp_path if what == "empty" else tmp_path / "missing", SPEC)


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "note").write_text("a note")
    with pytest.raises(SnapshotError, match="is no session"):
        load_experience(tmp_path / "note", SPEC)
