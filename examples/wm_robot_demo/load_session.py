"""Session loader: converts a recorded session into plain arrays for report and film."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from wm_robot.errors import DeviceError
from wm_robot.evaluation.report import LatencyStatistics, RobotRun
from wm_robot.spec import RobotSpec
from wm_robot.streams.goal_message import GoalDecoder
from wm_robot.streams.joint_message import decode_action
from wm_robot.tasks import TaskError

if TYPE_CHECKING:
    from wm_robot.recording.session_file import Session

BINS_PER_REPORTED_BIN = 5
"""Bins of the latency histogram in one bin of the report."""


@dataclass(frozen=True, kw_only=True)
class RobotTrack:
    """Recording of one robot in a session. Times are in s since its first command."""

    name: str
    time: np.ndarray
    """`T+1`, time of each observation."""
    obs: np.ndarray
    """`T+1 O`."""
    applied: np.ndarray
    """`T A`: applied action from each observation to the next."""
    target: np.ndarray
    """`T+1 G`: goals of the task."""
    error: np.ndarray
    """`T+1`, error of the task, such as the true distance from gripper to target in m."""
    surprise_time: np.ndarray
    surprise: np.ndarray
    change_time: float | None
    """Time of the change of its world."""
    worlds: dict[str, Any]
    """World after each event."""
    status: dict[str, Any]
    """Last status of the agent."""

    @property
    def late_share(self) -> float:
        """Share of control steps that were too late for an update, or missing."""
        counters = self.status.get("lifetime", {})
        invalid, valid = counters.get("num_invalid", 0), counters.get("num_valid", 0)
        return float(invalid / max(invalid + valid, 1))

    def to_report_run(self, *, color: int, until: float) -> RobotRun:
        """Select the data for the report, up to a time."""
        kept = (self.time >= 0) & (self.time <= until)
        heard = (self.surprise_time >= 0) & (self.surprise_time <= until)
        return RobotRun(
            name=self.name,
            time=self.time[kept],
            error=self.error[kept],
            surprise_time=self.surprise_time[heard],
            surprise=self.surprise[heard],
            latency=_read_latency(self.status.get("latency")),
            lifetime_steps=int(self.status.get("lifetime", {}).get("num_steps", 0)),
            color=color,
        )

    def compute_payload(self) -> np.ndarray:
        """Compute the mass in the gripper at each observation, in kg."""
        before, after = (
            _find_payload(self.worlds[event])
            for event in ("start", "change" if "change" in self.worlds else "start")
        )
        changed = (
            np.zeros(len(self.time), bool) if self.change_time is None else self.time >= self.change_time
        )
        return np.where(changed, after, before)


def _find_payload(world: Mapping[str, Any]) -> float:
    """Return the mass that a world adds, in kg."""
    declared = [value for name, value in world.get("parameters", {}).items() if name.startswith("payload/")]
    return float(world["payload"] + sum(declared))


def read_robot_recording(session: "Session", robot: str, spec: RobotSpec, task: str) -> RobotTrack:
    """Read the recording of one robot.

    Args:
        task: Task that it had, of its spec.

    Raises:
        DeviceError: If it never received a command.
    """
    topic = _topic_reader(session, robot)
    events = {e["event"]: e for e in (json.loads(m.data) for _, m in topic("ground_truth/event"))}
    if "start" not in events:
        raise DeviceError(f"robot '{robot}' received no command. Read its logs")
    sensed = {_stamp_ns(m): _read_joints(m, spec) for _, m in topic("joint_states")}
    applied = {_stamp_ns(m): decode_action(m, spec) for _, m in topic("applied_command")}
    stamps_of = [sensed.keys(), applied.keys()]
    chosen = spec.find_task(task)
    error, decoder = TaskError(spec, chosen), GoalDecoder(spec, chosen) if chosen.goal else None
    target: dict[int, np.ndarray] = {}
    # Goals without a stamp are those that a simulated plant does not move: zeros.
    if decoder is not None and decoder.has_stamp:
        target = {_stamp_ns(m): decoder.decode(m) for _, m in topic("target")}
        stamps_of.append(target.keys())
    gripper: dict[int, np.ndarray] = {}
    if error.uses_gripper:
        gripper = {_stamp_ns(m): _read_point(m) for _, m in topic("ground_truth/gripper")}
        stamps_of.append(gripper.keys())
    stamps = sorted(set.intersection(*map(set, stamps_of)))
    if len(stamps) < 2:
        raise DeviceError(
            f"robot '{robot}' has {len(stamps)} complete steps in the recording; it must have at least 2"
        )
    start = events["start"]["stamp"]
    nothing = np.zeros(chosen.goal)
    goals = np.array([target.get(s, nothing) for s in stamps])
    obs = np.array([sensed[s] for s in stamps], np.float32)
    actions = np.array([applied[s] for s in stamps], np.float32)
    measured = error.measure(
        np.concatenate([obs[:1], obs[:-1]]),
        actions,
        obs,
        goals,
        np.array([gripper[s] for s in stamps]) if gripper else None,
    )
    heard, surprised = topic("agent/surprise"), topic("agent/prediction")
    # A surprise has no stamp of its own, but a prediction is published before each.
    if len(heard) == len(surprised):
        when = np.array([_stamp_ns(m) - start for _, m in surprised]) / 1e9
    else:
        when = np.array([received - start / 1e9 for received, _ in heard])
    return RobotTrack(
        name=robot,
        time=(np.array(stamps) - start) / 1e9,
        obs=obs,
        applied=actions[1:],
        target=goals,
        error=measured,
        surprise_time=when,
        surprise=np.array([m.data for _, m in heard]),
        change_time=(events["change"]["stamp"] - start) / 1e9 if "change" in events else None,
        worlds={name: event["world"] for name, event in events.items()},
        status=json.loads(topic("agent/status")[-1][1].data) if topic("agent/status") else {},
    )


def _topic_reader(session: "Session", robot: str) -> Any:
    return lambda name: session.topics.get(f"/{robot}/{name}", [])


def _stamp_ns(message: Any) -> int:
    return int(message.header.stamp.sec) * 10**9 + int(message.header.stamp.nanosec)


def _read_joints(message: Any, spec: RobotSpec) -> np.ndarray:
    order = [message.name.index(name) for name in spec.joint_names]
    return np.concatenate([np.asarray(getattr(message, field))[order] for field in spec.interfaces])


def _read_point(message: Any) -> np.ndarray:
    return np.array([message.point.x, message.point.y, message.point.z])


def _read_latency(values: dict[str, Any] | None) -> LatencyStatistics | None:
    if not values or not values["count"]:
        return None
    bins = np.array([int(index) for index in values["counts"]]) // BINS_PER_REPORTED_BIN
    counts = np.bincount(bins, weights=list(values["counts"].values()))
    return LatencyStatistics(
        edges_ms=np.arange(len(counts) + 1) * BINS_PER_REPORTED_BIN * values["width_ms"],
        counts=counts,
        p50_ms=values["p50_ms"],
        p99_ms=values["p99_ms"],
        max_ms=values["worst_ms"],
    )
