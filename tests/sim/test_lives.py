import numpy as np
import pytest

from tests.sim.robots import ARM, ARM_WORLDS, ROBOTS
from wm_robot.errors import ConfigError
from wm_robot.robots import load_spec
from wm_robot_sim.batch import BatchSim
from wm_robot_sim.motion import SEGMENT_STEPS, draw_random_actions
from wm_robot_sim.rollouts import collect_trajectories, draw_world_schedule, draw_worlds

pytestmark = pytest.mark.sim


class Recorder:
    """Holds until a step, then turns the base; remembers what it was shown."""

    def __init__(self, turn_at):
        self.turn_at, self.acted, self.seen = turn_at, [], []

    def begin(self, hold, truth=None):
        self.hold, self.truth = hold, [truth]

    def act(self, obs, goal):
        self.acted.append((obs.copy(), goal.copy()))
        turn = 1.0 if len(self.acted) > self.turn_at else 0.0
        return self.hold + np.float32(turn) * np.eye(1, 6, dtype=np.float32)

    def observe(self, obs, applied, next_obs, *, truth=None):
        self.seen.append((obs.copy(), applied.copy(), next_obs.copy()))
        self.truth.append(truth)


@pytest.mark.parametrize("robot", ROBOTS)
def test_lives_have_the_shapes_they_say(robot):
    spec = load_spec(robot)
    lives = collect_trajectories(spec, num_trajectories=4, num_steps=29, seed=0)
    size = 3 if spec.chain else 0
    assert lives.obs.shape == (4, 30, spec.obs_dim) and lives.goal.shape == (4, 30, size)
    assert lives.action.shape == (4, 29, spec.action_dim) and lives.initial_action.shape == (
        4,
        spec.action_dim,
    )
    assert lives.physics.shape[:2] == (4, 3) and lives.world.shape == (4, 29)
    assert lives.world.dtype == np.int64
    for name in ("obs", "action", "initial_action", "goal", "physics"):
        assert getattr(lives, name).dtype == np.float32 and np.isfinite(getattr(lives, name)).all()


def test_same_seed_same_lives_and_held_out_lives_differ():
    one, two = (collect_trajectories(ARM, num_trajectories=3, num_steps=24, seed=1) for _ in range(2))
    other = collect_trajectories(ARM, num_trajectories=3, num_steps=24, seed=1, held_out=True)
    np.testing.assert_array_equal(one.obs, two.obs)
    assert not np.isclose(one.physics, other.physics).all((1, 2)).any()


def test_an_observation_follows_the_action_of_its_step():
    worlds = [[ARM_WORLDS.make_nominal_world()]] * 8
    lives = collect_trajectories(
        ARM, num_trajectories=8, num_steps=16, seed=0, worlds=worlds, policy=Recorder(turn_at=11)
    )
    moved = np.abs(np.diff(lives.action[:, :, 0], axis=1)) > 1e-3
    assert moved.argmax(1).tolist() == [10] * 8
    speed = np.abs(lives.obs[:, :, 6])
    # The action of step 11 shows in the reading after it, and not in the one before.
    assert speed[:, :12].max() < 0.15 and speed[:, 12].min() > 0.2


def test_lives_are_what_the_simulator_gave():
    worlds = [[ARM_WORLDS.make_nominal_world()]] * 2
    lives = collect_trajectories(ARM, num_trajectories=2, num_steps=40, seed=0, worlds=worlds)
    root = np.random.SeedSequence(0, spawn_key=(0,))
    sim = BatchSim(ARM, [w[0] for w in worlds], seed=int(root.spawn(5)[0].generate_state(1, np.uint64)[0]))
    np.testing.assert_array_equal(lives.initial_action, sim.last_action)
    obs, _ = sim.rollout(lives.action)
    np.testing.assert_allclose(lives.obs[:, 1:], obs, atol=1e-4)


def test_a_policy_sees_each_step_once_and_in_order():
    policy = Recorder(turn_at=5)
    lives = collect_trajectories(
        ARM, num_trajectories=2, num_steps=20, seed=0, policy=policy, change_rate=1 / 16
    )
    assert len(policy.acted) == len(policy.seen) == 20
    for t, ((obs, goal), (before, applied, after)) in enumerate(zip(policy.acted, policy.seen, strict=True)):
        np.testing.assert_array_equal(obs, lives.obs[:, t])
        np.testing.assert_array_equal(goal, lives.goal[:, t])
        np.testing.assert_array_equal(before, lives.obs[:, t])
        np.testing.assert_array_equal(applied, lives.action[:, t])
        np.testing.assert_array_equal(after, lives.obs[:, t + 1])
    np.testing.assert_array_equal(np.stack(policy.truth[1:], 1), lives.true_physics())
    np.testing.assert_array_equal(policy.truth[0], lives.true_physics()[:, 0])


def test_a_life_visits_the_worlds_that_it_is_told_to():
    lives = collect_trajectories(
        ARM, num_trajectories=2, num_steps=32, seed=0, world_schedule=[(0, 0), (16, 2), (24, 0)]
    )
    assert lives.world.tolist() == [[0] * 16 + [2] * 8 + [0] * 8] * 2


@pytest.mark.parametrize(
    ("visits", "worlds"),
    [([(0, 0), (12, 1)], 3), ([(0, 0), (16, 1)], 1), ([(8, 0)], 3), ([], 3), ([(0, 0), (16, 1), (16, 2)], 3)],
)
def test_a_visit_that_cannot_be_is_refused(visits, worlds):
    own = [[ARM_WORLDS.make_nominal_world()] * worlds]
    with pytest.raises(ConfigError, match="visits"):
        collect_trajectories(ARM, num_trajectories=1, num_steps=32, seed=0, worlds=own, world_schedule=visits)


def test_worlds_change_on_the_grid_as_often_as_asked_and_often_return():
    schedule = draw_world_schedule(np.random.default_rng(0), 400, 512, 3, 1 / 256)
    changes = np.diff(schedule, axis=1) != 0
    assert (schedule[:, :8] == 0).all()
    assert changes.sum(1).mean() == pytest.approx(2, abs=0.25)
    assert set(np.flatnonzero(changes.any(0)) % 8) == {7}
    returned = [((row == 0) & (np.maximum.accumulate(row) > 0)).any() for row in schedule]
    assert 0.3 < np.mean(returned) < 0.8


def test_a_single_world_never_changes():
    schedule = draw_world_schedule(np.random.default_rng(0), 50, 512, 1, 1 / 16)
    assert not schedule.any()


def test_truth_is_of_the_world_in_force():
    lives = collect_trajectories(ARM, num_trajectories=8, num_steps=64, seed=0, change_rate=1 / 16)
    truth = lives.true_physics()
    for b, t in ((0, 0), (3, 40), (7, 63)):
        np.testing.assert_array_equal(truth[b, t], lives.physics[b, lives.world[b, t]])


def test_a_few_worlds_are_nominal():
    worlds = draw_worlds(ARM, 200, np.random.default_rng(0))
    share = np.mean([not world.to_vector().any() for own in worlds for world in own])
    assert 0.03 < share < 0.1


def test_worlds_of_another_count_are_refused():
    with pytest.raises(ConfigError, match="worlds has 1 trajectories"):
        collect_trajectories(
            ARM, num_trajectories=2, num_steps=8, seed=0, worlds=[[ARM_WORLDS.make_nominal_world()]]
        )


@pytest.mark.parametrize("robot", ROBOTS)
def test_random_actions_stay_in_range_and_differ_in_kind(robot):
    spec = load_spec(robot)
    hold = np.zeros((200, spec.action_dim), np.float32)
    actions = draw_random_actions(spec, np.random.default_rng(0), hold, 3 * SEGMENT_STEPS)
    assert actions.shape == (200, 3 * SEGMENT_STEPS, spec.action_dim)
    assert (actions >= spec.action_low).all() and (actions <= spec.action_high).all()
    change = np.abs(np.diff(actions.reshape(600, SEGMENT_STEPS, -1), axis=1)).mean((1, 2))
    assert np.quantile(change, 0.05) < 0.1 * np.quantile(change, 0.95)


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_life_begins_by_moving_every_joint(robot):
    spec = load_spec(robot)
    hold = np.zeros((200, spec.action_dim), np.float32)
    actions = draw_random_actions(spec, np.random.default_rng(0), hold, SEGMENT_STEPS)
    moved = np.ptp(actions, axis=1) > 0.01 * (spec.action_high - spec.action_low)
    # All but a few motors that begin at the end of their range.
    assert moved.mean() > 0.98
