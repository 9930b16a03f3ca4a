"""Demo session: robots in parallel, each a plant and an agent in its own namespace."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from wm_robot.errors import DeviceError
from wm_robot.store.store import Store
from wm_robot_demo.processes import Crew
from wm_robot_demo.progress import Scene, Screen
from wm_robot_demo.status_reader import RobotView, Watch

LOOK_EVERY = 0.12
"""Seconds between two updates of the display."""
SILENCE = 10.0
"""Seconds without a status of a robot that count as a fault."""
ITERATIONS = 2
"""Planner iterations of each agent, one fewer than on a robot. Two agents, two plants and the recorder may share
two cores, and a late command costs more than a coarser plan."""
PRIORITY = 10
"""Real-time priority of the agents, where the system permits it. Shorter tasks have a higher priority."""
LISTENERS = 2
"""Plant and recorder: a robot starts when both have subscribed, so that the recording has its first step."""
SAVING = 10.0
"""Time limit for an agent to save its state at the end of a session, in s."""
START_UP = 40.0
"""Time limit for an agent to load its base on a busy machine, in s."""


@dataclass(frozen=True, kw_only=True)
class Role:
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


class Teller(Protocol):
    """Function that returns a sentence about the current event."""

    def __call__(self, robots: Sequence[RobotView]) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Visit:
    """Settings of a session that its robots share."""

    title: str
    robot: str
    """Name of the spec."""
    period: float
    """Its control period, in s."""
    seed: int
    length: float
    """In s, from the first command of the robot that started last."""
    roles: Sequence[Role]


def hold(visit: Visit, crew: Crew, watch: Watch, screen: Screen, tell: Teller) -> None:
    """Start the robots, monitor them until the session is over, and end them; the states are saved then.

    Raises:
        DeviceError: If a process ends, sends no status, or does not save its state.
    """
    for role in visit.roles:
        _start(crew, visit, role)
    watched = _Watched(visit, crew, watch)
    while not watched.over:
        time.sleep(LOOK_EVERY)
        watched.look()
        screen.show(
            Scene(
                title=visit.title,
                story=tell(watched.views) if watched.moving else "starting the robots",
                time=watched.time,
                length=visit.length,
                period=visit.period,
                robots=watched.views,
            )
        )
    screen.clear()
    # The agents first, because they save; a plant stops its robot in the absence of commands.
    codes = crew.stop(*(agent_of(role.name) for role in visit.roles), patience=SAVING)
    for role in visit.roles:
        code = codes[agent_of(role.name)]
        if code or (role.state and not Store(role.state).branches()):
            what = f"'{agent_of(role.name)}' ended with code {code} and may not have saved its state"
            raise DeviceError(crew.explain(agent_of(role.name), what))
    crew.stop(*(_plant(role.name) for role in visit.roles))


class _Watched:
    """Session monitor: detects failed processes and silent robots."""

    def __init__(self, visit: Visit, crew: Crew, watch: Watch):
        self._visit, self._crew, self._watch = visit, crew, watch
        self._began = time.monotonic()
        self._heard: dict[str, float] = {}
        self.views = [self._watch.robots.setdefault(r.name, RobotView(name=r.name)) for r in visit.roles]

    @property
    def moving(self) -> bool:
        return all(view.time is not None for view in self.views)

    @property
    def time(self) -> float:
        """Seconds since the first command of the robot that started last; 0 before."""
        return min(view.time or 0.0 for view in self.views)

    @property
    def over(self) -> bool:
        return self.time >= self._visit.length

    def look(self) -> None:
        self._crew.check()
        news, now = self._watch.look(), time.monotonic()
        for view in self.views:
            if view.name in news:
                self._heard[view.name] = now
            if view.trouble:
                raise DeviceError(
                    self._crew.explain(agent_of(view.name), f"'{view.name}' stopped: {view.trouble}")
                )
            if now - self._heard.get(view.name, now) > SILENCE:
                what = f"'{view.name}' sent no status for {SILENCE:.0f} s"
                raise DeviceError(self._crew.explain(_plant(view.name), what))
            if view.time is None and now - self._began > START_UP:
                what = f"'{view.name}' received no command within {START_UP:.0f} s"
                raise DeviceError(self._crew.explain(agent_of(view.name), what))


def agent_of(name: str) -> str:
    """Return the process name of a robot's agent."""
    return f"{name}-agent"


def _plant(name: str) -> str:
    return f"{name}-plant"


def _start(crew: Crew, visit: Visit, role: Role) -> None:
    # The agent takes longest to load.
    agent = {
        "robot": visit.robot,
        "seed": visit.seed,
        "base": str(role.base.absolute()),
        "learning": role.learning,
        "restore": str(role.restore.absolute()) if role.restore else "",
        "state": str(role.state.absolute()) if role.state else "",
        "autostart": True,
        "listeners": LISTENERS,
        "planner.iterations": ITERATIONS,
        "realtime.priority": PRIORITY,
    }
    plant = {
        "robot": visit.robot,
        "seed": visit.seed,
        "world": role.world,
        "change.time": float(role.change_time),
        "change.world": role.change_world,
        # A simulated robot cannot break, and a short load of the machine should not end the demo.
        "hold_if_late": False,
        "realtime.priority": PRIORITY + 1,
    }
    crew.start(agent_of(role.name), "agent_node", agent, namespace=role.name)
    crew.start(_plant(role.name), "plant_node", plant, namespace=role.name)
