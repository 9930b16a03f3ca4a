"""A life over ROS 2, killed and gone on with, is the life that the library lives from the same messages."""

import os
import signal

import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.sim, pytest.mark.learn]
torch = pytest.importorskip("torch")

from tests.ros.test_agent import SPEC, Plant, saver
from wm_robot.agent.agent import Agent
from wm_robot.memory.lifetime_state import PLANNER_NOISE
from wm_robot.model.base import load_base, save_base
from wm_robot.model.config import ModelConfig
from wm_robot.model.world_model import WorldModel
from wm_robot.store.store import Store
from wm_robot_ros.middleware.environment import make_node_command
from wm_robot_ros.middleware.lifecycle import LifecycleClient
from wm_robot_sim.worlds import DomainRandomization

FIRST, THEN = 30, 25
SMALL = {"planner.num_samples": 16, "planner.horizon": 3, "planner.num_iterations": 1}
PATIENT = {"observation.max_age": 5.0, "target.max_age": 5.0, "status_rate": 50.0}


def saved_in(store):
    """What was lived, to the bit; not how far the noise of plans has got, which the library alone makes none of."""
    return {name: value.tobytes() for name, value in store.load().items() if name != PLANNER_NOISE}


def test_killed_and_gone_on_with_it_is_the_life_of_the_library(start, peer, environment, tmp_path):
    torch.manual_seed(0)
    truth = len(DomainRandomization(SPEC).parameter_names)
    shape = ModelConfig.from_spec(SPEC, truth=truth, width=16, blocks=1)
    save_base(tmp_path / "base", WorldModel(shape), SPEC, {})
    store = Store(tmp_path / "state")

    def lived(steps, **parameters):
        """The tensors after so many observations, the process being killed after it has saved."""
        given = {
            "base": str(tmp_path / "base"),
            "save_to": str(store.folder),
            **SMALL,
            **PATIENT,
            **parameters,
        }
        process = start(make_node_command("agent_node", given))
        client = LifecycleClient(peer.node, peer.executor, "agent")
        client.configure_node()
        client.activate_node()
        plant = Plant(peer)
        for _ in range(steps):
            plant.advance()
        peer.until(lambda: plant.told()["lifetime"]["num_valid"] == steps - 1, "it does not live")
        answer = saver(peer)()
        peer.until(answer.done, "it does not save")
        assert answer.result().success, answer.result().message
        os.kill(process.pid, signal.SIGKILL)
        process.wait_for_exit(10.0)
        return saved_in(store)

    def imagined(agent, steps, *restore):
        """The same by the library alone."""
        agent.begin(Plant.action(None, 1), *restore)
        for step in range(2, steps + 1):
            agent.observe(Plant.obs(None, step - 1), Plant.action(None, step), Plant.obs(None, step))
        agent.save(tmp_path / "library")
        return saved_in(Store(tmp_path / "library"))

    agent = Agent(load_base(tmp_path / "base"), SPEC, task=next(iter(SPEC.tasks)))
    assert lived(FIRST) == imagined(agent, FIRST)
    # It said no farewell: until its lease ends, questions go to the dead.
    peer.until(lambda: "agent" not in peer.node.get_node_names(), "it still seems to be there", timeout=60.0)
    head = store.resolve("main")
    assert lived(THEN, initial_state=str(store.folder)) == imagined(agent, THEN, tmp_path / "library")
    assert store.read_manifest().parents == (head,) and store.read_manifest().steps == FIRST + THEN - 2


def test_what_the_library_lives_depends_on_every_message():
    # Otherwise the test above would hold for a life that learns nothing.
    shape = ModelConfig.from_spec(SPEC, truth=1, width=16, blocks=1, memory="delta")
    model = WorldModel(shape)
    obs = torch.from_numpy(np.stack([Plant.obs(None, step) for step in (1, 2)]))[None]
    action = torch.from_numpy(Plant.action(None, 2))[None, None]
    state = model.initial_state(initial_action=action[:, 0])
    after = [
        model.scan(state, obs, action + shift, torch.ones(1, 1))[1].memory[0]["S"] for shift in (0.0, 0.001)
    ]
    assert not torch.equal(*after)
