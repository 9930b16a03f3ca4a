"""Stand-ins: each differs from the nominal robot, is sane, repeats by its seed, and takes worlds and effects."""

import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.sim.robots import some_worlds
from wm_robot.errors import SpecError
from wm_robot.robots import load_spec
from wm_robot.spec import RobotSpec
from wm_robot_sim import make_robot
from wm_robot_sim.batch import BatchSim
from wm_robot_sim.effects.effect import EFFECT_KINDS, Effect, find_lack
from wm_robot_sim.robot import SimRobot
from wm_robot_sim.standins.catalog import build_plant, find_standin, list_standins, parse_plant
from wm_robot_sim.standins.standin import STANDINS, StandIn
from wm_robot_sim.worlds import DomainRandomization, World

pytestmark = pytest.mark.sim

ROBOTS = ("arm", "so101", "cartpole", "cheetah")
PAIRS = [(robot, name) for robot in ROBOTS for name in STANDINS]
LEAST_TIP_ERROR, LEAST_JOINT_ERROR = 0.0035, 0.01
"""Difference from the nominal robot in a slow motion, in m and in rad (m), of robots with and without a tip."""
SIZE = {"arm": 0.4, "so101": 0.4, "cartpole": 0.5, "cheetah": 0.3}
"""Amplitude of the motion, in the unit of the commands."""


def clean_world(spec: RobotSpec, **changes: object) -> World:
    """The nominal world, with sensors that tell the truth at once."""
    silent = {"position_noise": 0.0, "velocity_noise": 0.0, "effort_noise": 0.0, "sensor_delay": 0}
    return replace(DomainRandomization(spec).make_nominal_world(), **{**silent, **changes})


def make_sim(robot: str, *standins: StandIn | None, seed: int = 0, **changes: object) -> list[BatchSim]:
    """A robot as each of some stand-ins, at home."""
    spec, sims = load_spec(robot), []
    for standin in standins:
        sim = BatchSim(spec, [clean_world(spec, **changes)], seed=seed, standin=standin)
        saved = sim.save()
        saved["physical"][:, 1 + sim.plant.qpos_ids] = spec.home_position
        saved["commands"][:] = spec.home_action
        sim.restore(saved)
        sims.append(sim)
    return sims


def swing(spec: RobotSpec, steps: int, size: float) -> np.ndarray:
    """A slow motion of all commands about home, above the table, `1 T A`."""
    at = np.arange(1, steps + 1)[:, None] * spec.dt
    phase = np.arange(spec.action_dim)
    motion = spec.home_action + size * np.sin(2 * np.pi * 0.4 * at + phase) * np.minimum(1.0, at)
    return np.clip(motion, spec.action_low, spec.action_high).astype(np.float32)[None]


@pytest.mark.parametrize(("robot", "name"), PAIRS)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_standin_moves_otherwise_than_the_nominal_robot_and_stays_finite(robot, name, seed):
    spec = load_spec(robot)
    sims = make_sim(robot, None, StandIn(name=name, seed=seed))
    plan = swing(spec, 150, SIZE[robot])
    places = np.array([[find_place(sim, action) for action in plan[0]] for sim in sims])
    assert all(is_stable(sim) and np.isfinite(sim.obs).all() for sim in sims)
    error = places[1] - places[0]
    if not spec.chain:
        assert np.sqrt((error**2).mean(0)).max() > LEAST_JOINT_ERROR
        return
    assert LEAST_TIP_ERROR < np.linalg.norm(error, axis=-1).max() < 0.12


def is_stable(sim: BatchSim) -> bool:
    """Whether no robot was unstable: MuJoCo starts such a one anew, at time zero."""
    passed = sim.steps * sim.spec.dt
    return np.isfinite(sim._physics_state).all() and np.allclose(sim._physics_state[:, 0], passed)


def find_place(sim: BatchSim, action: np.ndarray) -> np.ndarray:
    """Where the tip is after an action that the motors get as it is, or the joints of a robot without a tip."""
    _, applied = sim.step(action[None])
    np.testing.assert_array_equal(applied[0], action)
    return (sim.compute_gripper_position() if sim.spec.chain else sim.true_link_positions())[0]


@pytest.mark.parametrize(("robot", "name"), [pair for pair in PAIRS if pair[0] in ("arm", "so101")])
@pytest.mark.parametrize("seed", [0, 1])
def test_an_arm_holds_its_home_pose(robot, name, seed):
    spec = load_spec(robot)
    (sim,) = make_sim(robot, StandIn(name=name, seed=seed))
    sim.rollout(np.tile(spec.home_action, (1, 150, 1)))
    start = sim.true_link_positions()
    np.testing.assert_allclose(start[0], spec.home_position, atol=0.12)
    sim.rollout(np.tile(spec.home_action, (1, 50, 1)))
    np.testing.assert_allclose(sim.true_link_positions(), start, atol=2e-3)


@pytest.mark.parametrize("name", STANDINS)
def test_every_standin_differs_in_integrator_physics_step_and_contacts(name):
    spec = load_spec("arm")
    nominal, plant = build_plant(spec), build_plant(spec, StandIn(name=name))
    assert plant.model.opt.integrator != nominal.model.opt.integrator
    assert plant.model.opt.timestep < nominal.model.opt.timestep
    assert plant.substeps * plant.model.opt.timestep == pytest.approx(spec.dt, rel=1e-12)
    assert plant.model.opt.cone != nominal.model.opt.cone
    for field in ("geom_solref", "geom_friction"):
        assert not np.array_equal(getattr(plant.model, field), getattr(nominal.model, field))
    assert plant.parts.encoder.position_step.min() > 0


@pytest.mark.parametrize("name", STANDINS)
def test_a_seed_decides_the_sizes(name):
    spec = load_spec("arm")
    plan = swing(spec, 25, 0.4)
    sims = make_sim("arm", *(StandIn(name=name, seed=seed) for seed in (5, 5, 6)))
    found = [sim.rollout(plan)[0] for sim in sims]
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()


@pytest.mark.parametrize("name", STANDINS)
def test_a_robot_in_a_batch_does_what_it_does_alone_and_after_it_was_saved(name):
    spec, standin = load_spec("so101"), StandIn(name=name, seed=1)
    worlds = some_worlds(spec, 3)
    many = BatchSim(spec, worlds, seed=0, standin=standin)
    alone = BatchSim(spec, worlds[1:2], seed=0, first_row=1, standin=standin)
    plan = np.repeat(swing(spec, 40, 0.4), 3, 0)
    obs, _ = many.rollout(plan)
    parts = [alone.rollout(plan[1:2, :13])[0]]
    saved, other = alone.save(), BatchSim(spec, worlds[1:2], seed=0, first_row=1, standin=standin)
    other.rollout(plan[1:2, 20:])
    other.restore(saved)
    parts.append(other.rollout(plan[1:2, 13:])[0])
    np.testing.assert_array_equal(np.concatenate(parts, 1), obs[1:2])


@pytest.mark.parametrize("name", STANDINS)
def test_motion_is_copied_to_a_batch_of_more_robots(name):
    spec, standin = load_spec("arm"), StandIn(name=name)
    one = BatchSim(spec, [clean_world(spec)], seed=0, standin=standin)
    many = BatchSim(spec, [clean_world(spec)] * 2, seed=9, standin=standin)
    plan = swing(spec, 20, 0.4)
    one.rollout(plan[:, :10])
    many.copy_motion(one.save_motion(), np.zeros(2, int))
    after = np.repeat(one.rollout_true_obs(plan[:, 10:]), 2, 0)
    np.testing.assert_array_equal(many.rollout_true_obs(np.repeat(plan[:, 10:], 2, 0)), after)


@pytest.mark.parametrize(("robot", "name"), [pair for pair in PAIRS if pair[0] in ("arm", "so101")])
def test_worlds_and_effects_act_on_a_standin(robot, name):
    spec = load_spec(robot)
    kinds = [kind for kind in EFFECT_KINDS if not find_lack(spec, kind)]
    plain = clean_world(spec)
    worlds = [plain, *some_worlds(spec, 4, seed=2)]
    worlds += [replace(plain, effects=(Effect(kind=kind, seed=3, strength=2.0),)) for kind in kinds]
    sim = BatchSim(spec, worlds, seed=0, standin=StandIn(name=name))
    saved = sim.save()
    for part in ("physical", "commands"):
        saved[part][:] = saved[part][:1]
    sim.restore(saved)
    obs, _ = sim.rollout(np.repeat(swing(spec, 40, 0.4), len(worlds), 0))
    assert is_stable(sim) and np.isfinite(obs).all()
    differs = (obs[1:] != obs[:1]).any((1, 2))
    assert differs.all(), f"not to be seen: {[worlds[1 + n].effects for n in np.flatnonzero(~differs)]}"
    sim.set_worlds(range(len(worlds)), [plain] * len(worlds))
    for model in sim._models:
        np.testing.assert_array_equal(model.body_mass, sim.plant.model.body_mass)


@pytest.mark.parametrize("name", STANDINS)
def test_a_delay_of_a_world_lasts_as_long_on_a_standin(name):
    spec = load_spec("arm")
    nominal, standin = (
        BatchSim(spec, [clean_world(spec, delay=10, sensor_delay=2)], seed=0, standin=each)
        for each in (None, StandIn(name=name))
    )
    assert nominal._path._delay[0, 0, 0] * nominal.plant.model.opt.timestep == pytest.approx(0.04)
    step = standin.plant.model.opt.timestep
    own = standin.plant.parts.delay
    assert standin._path._delay[0, 0, 0] * step == pytest.approx(0.04 + own, abs=step)
    assert standin._sensor_delay[0, 0] * step == pytest.approx(0.008, abs=step)


def test_a_simulated_robot_is_a_standin_and_passes_the_gate():
    spec = load_spec("so101")
    robot = make_robot(spec, seed=3, standin=find_standin("flexible:7", spec))
    assert robot.standin == StandIn(name="flexible", seed=7) and f"{robot.standin}" == "standin/flexible:7"
    before = robot.last_action
    robot.read()
    np.testing.assert_array_equal(robot.write(np.full(6, np.nan)), before)
    for _ in range(30):
        robot.write(robot.last_action)
    # A picture has the joints of the robot's own model.
    assert robot.qpos().shape == SimRobot(spec, seed=3).qpos().shape
    assert robot.read().values.shape == (12,) and np.isfinite(robot.read().values).all()


def test_without_a_standin_the_plant_is_the_model_alone():
    robot = make_robot("arm", seed=0)
    assert robot.standin is None and robot._batch.plant.parts is None
    assert parse_plant("nominal", robot.spec) is None


@pytest.mark.parametrize("robot", ["arm", "so101", "cheetah", "quadruped", "rover"])
def test_a_robot_has_at_least_four_standins(robot):
    found = list_standins(load_spec(robot))
    assert len(found) >= 4 and all(each.description for each in found)
    if robot in ("arm", "so101"):
        assert [each.name for each in found] == list(STANDINS)


def test_the_page_of_standins_has_a_row_for_each():
    page = (Path(__file__).parents[2] / "docs/standins.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([\w-]+)` \|", page, re.MULTILINE) == list(STANDINS)


@pytest.mark.parametrize(
    ("text", "seed"), [("coarse", 4), ("standin/coarse", 4), ("coarse:9", 9), ("standin/coarse:9", 9)]
)
def test_a_standin_is_found_by_name(text, seed):
    assert find_standin(text, load_spec("arm"), seed=4) == StandIn(name="coarse", seed=seed)


@pytest.mark.parametrize("text", ["real", "standin/real", "coarse:many", "coarse:", "coarse:-1", ""])
def test_an_unknown_name_is_answered_with_the_known_ones(text):
    with pytest.raises(SpecError) as refused:
        find_standin(text, load_spec("rover"))
    assert "standin/sts3215" in f"{refused.value}" and "cable-drag" not in f"{refused.value}"


@pytest.mark.parametrize(
    ("robot", "name", "words"),
    [
        ("quadruped", "sts3215", ("a force at once", "'yaw_front_left'", "quadruped")),
        ("rover", "cable-drag", ("a joint with a motor and with limits", "rover.xml")),
    ],
)
def test_what_a_robot_lacks_for_a_standin_is_said(robot, name, words):
    spec = load_spec(robot)
    for ask in (find_standin, lambda name, spec: BatchSim(spec, [], seed=0, standin=StandIn(name=name))):
        with pytest.raises(SpecError) as refused:
            ask(name, spec)
        assert all(word in f"{refused.value}" for word in words), refused.value


@pytest.mark.parametrize("robot", ["finger", "hopper", "quadruped", "reacher", "rover", "walker"])
def test_other_robots_run_as_each_of_their_standins(robot):
    spec = load_spec(robot)
    for standin in list_standins(spec):
        (sim,) = make_sim(robot, standin)
        obs, _ = sim.rollout(swing(spec, 30, 0.2))
        assert is_stable(sim) and np.isfinite(obs).all(), standin


def test_declared_ranges_are_those_of_the_robot():
    spec = load_spec("rover")
    worlds = some_worlds(spec, 4)
    for standin in list_standins(spec):
        sim = BatchSim(spec, worlds, seed=0, standin=standin)
        assert sim.plant.randomized.names == DomainRandomization(spec).randomized.names


def test_a_batch_takes_at_most_a_few_times_as_long():
    spec = load_spec("arm")
    taken = []
    for standin in (None, StandIn(name="sts3215")):
        sim = BatchSim(spec, [clean_world(spec)] * 64, seed=0, standin=standin)
        sim.step(sim.last_action)
        times = []
        for _ in range(5):
            begun = time.process_time()
            for _ in range(4):
                sim.step(sim.last_action)
            times.append(time.process_time() - begun)
        taken.append(min(times))
    # Measured: 2.7 times.
    assert taken[1] < 5 * taken[0]
