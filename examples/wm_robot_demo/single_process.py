"""Single-process session: every robot and its agent in this process, without ROS.

It uses the library's own control loop, as on a robot. Time is simulated, so the duration is the computing time.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from wm_robot.agent.builder import AgentConfig, load_agent
from wm_robot.control.control_loop import make_local_loop
from wm_robot.control.histogram import Histogram
from wm_robot.errors import DeviceError
from wm_robot.safety.modes import Mode
from wm_robot.spec import RobotSpec
from wm_robot.store.store import Store
from wm_robot.tasks import TaskError
from wm_robot_demo.load_session import RobotTrack
from wm_robot_demo.progress import DemoDisplay, SessionProgress
from wm_robot_demo.session import (
    DISPLAY_SECONDS,
    PLANNER_ITERATIONS,
    CommentaryFunction,
    DemoSession,
    RobotSettings,
)
from wm_robot_demo.status_reader import RobotStatus
from wm_robot_sim import make_robot
from wm_robot_sim.task_goals import TaskGoals
from wm_robot_sim.world_parameter import parse_world

NANOSECONDS = 1_000_000_000
"""Nanoseconds in a second."""
STATUS_SECONDS = 0.1
"""Simulated seconds between two status updates, as in a recording."""


class SimulatedRobotRun:
    """Simulated robot with its agent, and the data that a recording of both would contain."""

    def __init__(self, role: RobotSettings, visit: DemoSession, spec: RobotSpec):
        self.settings, self.spec = role, spec
        self.robot = make_robot(spec, parse_world(role.world, spec, seed=visit.seed), seed=visit.seed)
        self.change_time: float | None = None
        """When the world changed, in s since the first command."""
        self.view = RobotStatus(name=role.name)
        self._changed = parse_world(role.change_world, spec, seed=visit.seed + 1)
        self._worlds: dict[str, Any] = {"start": self.robot.world.to_dict()}
        task = spec.find_task(visit.task)
        self._target = TaskGoals(spec, task, seed=visit.seed)
        self._task_error = TaskError(spec, task)
        self._life = load_agent(
            AgentConfig(
                base=str(role.base),
                task=visit.task,
                learning=role.learning,
                seed=visit.seed,
                num_iterations=PLANNER_ITERATIONS,
            ),
            spec,
        )
        self._life.agent.begin(self.robot.last_action, str(role.restore) if role.restore else None)
        self._steps = 0
        self._obs: list[np.ndarray] = []
        self._goals: list[np.ndarray] = []
        self._errors: list[float] = []
        self._applied: list[np.ndarray] = []
        self._surprise: list[float] = []
        self._decided = Histogram()
        # Simulated time stops while a step is computed, so no step is late.
        self._loop = make_local_loop(self.robot, self, clock=lambda: 0.0)
        # The simulated robot starts at its initial pose, so no move to the home pose is needed.
        self._loop.supervisor.mode = Mode.LEARNED
        self._record_step()

    @property
    def time(self) -> float:
        """Simulated time, in s since the first command."""
        return self._steps * self.spec.dt

    def step(self) -> None:
        """Run one control period.

        Raises:
            DeviceError: If the supervisor has disabled the agent.
        """
        if (
            self.settings.change_time >= 0
            and self.change_time is None
            and self.time >= self.settings.change_time
        ):
            self.robot.set_world(self._changed)
            self.change_time = self.time
            self._worlds["change"] = self._changed.to_dict()
        mode = self._loop.run_period()
        if mode is not Mode.LEARNED:
            reason = self._loop.supervisor.reason
            raise DeviceError(f"'{self.settings.name}' stopped {self.time:.1f} s after its start: {reason}")
        self._steps += 1
        self._applied.append(self.robot.last_action.copy())
        self._record_step()

    def act(self, obs: np.ndarray) -> np.ndarray:
        """Return the agent's next action, `A`; see `Controller`."""
        began = time.perf_counter()
        applied = self.robot.last_action if self._steps else None
        action = self._life.agent.act(obs, self._goals[-1], applied=applied)
        self._decided.add_duration(1e3 * (time.perf_counter() - began))
        return action

    def observe(
        self, obs: np.ndarray, applied: np.ndarray, next_obs: np.ndarray, *, valid: bool, intervention: bool
    ) -> float:
        """Update the agent with a transition; see `Controller`."""
        surprise = self._life.agent.observe(
            obs, applied, next_obs, valid=valid, intervention=intervention
        ).nll
        self._surprise.append(float(surprise))
        return self._surprise[-1]

    def save(self) -> None:
        """Save the agent's state, if its settings name a store."""
        if self.settings.state is not None and self._surprise:
            self._life.agent.save(str(self.settings.state))

    def update_view(self) -> None:
        """Update its view."""
        said: dict[str, Any] = {
            "start": 0,
            "stamp": round(self.time * NANOSECONDS),
            "error": self._errors[-1],
            "active": True,
            "surprise": self._surprise[-1] if self._surprise else None,
            "lifetime": self._life.counters,
            "latency": {
                "p50_ms": self._decided.compute_percentile(50),
                "p99_ms": self._decided.compute_percentile(99),
            },
        }
        if self.change_time is not None:
            said["change"] = round(self.change_time * NANOSECONDS)
        self.view.update_from(said)

    def to_recording(self) -> RobotTrack:
        """Return the data in the form of a recording."""
        return RobotTrack(
            name=self.settings.name,
            time=np.arange(self._steps + 1) * self.spec.dt,
            obs=np.array(self._obs, np.float32),
            applied=np.array(self._applied, np.float32),
            target=np.array(self._goals),
            error=np.array(self._errors),
            # The surprise of a transition is computed at its end.
            surprise_time=np.arange(1, len(self._surprise) + 1) * self.spec.dt,
            surprise=np.array(self._surprise),
            change_time=self.change_time,
            worlds=self._worlds,
            status={"lifetime": dict(self._life.counters), "latency": self._decided.to_dict()},
        )

    def _record_step(self) -> None:
        self._obs.append(self.robot.read().values.copy())
        self._goals.append(self._target.compute_goal(self._steps))
        error = self._task_error
        measured = error.measure(
            self._obs[-2 if self._steps else -1],
            self.robot.last_action,
            self._obs[-1],
            self._goals[-1].astype(float),
            self.robot.compute_gripper_position() if error.uses_gripper else None,
        )
        self._errors.append(float(measured))


def run_session_in_process(
    session: DemoSession, spec: RobotSpec, display: DemoDisplay, commentary: CommentaryFunction
) -> Sequence[RobotTrack]:
    """Run a session. The states are saved at its end and after an interrupt.

    Raises:
        DeviceError: If a robot stops, or does not save its state.
    """
    robots = [SimulatedRobotRun(role, session, spec) for role in session.robots]
    try:
        _run_steps(robots, session, display, commentary)
        display.end_progress()
        _save_states(robots)
    except KeyboardInterrupt:
        display.end_progress()
        _save_states(robots)
        raise
    for role in session.robots:
        if role.state and not Store(role.state).read_branches():
            raise DeviceError(f"'{role.name}' has not saved its state in {role.state}")
    return [robot.to_recording() for robot in robots]


def _save_states(robots: Sequence[SimulatedRobotRun]) -> None:
    for robot in robots:
        robot.save()


def _run_steps(
    robots: Sequence[SimulatedRobotRun],
    session: DemoSession,
    display: DemoDisplay,
    commentary: CommentaryFunction,
) -> None:
    due = 0.0
    every = max(1, round(STATUS_SECONDS / session.period))
    for step in range(round(session.duration / session.period)):
        for robot in robots:
            robot.step()
        if step % every:
            continue
        for robot in robots:
            robot.update_view()
        if time.monotonic() < due:
            continue
        due = time.monotonic() + DISPLAY_SECONDS
        views = [robot.view for robot in robots]
        display.show_progress(
            SessionProgress(
                title=session.title,
                sentence=commentary(views),
                time=robots[0].time,
                duration=session.duration,
                period=session.period,
                robots=views,
                scale=session.scale,
            )
        )
