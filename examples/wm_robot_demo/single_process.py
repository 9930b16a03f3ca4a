"""Single-process session: every robot and its agent in this process, without ROS.

It uses the library's own control loop, as on a robot. Time is simulated, so the duration is the computing time.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from wm_robot.agent.builder import LifeConfig, load_life
from wm_robot.control.control_loop import make_local_loop
from wm_robot.control.histogram import Histogram
from wm_robot.errors import DeviceError
from wm_robot.safety.modes import Mode
from wm_robot.spec import RobotSpec
from wm_robot.store.store import Store
from wm_robot_demo.load_session import Tale
from wm_robot_demo.progress import Scene, Screen
from wm_robot_demo.session import ITERATIONS, LOOK_EVERY, Role, Teller, Visit
from wm_robot_demo.status_reader import RobotView
from wm_robot_sim import make_robot
from wm_robot_sim.goals import MovingTarget
from wm_robot_sim.world_parameter import read_world

SECOND = 1_000_000_000
"""Nanoseconds in a second."""
HEARD_EVERY = 0.1
"""Simulated seconds between two status updates, as in a recording."""


class SimulatedLife:
    """Simulated robot with its agent, and the data that a recording of both would contain."""

    def __init__(self, role: Role, visit: Visit, spec: RobotSpec):
        self.role, self.spec = role, spec
        self.robot = make_robot(spec, read_world(role.world, spec, seed=visit.seed), seed=visit.seed)
        self.change: float | None = None
        """When the world changed, in s since the first command."""
        self.view = RobotView(name=role.name)
        self._changed = read_world(role.change_world, spec, seed=visit.seed + 1)
        self._worlds: dict[str, Any] = {"start": self.robot.world.to_dict()}
        self._target = MovingTarget(spec, seed=visit.seed)
        self._life = load_life(
            LifeConfig(
                base=str(role.base),
                task=next(iter(spec.tasks)),
                learning=role.learning,
                seed=visit.seed,
                iterations=ITERATIONS,
            ),
            spec,
        )
        self._life.agent.begin(self.robot.hold, str(role.restore) if role.restore else None)
        self._steps = 0
        self._obs: list[np.ndarray] = []
        self._goals: list[np.ndarray] = []
        self._tips: list[np.ndarray] = []
        self._applied: list[np.ndarray] = []
        self._surprise: list[float] = []
        self._decided = Histogram()
        # Simulated time stops while a step is computed, so no step is late.
        self._loop = make_local_loop(self.robot, self, clock=lambda: 0.0)
        # The simulated robot starts at its initial pose, so no move to the home pose is needed.
        self._loop.supervisor.mode = Mode.LEARNED
        self._note()

    @property
    def time(self) -> float:
        """Simulated time, in s since the first command."""
        return self._steps * self.spec.dt

    def step(self) -> None:
        """Run one control period.

        Raises:
            DeviceError: If the supervisor has disabled the agent.
        """
        if self.role.change_time >= 0 and self.change is None and self.time >= self.role.change_time:
            self.robot.change(self._changed)
            self.change = self.time
            self._worlds["change"] = self._changed.to_dict()
        mode = self._loop.step()
        if mode is not Mode.LEARNED:
            reason = self._loop.supervisor.reason
            raise DeviceError(f"'{self.role.name}' stopped {self.time:.1f} s after its start: {reason}")
        self._steps += 1
        self._applied.append(self.robot.hold.copy())
        self._note()

    def act(self, obs: np.ndarray) -> np.ndarray:
        """Return the agent's next action, `A`; see `Controller`."""
        began = time.perf_counter()
        applied = self.robot.hold if self._steps else None
        action = self._life.agent.act(obs, self._goals[-1], applied=applied)
        self._decided.add(1e3 * (time.perf_counter() - began))
        return action

    def live(
        self, obs: np.ndarray, applied: np.ndarray, next_obs: np.ndarray, *, valid: bool, contact: bool
    ) -> float:
        """Update the agent with a transition; see `Controller`."""
        surprise = self._life.agent.live(obs, applied, next_obs, valid=valid, contact=contact).nll
        self._surprise.append(float(surprise))
        return self._surprise[-1]

    def save(self) -> None:
        """Save the agent's state, if its settings name a store."""
        if self.role.state is not None and self._surprise:
            self._life.agent.save(str(self.role.state))

    def tell(self) -> None:
        """Update its view."""
        said: dict[str, Any] = {
            "start": 0,
            "stamp": round(self.time * SECOND),
            "error": float(np.linalg.norm(self._goals[-1] - self._tips[-1])),
            "active": True,
            "surprise": self._surprise[-1] if self._surprise else None,
            "life": self._life.counters,
            "latency": {"p50_ms": self._decided.percentile(50), "p99_ms": self._decided.percentile(99)},
        }
        if self.change is not None:
            said["change"] = round(self.change * SECOND)
        self.view.hear(said)

    def tale(self) -> Tale:
        """Return the data in the form of a recording."""
        return Tale(
            name=self.role.name,
            time=np.arange(self._steps + 1) * self.spec.dt,
            obs=np.array(self._obs, np.float32),
            applied=np.array(self._applied, np.float32),
            target=np.array(self._goals),
            error=np.linalg.norm(np.array(self._goals, float) - np.array(self._tips), axis=-1),
            # The surprise of a transition is computed at its end.
            surprise_time=np.arange(1, len(self._surprise) + 1) * self.spec.dt,
            surprise=np.array(self._surprise),
            change=self.change,
            worlds=self._worlds,
            status={"life": dict(self._life.counters), "latency": self._decided.to_dict()},
        )

    def _note(self) -> None:
        self._obs.append(self.robot.read().values.copy())
        self._goals.append(self._target.goal(self._steps))
        self._tips.append(self.robot.tip())


def hold(visit: Visit, spec: RobotSpec, screen: Screen, tell: Teller) -> Sequence[Tale]:
    """Run a session. The states are saved at its end and after an interrupt.

    Raises:
        DeviceError: If a robot stops, or does not save its state.
    """
    robots = [SimulatedLife(role, visit, spec) for role in visit.roles]
    try:
        _step_together(robots, visit, screen, tell)
        screen.clear()
        _save(robots)
    except KeyboardInterrupt:
        screen.clear()
        _save(robots)
        raise
    for role in visit.roles:
        if role.state and not Store(role.state).branches():
            raise DeviceError(f"'{role.name}' has not saved its state in {role.state}")
    return [robot.tale() for robot in robots]


def _save(robots: Sequence[SimulatedLife]) -> None:
    for robot in robots:
        robot.save()


def _step_together(robots: Sequence[SimulatedLife], visit: Visit, screen: Screen, tell: Teller) -> None:
    due = 0.0
    every = max(1, round(HEARD_EVERY / visit.period))
    for step in range(round(visit.length / visit.period)):
        for robot in robots:
            robot.step()
        if step % every:
            continue
        for robot in robots:
            robot.tell()
        if time.monotonic() < due:
            continue
        due = time.monotonic() + LOOK_EVERY
        views = [robot.view for robot in robots]
        screen.show(
            Scene(
                title=visit.title,
                story=tell(views),
                time=robots[0].time,
                length=visit.length,
                period=visit.period,
                robots=views,
            )
        )
