"""Demo session: robots in parallel, each a plant and an agent in its own namespace."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from wm_robot.errors import DeviceError
from wm_robot.store.store import Store
from wm_robot.tasks import ErrorScale
from wm_robot.tasks.task_error import GRIPPER_SCALE
from wm_robot_demo.processes import NodeProcesses
from wm_robot_demo.progress import DemoDisplay, SessionProgress
from wm_robot_demo.status_reader import RobotStatus, StatusReader

DISPLAY_SECONDS = 0.12
"""Seconds between two updates of the display."""
STATUS_TIMEOUT = 10.0
"""Seconds without a status of a robot that count as a fault."""
PLANNER_ITERATIONS = 2
"""Planner iterations of each agent, one fewer than on a robot. Two agents, two plants and the recorder may share
two cores, and a late command costs more than a coarser plan."""
AGENT_PRIORITY = 10
"""Real-time priority of the agents, where the system permits it. Shorter tasks have a higher priority."""
MIN_SUBSCRIBERS = 2
"""Plant and recorder: a robot starts when both have subscribed, so that the recording has its first step."""
SAVE_TIMEOUT = 10.0
"""Time limit for an agent to save its state at the end of a session, in s."""
START_TIMEOUT = 40.0
"""Time limit for an agent to load its base on a busy machine, in s."""


@dataclass(frozen=True, kw_only=True)
class RobotSettings:
    """Settings of one robot in a session."""

    name: str
    """Also its namespace."""
    base: Path
    learning: bool
    restore: Path | None = None
    """Saved state to start from; None for the initial state."""
    state: Path | None = None
    """Folder for its state at the end."""
    world: str = "nominal"
    change_time: float = -1.0
    """Seconds before the hidden change; below 0 for none."""
    change_world: str = "nominal"


class CommentaryFunction(Protocol):
    """Function that returns a sentence about the current event."""

    def __call__(self, robots: Sequence[RobotStatus]) -> str: ...


@dataclass(frozen=True, kw_only=True)
class DemoSession:
    """Settings of a session that its robots share."""

    title: str
    robot: str
    """Name of the robot, or absolute path of its spec."""
    task: str
    """Name of the task of its spec."""
    period: float
    """Its control period, in s."""
    seed: int
    duration: float
    """In s, from the first command of the robot that started last."""
    robots: Sequence[RobotSettings]
    scale: ErrorScale = GRIPPER_SCALE
    """Scale of the errors."""


def run_session(
    session: DemoSession,
    processes: NodeProcesses,
    status_reader: StatusReader,
    display: DemoDisplay,
    commentary: CommentaryFunction,
) -> None:
    """Start the robots, monitor them until the session is over, and end them; the states are saved then.

    Raises:
        DeviceError: If a process ends, sends no status, or does not save its state.
    """
    for role in session.robots:
        _start_robot(processes, session, role)
    watched = _SessionMonitor(session, processes, status_reader)
    while not watched.is_over:
        time.sleep(DISPLAY_SECONDS)
        watched.check_robots()
        display.show_progress(
            SessionProgress(
                title=session.title,
                sentence=commentary(watched.views) if watched.is_moving else "starting the robots",
                time=watched.time,
                duration=session.duration,
                period=session.period,
                robots=watched.views,
                scale=session.scale,
            )
        )
    display.end_progress()
    # The agents first, because they save; a plant stops its robot in the absence of commands.
    codes = processes.stop_processes(
        *(agent_process_name(role.name) for role in session.robots), timeout=SAVE_TIMEOUT
    )
    for role in session.robots:
        code = codes[agent_process_name(role.name)]
        if code or (role.state and not Store(role.state).read_branches()):
            what = (
                f"'{agent_process_name(role.name)}' ended with code {code} and may not have saved its state"
            )
            raise DeviceError(processes.format_failure(agent_process_name(role.name), what))
    processes.stop_processes(*(_plant_process_name(role.name) for role in session.robots))


class _SessionMonitor:
    """Session monitor: detects failed processes and silent robots."""

    def __init__(self, visit: DemoSession, crew: NodeProcesses, watch: StatusReader):
        self._visit, self._crew, self._watch = visit, crew, watch
        self._began = time.monotonic()
        self._heard: dict[str, float] = {}
        self.views = [self._watch.robots.setdefault(r.name, RobotStatus(name=r.name)) for r in visit.robots]

    @property
    def is_moving(self) -> bool:
        return all(view.time is not None for view in self.views)

    @property
    def time(self) -> float:
        """Seconds since the first command of the robot that started last; 0 before."""
        return min(view.time or 0.0 for view in self.views)

    @property
    def is_over(self) -> bool:
        return self.time >= self._visit.duration

    def check_robots(self) -> None:
        self._crew.check_processes()
        news, now = self._watch.read_new(), time.monotonic()
        for view in self.views:
            if view.name in news:
                self._heard[view.name] = now
            if view.fault:
                raise DeviceError(
                    self._crew.format_failure(
                        agent_process_name(view.name), f"'{view.name}' stopped: {view.fault}"
                    )
                )
            if now - self._heard.get(view.name, now) > STATUS_TIMEOUT:
                what = f"'{view.name}' sent no status for {STATUS_TIMEOUT:.0f} s"
                raise DeviceError(self._crew.format_failure(_plant_process_name(view.name), what))
            if view.time is None and now - self._began > START_TIMEOUT:
                what = f"'{view.name}' received no command within {START_TIMEOUT:.0f} s"
                raise DeviceError(self._crew.format_failure(agent_process_name(view.name), what))


def agent_process_name(name: str) -> str:
    """Return the process name of a robot's agent."""
    return f"{name}-agent"


def _plant_process_name(name: str) -> str:
    return f"{name}-plant"


def _start_robot(crew: NodeProcesses, visit: DemoSession, role: RobotSettings) -> None:
    # The agent takes longest to load.
    agent = {
        "robot": visit.robot,
        "task": visit.task,
        "seed": visit.seed,
        "base": str(role.base.absolute()),
        "learning": role.learning,
        "initial_state": str(role.restore.absolute()) if role.restore else "",
        "save_to": str(role.state.absolute()) if role.state else "",
        "autostart": True,
        "min_subscribers": MIN_SUBSCRIBERS,
        "planner.num_iterations": PLANNER_ITERATIONS,
        "realtime.priority": AGENT_PRIORITY,
    }
    plant = {
        "robot": visit.robot,
        "task": visit.task,
        "seed": visit.seed,
        "world": role.world,
        "change.time": float(role.change_time),
        "change.world": role.change_world,
        # A simulated robot cannot break, and a short load of the machine should not end the demo.
        "hold_if_late": False,
        "realtime.priority": AGENT_PRIORITY + 1,
    }
    crew.start_process(agent_process_name(role.name), "agent_node", agent, namespace=role.name)
    crew.start_process(_plant_process_name(role.name), "plant_node", plant, namespace=role.name)
