"""Sizes of a training follow the robot; time and memory are said beforehand; what cannot be learned is refused."""

from dataclasses import replace

import numpy as np
import pytest

pytestmark = [pytest.mark.learn, pytest.mark.sim]
torch = pytest.importorskip("torch")
pytest.importorskip("mujoco")

from tests.sim.small_robots import make_hinge
from wm_robot.errors import SpecError
from wm_robot.model.config import ModelConfig
from wm_robot.robots import load_spec
from wm_robot_cli.training_size import (
    TrainingSize,
    check_trajectories,
    choose_training_size,
    estimate_training,
)
from wm_robot_cli.trajectory_collector import TrajectoryCollector
from wm_robot_sim.rollouts import collect_trajectories
from wm_robot_sim.worlds import DomainRandomization

SWING = '<joint name="swing" axis="0 1 0" range="-2 2" damping="0.3"/><geom size="0.02" pos="0 0 0.2" mass="0.3"/>'
SERVO = '<position name="swing" joint="swing" kp="20" kv="1" ctrlrange="-2 2"/>'
TASKS = {"stay": {"reward": "hold"}}


def test_the_arm_is_trained_as_its_bases_were():
    assert choose_training_size(load_spec("arm")) == TrainingSize(
        width=128, segment_steps=64, trajectory_steps=512, random_trajectories=3072, planned_trajectories=384
    )


@pytest.mark.parametrize(
    ("rate", "segment", "trajectory"), [(10, 32, 256), (20, 32, 256), (100, 128, 1024), (500, 128, 2048)]
)
def test_lengths_are_the_same_time_at_every_rate_within_bounds(rate, segment, trajectory):
    size = choose_training_size(replace(load_spec("arm"), rate=float(rate)))
    assert (size.segment_steps, size.trajectory_steps) == (segment, trajectory)
    assert size.random_trajectories * trajectory == 3072 * 512


@pytest.mark.parametrize(("joints", "width"), [(1, 128), (6, 128), (20, 192), (40, 256)])
def test_larger_robots_have_wider_models(joints, width):
    arm = load_spec("arm")
    listed = tuple(replace(arm.joints[0], name=f"j{number}") for number in range(joints))
    motors = tuple(replace(arm.actuators[0], name=joint.name, joint=joint.name) for joint in listed)
    large = replace(arm, joints=listed, actuators=motors, chain=(), tasks={}, world={})
    assert choose_training_size(large).width == width


def test_a_given_length_of_a_trajectory_sets_how_many_there_are():
    size = choose_training_size(load_spec("arm"), trajectory_steps=32)
    assert size.segment_steps == 32 and size.random_trajectories == 3072 * 16


def test_an_estimate_is_of_all_that_a_training_does_and_leaves_its_random_numbers_alone(tmp_path):
    spec = make_hinge(tmp_path, SWING, SERVO, tasks=TASKS)
    shape = ModelConfig.from_spec(
        spec, truth=len(DomainRandomization(spec).parameter_names), memory="gru", width=16
    )

    def estimate(scale, rounds=2):
        collector = TrajectoryCollector(
            spec=spec, task="stay", num_trajectories=(1000 * scale, 100 * scale), steps=100, static_share=0.0, seed=0,
            threads=1, nominal_only=False,
        )  # fmt: skip
        sizes = {"updates": 100 * scale, "batch_size": 4, "segment_steps": 16, "horizon": 4}
        return estimate_training(collector, shape, **sizes, num_planned_rounds=rounds)

    torch.manual_seed(3)
    before = torch.get_rng_state()
    small, large = estimate(1), estimate(1000)
    assert torch.equal(torch.get_rng_state(), before)
    # Measured on a machine with other work.
    assert 100 < large.training_s / small.training_s < 10_000
    assert 100 < large.simulation_s / small.simulation_s < 10_000
    transitions = 999 * (1000 + 2 * 100) * 100
    assert large.memory - small.memory >= 4 * (2 * spec.obs_dim + spec.action_dim) * transitions
    assert "min of simulation and" in large.describe() and "GiB of memory" in large.describe()


def collect(spec):
    return collect_trajectories(spec, num_trajectories=4, num_steps=32, seed=0)


def test_a_channel_that_never_changes_is_refused(tmp_path):
    body = '<joint name="swing" axis="0 1 0" range="-2 2" damping="1"/><geom size="0.02" pos="0 0 0.2" mass="1"/>'
    spec = make_hinge(tmp_path, body, SERVO, tasks=TASKS)
    batch = collect(spec)
    check_trajectories(spec, batch)
    batch.obs[..., 0] = 0.25
    with pytest.raises(
        SpecError, match=r"\['swing/position'\] of robot 'hinge' never change .* Remove the joint"
    ):
        check_trajectories(spec, batch)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e9])
def test_a_simulation_that_diverges_is_refused(tmp_path, value):
    spec = make_hinge(tmp_path, SWING, SERVO, tasks=TASKS)
    batch = collect(spec)
    batch.obs[2, 7, 1] = value
    with pytest.raises(
        SpecError, match="robot 'hinge' diverges under random actions: 'swing/velocity' is beyond 1000 times"
    ):
        check_trajectories(spec, batch)
