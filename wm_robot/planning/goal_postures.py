"""Goal postures: where the search should end when no plan of the horizon leads to the goal.

A plan looks a fifth of a second ahead. An arm with a joint at its end, or leant back over its shoulder, is on a
branch of the inverse kinematics from which no such plan leads to the goal. Then postures for the goal are searched in
all of the joint ranges, and the planner tracks the nearest one in joint space: a detour.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float

from wm_robot.math.inverse_kinematics import TipKinematics
from wm_robot.planning.mppi import MppiConfig
from wm_robot.spec import RobotSpec

_log = logging.getLogger(__name__)

NUM_STARTS = 16
"""Number of starts that are improved together, one iteration in each control step."""
START_STEPS = 20
"""Number of iterations after which a start that is not at the goal is replaced by the next one."""
LOCAL_STEPS = 15
"""Number of iterations that decide whether the present posture leads to the goal by itself."""
NUM_DRAWN_STARTS = 64
"""Number of drawn starts; when all of them failed, the goal counts as unreachable."""
NEAR, FAR = 0.015, 0.03
"""Tip error below which the goal is reached and above which postures are searched, in m."""
TOLERANCE = 0.01
"""Largest tip error of a goal posture, in m: starts follow a moving goal with a lag."""
LOST = 0.02
"""Tip error above which a start lost a moving goal, in m."""
PROGRESS_S, PROGRESS = 0.3, 0.9
"""Time in which plans must reduce the tip error to this part of it."""
DETOUR_S = 2.0
"""Longest duration of a detour, in s; then another posture is tried."""
ARRIVED = 0.1
"""Largest joint error at the end of a detour, in rad (m)."""
APART = 0.3
"""Smallest distance of another posture from the present one, in rad (m)."""
REJECTED_RADIUS = 0.5
"""Postures within this distance of one that was tried in vain are not tried, in rad (m)."""
AHEAD = 0.35
"""Largest distance of the tracked joint positions from the present ones, in rad (m): what a plan can nearly do."""
MARGIN = 0.15
"""Preferred distance of a posture from the ends of the joint ranges, in rad (m)."""


def make_posture_config(planner: MppiConfig) -> MppiConfig:
    """Return the planner config for postures: far from its goal, a plan must be feasible throughout."""
    return replace(planner, limit_refinements=True)


class PostureSearch:
    """Search of goal postures for one robot, spread over its control steps."""

    def __init__(self, kinematics: TipKinematics, home: Float[np.ndarray, "J"], rate: float):
        """Args:
        home: Rest position of each joint of the chain; the first start.
        rate: Control steps per second.
        """
        self._kinematics, self._joints = kinematics, len(home)
        self._progress_steps, self._detour_steps = round(PROGRESS_S * rate), round(DETOUR_S * rate)
        drawn = np.random.default_rng(0).uniform(
            kinematics.low, kinematics.high, (NUM_DRAWN_STARTS, len(home))
        )
        self._starts = np.concatenate([np.asarray(home, np.float64)[None], drawn[1:]])
        self.posture: np.ndarray | None = None
        """Posture to track, `J`; None while plans aim at the goal itself."""
        self.is_unreachable = False
        """Whether no start leads to the goal."""
        self.num_detours = 0
        self._reset()

    def update(self, position: Float[np.ndarray, "J"], goal: Float[np.ndarray, "3"]) -> None:
        """Update the posture to track with the sensed joint positions and the goal point.

        Near the goal this is the forward kinematics of one posture; else one more iteration of all starts.
        """
        tip = self._kinematics.compute_tip(position[None])[0][0]
        error = float(np.sqrt(((tip - goal) ** 2).sum()))
        if error < NEAR or (self._rows is None and error < FAR):
            if self._rows is not None or self.is_unreachable:
                self._reset()
            return
        self._errors_seen.append(error)
        self._iterate(position, goal)
        if self.posture is None:
            if self._is_stuck(error):
                self._begin_detour(position)
            return
        self._detour_age += 1
        row = self._detour_row
        if self._errors[row] < LOST:
            self.posture = self._rows_or_fail()[row].copy()
        # A joint that does not follow its command never arrives, and the goal may be reached without it.
        if self._is_local or np.abs(self.posture - position).max() < ARRIVED:
            self._end_detour()
        elif self._detour_age > self._detour_steps:
            self._rejected.append(self.posture)
            self._end_detour()

    def _reset(self) -> None:
        self._rows: np.ndarray | None = None
        """Joint positions of all starts; the first is the present posture."""
        self._errors = np.full(NUM_STARTS, np.inf)
        self._ages = np.zeros(NUM_STARTS, int)
        self._next_start = 0
        self._goal: np.ndarray | None = None
        self._failed_starts = 0
        self._is_local: bool | None = None
        """Whether the present posture leads to the goal by itself; None before that was decided."""
        self._rejected: list[np.ndarray] = []
        self.is_unreachable = False
        self._end_detour()

    def _end_detour(self) -> None:
        self.posture, self._detour_row, self._detour_age = None, 0, 0
        self._errors_seen: list[float] = []

    def _rows_or_fail(self) -> np.ndarray:
        assert self._rows is not None
        return self._rows

    def _iterate(self, position: np.ndarray, goal: np.ndarray) -> None:
        if self._rows is None:
            self._rows = np.empty((NUM_STARTS, self._joints))
            self._rows[0] = position
            self._restart(range(1, NUM_STARTS))
        if self._goal is None or np.abs(goal - self._goal).max() > LOST:
            self._goal, self._failed_starts, self.is_unreachable = goal.copy(), 0, False
        self._rows, self._errors = self._kinematics.step(self._rows, goal[None])
        self._ages += 1
        failed = (self._ages >= START_STEPS) & (self._errors > TOLERANCE)
        failed[[0, self._detour_row]] = False
        if failed.any():
            self._failed_starts += int(failed.sum())
            self._restart(np.flatnonzero(failed))
        if self._ages[0] >= LOCAL_STEPS:
            self._is_local = bool(self._errors[0] < TOLERANCE)
            self._rows[0], self._ages[0] = position, 0
        if not self.is_unreachable and self._failed_starts >= NUM_DRAWN_STARTS:
            self.is_unreachable = not (self._is_local or (self._errors < LOST).any())
            if self.is_unreachable:
                _log.warning("the goal %s m is out of reach: no posture of the arm is there", goal.round(3))

    def _restart(self, rows: "Sequence[int] | np.ndarray | range") -> None:
        assert self._rows is not None
        for row in rows:
            self._rows[row] = self._starts[self._next_start % NUM_DRAWN_STARTS]
            self._ages[row] = 0
            self._next_start += 1

    def _is_stuck(self, error: float) -> bool:
        """Whether plans do not approach the goal, and cannot from this posture."""
        seen, steps = self._errors_seen, self._progress_steps
        return (
            self._is_local is False
            and error > FAR
            and len(seen) > steps
            and error > PROGRESS * seen[-1 - steps]
        )

    def _begin_detour(self, position: np.ndarray) -> None:
        """Begin a detour to the nearest goal posture, in the time that the slowest joint takes."""
        rows = self._rows_or_fail()
        away = np.abs(rows - position).max(1)
        fits = (self._errors < TOLERANCE) & (away > APART)
        fits[0] = False
        for posture in self._rejected:
            fits &= np.abs(rows - posture).max(1) > REJECTED_RADIUS
        k = self._kinematics
        clear = fits & (np.minimum(rows - k.low, k.high - rows).min(1) > MARGIN)
        fits = clear if clear.any() else fits
        if fits.any():
            self._detour_row = int(np.where(fits, away, np.inf).argmin())
            self.posture = rows[self._detour_row].copy()
            self._detour_age, self._is_local, self._ages[0] = 0, None, 0
            self._rows_or_fail()[0] = position
            self.num_detours += 1


class GoalPostures:
    """Goal postures of `B` robots."""

    def __init__(self, spec: RobotSpec, num_robots: int):
        index = [spec.joint_names.index(link.joint) for link in spec.chain]
        first = spec.interfaces.index("position") * len(spec.joints)
        self._channels = [first + i for i in index]
        kinematics = TipKinematics(spec.chain, spec.tip, spec.pose_limits[index])
        self.searches = [
            PostureSearch(kinematics, spec.home_position[index], spec.rate) for _ in range(num_robots)
        ]

    def update(
        self, obs: Float[np.ndarray, "B O"], goal: Float[np.ndarray, "B G"]
    ) -> tuple[Bool[np.ndarray, "B"], Float[np.ndarray, "B J"]]:
        """Update all robots.

        Args:
            goal: Its first three values are the point.

        Returns:
            Whether each robot tracks a posture, and the posture.
        """
        position = obs[:, self._channels].astype(np.float64)
        point = goal[:, :3].astype(np.float64)
        for i, search in enumerate(self.searches):
            if np.isfinite(position[i]).all() and np.isfinite(point[i]).all():
                search.update(position[i], point[i])
        active = np.array([search.posture is not None for search in self.searches])
        postures = [
            position[i]
            if search.posture is None
            else position[i] + np.clip(search.posture - position[i], -AHEAD, AHEAD)
            for i, search in enumerate(self.searches)
        ]
        return active, np.stack(postures).astype(np.float32)

    @property
    def is_unreachable(self) -> Bool[np.ndarray, "B"]:
        """Whether the goal of each robot is out of its reach."""
        return np.array([search.is_unreachable for search in self.searches])

    @property
    def num_detours(self) -> int:
        """Number of detours of all robots."""
        return sum(search.num_detours for search in self.searches)
