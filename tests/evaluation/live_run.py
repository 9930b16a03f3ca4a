"""A live run of an agent on a simulated arm, recorded as a session as `recorder_node` would."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tests.recording.sessions import JOINTS, PERIOD, START, Said, joints, record, text
from wm_robot.agent.builder import AgentConfig, load_agent
from wm_robot.control.agent_loop import AgentLoop
from wm_robot.recording.session_file import load_typestore
from wm_robot.robots import load_spec
from wm_robot.streams.transition_assembler import TransitionAssembler
from wm_robot_sim.robot import SimRobot
from wm_robot_sim.task_goals import TaskGoals

SPEC = load_spec("arm")
BASE = Path(__file__).parents[2] / "bases" / "arm-semiparametric"
NUMBER = "std_msgs/msg/Float64"
LOST_STATE, LOST_ACTION, STOPPED = 40, 61, 80
"""Steps whose observation is lost, whose applied action is lost, and in which the safety layer intervened."""
STATUS_INTERVAL = 10
"""Steps between two messages of the status."""


@dataclass
class LiveRun:
    """What an agent did, and the messages that were recorded."""

    said: list[Said] = field(default_factory=list)
    surprises: list[float] = field(default_factory=list)
    flat_state: dict[str, np.ndarray] = field(default_factory=dict)

    def save(self, path: Path) -> Path:
        record(path, self.said, robot="")
        return path


def make_config(base: Path | str, *, learning: bool = True) -> AgentConfig:
    """An agent that plans little."""
    return AgentConfig(
        base=str(base),
        task="reach",
        learning=learning,
        num_samples=8,
        horizon=3,
        num_iterations=1,
        monitor_plans=False,
    )


def observation(values: np.ndarray, stamp: int, name: str = "joint_states") -> Said:
    position, velocity = np.split(np.asarray(values, np.float64), 2)
    return name, JOINTS, joints(stamp, name=list(SPEC.joint_names), position=position, velocity=velocity)


def action(values: np.ndarray, stamp: int, name: str) -> Said:
    return (
        name,
        JOINTS,
        joints(stamp, name=list(SPEC.action_names), position=np.asarray(values, np.float64)),
    )


def live_run(
    base: Path | str,
    *,
    steps: int,
    seed: int = 3,
    driver: str = "",
    faults: bool = True,
    learning: bool = True,
) -> LiveRun:
    """Run an agent in real order: it acts on each observation, then learns from the transition to it.

    Args:
        driver: Name of the node whose topics the agent has; empty: it is `agent`, which drives. Otherwise noise
            drives, and the agent publishes what it would command.
        faults: Lose an observation and an action, and intervene once.
    """
    run, robot = LiveRun(), SimRobot(SPEC, seed=seed)
    agent = load_agent(make_config(base, learning=learning), SPEC).agent
    goals = TaskGoals(SPEC, SPEC.find_task("reach"), seed=seed)
    name, topic = (driver, f"{driver}/shadow_command") if driver else ("agent", "joint_command")
    pairing, sent = TransitionAssembler(period=SPEC.dt, max_age=0.1), dict[int, np.ndarray]()
    rng = np.random.default_rng(seed)

    def send(stamp: int, values: np.ndarray) -> None:
        sent[stamp] = values
        run.said.append(action(values, stamp, topic))

    def publish(transition, surprise) -> None:
        run.surprises.append(surprise.nll)
        run.said.append(observation(surprise.mean, transition.stamp, f"{name}/prediction"))
        run.said.append((f"{name}/surprise", NUMBER, load_typestore().types[NUMBER](data=surprise.nll)))

    loop = AgentLoop(agent, SPEC, send=send, on_update=publish)
    loop.start()
    started, intervened = False, False
    for step in range(steps):
        stamp = START + step * PERIOD
        held = sent.get(stamp - PERIOD, robot.last_action)
        if driver:
            held = robot.last_action + rng.uniform(-0.03, 0.03, SPEC.action_dim).astype(np.float32)
        applied = robot.write(held) if step else robot.last_action
        obs = robot.read().values
        if faults and step == STOPPED:
            intervened = True
            run.said.append(text("plant/intervention", f'{{"stamp": {stamp}}}'))
        if not (faults and step == LOST_ACTION):
            run.said.append(action(applied, stamp, "applied_command"))
            pairing.add_applied(stamp, np.float32(applied))
        if faults and step == LOST_STATE:
            continue
        run.said.append(observation(obs, stamp))
        if pairing.add_observation(stamp, stamp, np.float32(obs)) is not None:
            continue
        if not started:
            agent.begin(pairing.last_applied)
            started = True
        found = []
        while (one := pairing.take_transition()) is not None:
            found.append(replace(one, intervention=intervened))
            intervened = False
        loop.run_step(stamp, np.float32(obs), goals.compute_goal(step), found)
        if step % STATUS_INTERVAL == 0:
            run.said.append(
                text(f"{name}/status", json.dumps({"active": True, "lifetime": dict(agent.counters)}))
            )
    run.flat_state = agent.state.flatten()
    return run
