"""Episodes, their input faults, scenarios and cases; without a simulator and without a model."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from wm_robot.errors import InferenceError, SnapshotError, SpecError
from wm_robot.evaluation.validation.battery import Check
from wm_robot.evaluation.validation.episode import (
    Danger,
    EpisodeResult,
    find_exchanged,
    limit_actions,
    run_episode,
)
from wm_robot.evaluation.validation.figures import compute_figures, compute_score
from wm_robot.evaluation.validation.input_faults import FaultyInput
from wm_robot.evaluation.validation.scenario import Case, InputFault, Scenario, WorldChange
from wm_robot.robots import load_spec
from wm_robot.tasks import TaskError
from wm_robot.types import Observation
from wm_robot.validation_record.session_error import SessionError

SPEC = load_spec("arm")
JOINTS = len(SPEC.joints)
SCENARIO = Scenario(
    check="control",
    name="one",
    robot="arm",
    task="hold",
    seed=3,
    num_steps=100,
    changes=(WorldChange(step=0, world={}, label="nominal"),),
)


class StillPlant:
    """Plant whose joints are where their servos are, at once; a world shifts them."""

    def __init__(self):
        self.last_action = SPEC.home_action.astype(np.float32)
        self.shift, self.velocity, self.contacts, self.worlds = 0.0, 0.0, [], []

    def _sense(self):
        obs = np.zeros(SPEC.obs_dim, np.float32)
        obs[:JOINTS] = self.last_action + self.shift
        obs[JOINTS:] = self.velocity
        return obs

    def read(self):
        return Observation(stamp=0.0, values=self._sense())

    def write(self, action):
        self.last_action = limit_actions(SPEC, self.last_action, np.asarray(action)[None])[0]
        return self.last_action

    def set_world(self, world):
        self.worlds.append(world)
        self.shift = world.get("shift", 0.0)
        self.velocity = world.get("velocity", 0.0)
        self.contacts = world.get("contacts", [])

    def compute_true_obs(self):
        return self._sense()

    def find_contacts(self):
        return self.contacts

    def compute_goal(self, step):
        return np.zeros(0, np.float32)

    def draw_random_actions(self, num_steps):
        rng = np.random.default_rng(0)
        return SPEC.home_action + 0.1 * rng.standard_normal((num_steps, SPEC.action_dim)).astype(np.float32)

    def qpos(self):
        return self._sense()[:JOINTS]

    def count_rejections(self):
        return 0


class HomeAgent:
    """Agent that goes home, and predicts that joints follow their servos, off by `error`."""

    def __init__(self, *, error=0.0, fails_at=-1):
        self.error, self.fails_at, self.steps, self.restored, self.seen = error, fails_at, 0, "unset", []
        self.session_error, self.faults = SessionError(), {}

    def begin(self, last_action, restore=None):
        self.restored, self.steps, self.session_error = restore, 0, SessionError()

    def act(self, obs, goal):
        if self.steps == self.fails_at:
            raise InferenceError("robot 'arm' has no plan")
        return SPEC.home_action

    def observe(self, obs, applied, next_obs, *, valid=True):
        self.steps += 1
        self.seen.append(next_obs)
        self.session_error.add_surprise(-1.02)
        error = np.full(SPEC.obs_dim, 0.5 if self.steps % 2 else 2.0)
        return SimpleNamespace(error=error, nll=-1.0, mean=next_obs)

    def find_faults(self, obs):
        return self.faults

    def predict_outcome(self, obs, actions):
        mean = np.zeros((len(actions), SPEC.obs_dim), np.float32)
        mean[:, :JOINTS] = actions + self.error
        return SimpleNamespace(mean=mean)


def run(scenario=SCENARIO, *, agent=None, plant=None, restore=None, with_trace=False):
    error = TaskError(SPEC, SPEC.find_task("hold"))
    return run_episode(
        plant or StillPlant(),
        agent or HomeAgent(),
        scenario,
        SPEC,
        error,
        change_std=np.full(SPEC.obs_dim, 0.1, np.float32),
        restore=restore,
        with_trace=with_trace,
    )


def change(step, **world):
    return WorldChange(step=step, world=world, label="changed")


def test_a_robot_at_home_has_no_error_and_no_danger():
    result = run()
    assert result.settled == (0.0,) and result.dangers == () and result.surprise == -1.0
    assert result.coverage == (0.5,) and result.session == {"surprise_p50": -1.0, "surprise_p95": -1.0}


def test_the_error_is_measured_for_each_world_after_it_settled_in_tolerances():
    scenario = replace(SCENARIO, num_steps=200, changes=(*SCENARIO.changes, change(100, shift=0.1)))
    tolerance = TaskError(SPEC, SPEC.find_task("hold")).tolerance
    assert run(scenario).settled == pytest.approx((0.0, 0.1 / tolerance), rel=1e-5)


def test_a_limit_that_is_hit_at_speed_is_a_danger_once():
    high = SPEC.joints[0].position[1]
    far = change(50, shift=float(high - SPEC.home_action[0]), velocity=2.0)
    fast = run(replace(SCENARIO, changes=(*SCENARIO.changes, far)))
    assert [(each.kind, each.what) for each in fast.dangers if each.what == "base_yaw"] == [
        ("limit", "base_yaw")
    ]
    slow = change(50, shift=float(high - SPEC.home_action[0]), velocity=0.01)
    assert not run(replace(SCENARIO, changes=(*SCENARIO.changes, slow))).dangers


def test_a_contact_is_a_danger_unless_it_was_there_at_the_start():
    touch = change(50, contacts=[("table", "wrist")])
    result = run(replace(SCENARIO, changes=(*SCENARIO.changes, touch)))
    assert [(each.kind, each.what, each.step) for each in result.dangers] == [
        ("contact", "table and wrist", 50)
    ]
    plant = StillPlant()
    plant.contacts = [("table", "wrist")]
    assert not run(replace(SCENARIO, changes=(*SCENARIO.changes, touch)), plant=plant).dangers


def test_an_agent_that_fails_is_a_danger_and_the_plant_holds():
    agent, plant = HomeAgent(fails_at=10), StillPlant()
    result = run(agent=agent, plant=plant)
    assert [(each.kind, each.step) for each in result.dangers] == [("stopped", 10)]
    assert "no plan" in result.dangers[0].what and agent.steps == 10


def test_random_motion_measures_prediction_and_no_danger():
    scenario = replace(SCENARIO, motion="random", task="hold")
    assert run(scenario).prediction == (0.0,)
    off = run(scenario, agent=HomeAgent(error=0.2))
    # Half of the channels are off by 0.2, in units of 0.1.
    assert off.prediction == pytest.approx((2.0,), rel=1e-5)
    assert off.channel_errors[0] == pytest.approx(4.0, rel=1e-5) and off.channel_errors[-1] == 0.0
    assert run().prediction == ()


def test_only_a_scenario_of_the_given_state_restores_it():
    agent = HomeAgent()
    run(agent=agent, restore="store@main")
    assert agent.restored == "store@main"
    run(replace(SCENARIO, start="initial"), agent=agent, restore="store@main")
    assert agent.restored is None


def test_a_trace_has_what_a_film_needs():
    trace = run(with_trace=True).trace
    assert trace["error"].shape == (100,) and trace["qpos"].shape == (100, JOINTS)
    assert not run().trace


def test_the_result_survives_json():
    scenario = replace(
        SCENARIO, num_steps=200, changes=(*SCENARIO.changes, change(100, contacts=[("a", "b")]))
    )
    result = run(scenario)
    assert EpisodeResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result


def test_actions_are_limited_to_range_and_rate_as_by_the_plant():
    limited = limit_actions(SPEC, SPEC.home_action, np.full((3, SPEC.action_dim), 10.0))
    assert limited[0] == pytest.approx(SPEC.home_action + SPEC.action_step)
    assert (limited <= SPEC.action_high + 1e-6).all()


def test_exchanged_joints_are_found_by_name():
    rng = np.random.default_rng(0)
    true = rng.normal(size=(40, 3))
    good = [(move + 0.1 * rng.normal(size=3), move) for move in true]
    assert find_exchanged(good, ("a", "b", "c")) == ()
    bad = [(move[[1, 0, 2]], move) for move in true]
    assert find_exchanged(bad, ("a", "b", "c")) == ("a and b",)
    assert find_exchanged(bad[:5], ("a", "b", "c")) == ()


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (InputFault(kind="bias", size=0.1, channels=(0,)), lambda obs, limit: obs[-1] + 0.1 * limit),
        (InputFault(kind="latency", size=2), lambda obs, limit: obs[-3]),
        (InputFault(kind="freeze", size=0, channels=(0,), first_step=3), lambda obs, limit: obs[3]),
        (
            InputFault(kind="freeze", size=0, channels=(0,), first_step=3, last_step=5),
            lambda obs, limit: obs[-1],
        ),
    ],
)
def test_input_faults_show_another_reading(fault, expected):
    line, first = FaultyInput(SPEC, (fault,), seed=0), []
    for step in range(8):
        obs = np.full(SPEC.obs_dim, 0.01 * step, np.float32)
        first.append(obs[0])
        shown = line.show(obs)
    assert shown is not None
    assert shown[0] == pytest.approx(expected(first, SPEC.layout.limits[0]))
    if fault.channels:
        assert shown[1] == first[-1]


def test_lost_messages_and_noise_have_the_share_and_the_deviation_that_was_asked_for():
    loss = FaultyInput(SPEC, (InputFault(kind="loss", size=0.3),), seed=1)
    lost = [loss.show(np.zeros(SPEC.obs_dim, np.float32)) is None for _ in range(1000)]
    assert 0.25 < np.mean(lost) < 0.35
    noise = FaultyInput(SPEC, (InputFault(kind="noise", size=0.01),), seed=1)
    shown = np.stack([noise.show(np.zeros(SPEC.obs_dim, np.float32)) for _ in range(500)])
    assert (shown / SPEC.layout.limits).std(0) == pytest.approx(0.01, rel=0.15)
    again = FaultyInput(SPEC, (InputFault(kind="noise", size=0.01),), seed=1)
    assert np.array_equal(again.show(np.zeros(SPEC.obs_dim, np.float32)), shown[0])


def test_an_agent_that_is_shown_nothing_waits_and_does_not_learn():
    agent = HomeAgent()
    run(replace(SCENARIO, input_faults=(InputFault(kind="loss", size=1.0),)), agent=agent)
    assert agent.steps == 0


def test_an_agent_with_a_frozen_joint_waits_and_the_plant_holds():
    agent = HomeAgent()
    agent.faults = {"elbow_pitch/position": "frozen"}
    run(agent=agent)
    assert agent.steps == 0
    agent.faults = {"elbow_pitch/position": "noisy"}
    run(agent=agent)
    assert agent.steps == 100


def test_a_case_is_kept_and_read_again(tmp_path):
    scenario = replace(
        SCENARIO, name="weak elbow: 0", input_faults=(InputFault(kind="bias", size=0.1, channels=(2,)),)
    )
    case = Case(
        scenario=scenario, figures={"settled 0": 4.2}, reasons=("it is far off",), origin={"base": "ab"}
    )
    path = case.save(tmp_path)
    assert path.name == "control-weak-elbow--0.case.json" and Case.load(path) == case


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[]", "no case"),
        (b"{", "not valid JSON"),
        (b'{"kind": "case", "format": 9}', "format 9"),
        (b'{"kind": "case", "format": 1, "scenario": {"check": "a"}}', "no valid case"),
    ],
)
def test_a_file_that_is_no_case_is_refused(tmp_path, content, said):
    (tmp_path / "x.case.json").write_bytes(content)
    with pytest.raises(SnapshotError, match=said):
        Case.load(tmp_path / "x.case.json")


def test_an_unknown_fault_is_refused():
    values = SCENARIO.to_dict() | {"input_faults": [{"kind": "melt", "size": 1.0}]}
    with pytest.raises(SpecError, match="melt"):
        Scenario.from_dict(values)


def episode(label, *settled, prediction=(), dangers=()):
    return EpisodeResult(
        label=label,
        settled=settled,
        prediction=prediction,
        channel_errors=(1.0, 3.0) if prediction else (),
        exchanged=(),
        coverage=(0.7,) * len(settled),
        surprise=0.0,
        dangers=dangers,
        num_rejections=0,
    )


def make_check(measure, **limits):
    return Check(name="control", group="g", measure=measure, severity="major", limits=limits)


def test_figures_of_control_are_those_after_the_change():
    results = [episode("control/a", 0.1, 1.0, 0.2), episode("control/b", 0.1, 3.0, 0.4)]
    found = compute_figures(make_check("control", settled=(None, 1.0)), results)
    assert found.figures["settled"] == 2.0 and found.figures["worst"] == 3.0
    assert found.figures["after"] == pytest.approx(0.3) and found.figures["cold_settled"] == pytest.approx(
        0.1
    )
    assert found.cases == ("control/b",)


def test_dangers_before_a_change_are_no_matter_of_it():
    hits = [Danger(step=10, kind="limit", what="a", world=world) for world in (0, 1, 2)]
    changed = episode("control/a", 0.1, 1.0, 0.2, dangers=tuple(hits))
    assert compute_figures(make_check("control"), [changed]).figures["limit_hits"] == 2.0
    assert (
        compute_figures(make_check("control"), [episode("control/a", 0.1, dangers=(hits[0],))]).figures[
            "limit_hits"
        ]
        == 1.0
    )


def test_figures_of_a_lifetime_compare_its_end_with_its_beginning():
    result = episode("control/0", 9.0, *(1.0,) * 5, *(2.0,) * 4)
    assert compute_figures(make_check("control"), [result]).figures["late_over_early"] == 2.0


def test_figures_of_learning_say_what_it_gives_and_costs():
    results = [
        episode("control/learning 0", 1.2, 2.0),
        episode("control/frozen as given 0", 1.0, 8.0),
        episode("control/frozen initial 0", 4.0, 9.0),
    ]
    figures = compute_figures(make_check("learning"), results).figures
    assert figures["cost_nominal"] == pytest.approx(1.2) and figures["changed_ratio"] == pytest.approx(0.25)
    assert figures["changed/frozen initial"] == 9.0


def test_figures_of_prediction_name_exchanged_joints():
    result = replace(episode("control/0", 1.0, prediction=(2.0,)), exchanged=("a and b",))
    found = compute_figures(make_check("prediction", error=(None, 1.0)), [result])
    assert found.figures["error"] == 2.0 and found.figures["worst_channel"] == 3.0
    assert found.figures["exchanged_channels"] == 1.0 and found.cases == ("control/0",)
    assert found.reasons == ("what the base predicts of a and b is exchanged",)


def test_the_score_is_the_geometric_mean_with_bounds():
    assert compute_score([episode("c/a", 9.0, 1.0), episode("c/b", 9.0, 4.0)]) == pytest.approx(2.0)
    assert compute_score([episode("c/a", 0.0, 1e9)]) == pytest.approx(20.0)
    assert compute_score([episode("c/a", 0.0, float("nan"))]) == pytest.approx(20.0)
