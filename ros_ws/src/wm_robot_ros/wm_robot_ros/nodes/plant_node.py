"""Plant node: a robot in MuJoCo, in real time, with the topics of a real robot.

It is a sampled system. At each deadline it simulates the period that ends there under the last command, then
publishes the sensor values. The delay between command and motor is a property of the world, as in training. The age
of each command on arrival is measured.

It runs the control loop of the library. Every action passes the gate. The arbiter of the loop selects between the
received commands and the fallback controller, which holds and homes.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PointStamped
from rclpy.executors import Executor
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from wm_robot.control.control_loop import ControlLoop
from wm_robot.control.period_log import Period, PeriodLog, log_status
from wm_robot.control.realtime import Deadlines, Garbage, take_over_collection
from wm_robot.io.durable import write_file
from wm_robot.robots import load_spec, spec_path
from wm_robot.safety.limit_violations import Cut
from wm_robot.safety.modes import Mode
from wm_robot.safety.systemd import Service
from wm_robot.sharing.keyring import Keyring
from wm_robot.sharing.signed_spec import load_signed_spec
from wm_robot.spec import RobotSpec
from wm_robot.types import Observation
from wm_robot_ros.middleware import convert
from wm_robot_ros.middleware.idle_tasks import Chores
from wm_robot_ros.middleware.node_runtime import (
    Stop,
    end,
    executor_of,
    one_sentence,
    spin_once,
    start,
    use_real_time,
)
from wm_robot_ros.middleware.parameters import declare, warn_of_unknown
from wm_robot_ros.middleware.qos import HEARTBEAT, LATCHED, OUTPUT
from wm_robot_ros.nodes.command_subscription import CommandConfig, CommandSubscription
from wm_robot_sim import make_robot
from wm_robot_sim.goals import MovingTarget
from wm_robot_sim.world_parameter import read_world
from wm_robot_sim.worlds import World

NAME = "plant"
SPIN_SHORTEST = 0.0005
"""Shortest wait for messages, in s; a shorter rest is slept, because a wait for messages would end late."""
LOOK = 0.005
"""Longest time between two checks of the guard's page, in s."""


@dataclass(frozen=True, kw_only=True)
class PlantConfig:
    """Parameters of a plant node."""

    robot: str
    seed: int
    world: str
    change_time: float
    change_world: str
    duration: float
    commands: CommandConfig
    require_signed: bool
    keys: str
    status_rate: float
    report: str
    log: str
    priority: int
    cores: str

    @classmethod
    def declare(cls, node: Node) -> "PlantConfig":
        return cls(
            robot=declare(node, "robot", "arm", "name of a robot that ships, or path of its spec"),
            seed=declare(node, "seed", 0, "seed of start pose, target, noise and random worlds"),
            world=declare(node, "world", "nominal", "world at the start: nominal, random, or JSON"),
            change_time=declare(
                node,
                "change.time",
                -1.0,
                "time from the first command to a change of the world, in s; negative: never",
            ),
            change_world=declare(node, "change.world", "nominal", "world after the change"),
            duration=declare(
                node,
                "duration",
                0.0,
                "time from the first command to the end, in s; 0: unlimited",
                bounds=(0, 1e9),
            ),
            commands=CommandConfig.declare(node, armed=True),
            require_signed=declare(
                node, "require_signed", False, "reject a spec without a signature of a trusted key"
            ),
            keys=declare(node, "keys", "", "folder of the keys; empty: the user's folder"),
            status_rate=declare(node, "status_rate", 10.0, "rate of ~/status, in Hz", bounds=(2, 50)),
            report=declare(node, "report", "", "file for the last ~/status, written at the end; empty: none"),
            log=declare(node, "log", "", "file for one line of JSON per period; empty: none"),
            priority=declare(
                node, "realtime.priority", 0, "SCHED_FIFO priority; 0: no real time", bounds=(0, 99)
            ),
            cores=declare(
                node, "realtime.cores", "", "cores to run on with real time, such as 2,3; empty: any"
            ),
        )


class PlantNode(Node):
    """Node of a simulated robot: publishes observations and applies commands."""

    def __init__(self, progress: Callable[[], None] = lambda: None) -> None:
        """Args:
            progress: Called at the end of every period.

        Raises:
            WmRobotError: If robot or world is invalid.
        """
        super().__init__(NAME)
        self.config = config = PlantConfig.declare(self)
        warn_of_unknown(self)
        self.spec = spec = self._load_spec()
        self.robot = make_robot(spec, read_world(config.world, spec, seed=config.seed), seed=config.seed)
        self._changed = read_world(config.change_world, spec, seed=config.seed + 1)
        self._target = MovingTarget(spec, seed=config.seed)
        self.commands = CommandSubscription(
            self,
            spec,
            config.commands,
            self.robot.hold,
            mode=Mode.READY if config.commands.armed else Mode.LIMP,
            on_first_command=lambda: self._publish_event("start", self.robot.world),
        )
        self.loop = ControlLoop(
            self.robot,
            self.commands.arbiter,
            report=self._publish,
            write=self._move,
            progress=progress,
            tidy=self.tidy,
        )
        self.log = PeriodLog(config.log) if config.log else None
        self.realtime: dict[str, str] = {}
        self.garbage: Garbage | None = None
        self._lived = 0
        """Number of periods since the first command."""
        self._change_due = config.change_time >= 0

        self._sensed = self.create_publisher(JointState, "joint_states", OUTPUT)
        self._applied = self.create_publisher(JointState, "applied_command", OUTPUT)
        self._goal = self.create_publisher(PointStamped, "target", OUTPUT)
        self._gripper = self.create_publisher(PointStamped, "ground_truth/gripper", OUTPUT)
        self._events = self.create_publisher(String, "ground_truth/event", LATCHED)
        self._status = self.create_publisher(String, "~/status", HEARTBEAT)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", OUTPUT)
        self.chores = Chores(self)
        self.chores.every(1.0 / config.status_rate, self._publish_status)
        self.chores.every(1.0, self._publish_diagnostics)
        # The first log line took 23 ms, which is more than a period, so it comes before the first period.
        self.commands.log_mode()

    def _load_spec(self) -> RobotSpec:
        if not self.config.require_signed:
            return load_spec(self.config.robot)
        return load_signed_spec(spec_path(self.config.robot), Keyring(self.config.keys or None))

    @property
    def finished(self) -> bool:
        return 0 < self.config.duration <= self._lived * self.spec.dt

    def _move(self, mode: Mode, action: Any) -> np.ndarray:
        """Simulate the period that ends now, and return the applied action, `A`."""
        started = self.commands.remote.started
        # Before the first command the robot is not simulated: it would sag while its agent loads, and no two runs
        # would start from the same state.
        if not (started or mode is Mode.HOMING):
            return self.robot.hold
        if self._change_due and started and self._lived * self.spec.dt >= self.config.change_time:
            self._change_due = False
            self.robot.change(self._changed)
            self._publish_event("change", self._changed)
        return self.robot.write(action)

    def _publish(
        self, obs: Observation | None, applied: np.ndarray | None, cuts: tuple[Cut, ...], latency: float
    ) -> None:
        """Publish the sensor values after a period, and the applied action. See `ReportPeriod`."""
        commands = self.commands
        self._lived += commands.remote.started
        goal = self._target.goal(self._lived)
        observation = self.robot.read().values
        if applied is None or not commands.clock.runs(self._now()):
            # The agent would act on invalid stamps, and learn from them.
            return
        stamp = commands.next_stamp()
        # The observation comes last, so that target and applied command arrive before it.
        commands.publish_contact(stamp, cuts)
        if goal.size:
            self._goal.publish(convert.point_message(goal, stamp))
        self._applied.publish(convert.action_message(applied, self.spec, stamp))
        self._sensed.publish(convert.observation_message(observation, self.spec, stamp))
        if self.spec.chain:
            self._gripper.publish(convert.point_message(self.robot.tip(), stamp))
        self._log_period(stamp, cuts)

    def _log_period(self, stamp: int, cuts: tuple[Cut, ...]) -> None:
        remote, arbiter = self.commands.remote, self.commands.arbiter
        if self.log:
            self.log.add(
                Period(
                    stamp=stamp,
                    late_ms=self.loop.lateness.last_ms,
                    latency_ms=remote.age_ms,
                    surprise=math.nan if arbiter.surprise is None else arbiter.surprise,
                    mode=arbiter.mode,
                    cuts=tuple(cut.rule for cut in cuts),
                )
            )
        remote.age_ms = math.nan

    def tidy(self, left: float) -> None:
        """Log the mode, or collect garbage, between two periods.

        Args:
            time_left: Time until the next period, in s.
        """
        logged = self.commands.log_mode()
        if self.garbage and not logged:
            self.garbage.tidy(left)

    def status(self) -> dict[str, Any]:
        return {
            "robot": self.spec.name,
            "spec_digest": self.spec.digest(),
            "rate": self.spec.rate,
            "periods": self.loop.periods,
            "lived": self._lived,
            "gate": self.robot.gate.status(),
            "skipped_periods": self.loop.skipped,
            "longest_skip": self.loop.longest_skip,
            "lateness": self.loop.lateness.to_dict(),
            "realtime": self.realtime,
            "garbage": self.garbage.status() if self.garbage else {},
            "log": log_status(self.log),
            **self.commands.status(),
        }

    def write_report(self) -> None:
        if self.config.report:
            write_file(Path(self.config.report), json.dumps(self.status()).encode())

    def _publish_status(self) -> None:
        self._status.publish(convert.json_message(self.status()))

    def _publish_event(self, kind: str, world: World) -> None:
        values = {
            "event": kind,
            "stamp": self._now(),
            "time": round(self._lived * self.spec.dt, 6),
            "seed": self.config.seed,
            "robot": self.spec.name,
            "spec_digest": self.spec.digest(),
            "world": world.to_dict(),
        }
        self._events.publish(convert.json_message(values))

    def _publish_diagnostics(self) -> None:
        gate = self.robot.gate
        cut = {f"cut_{rule.value}": count for rule, count in gate.counts.items()}
        commands, safety = self.commands.diagnostics({"last_cut": gate.last or "none", **cut})
        periods, skipped, late = self.loop.periods, self.loop.skipped, self.loop.lateness.percentile(99)
        timing = (
            f"{self._path}: timing",
            "warn" if skipped else "ok",
            f"{skipped} periods skipped" if skipped else "in time",
            {"periods": periods, "late_p99_ms": late, "rate": self.spec.rate},
        )
        message = convert.diagnostics_message(self._now(), self.spec.name, (commands, timing, safety))
        self._diagnostics.publish(message)

    @property
    def _path(self) -> str:
        return self.get_fully_qualified_name().lstrip("/")

    def _now(self) -> int:
        return int(self.get_clock().now().nanoseconds)


def run(node: PlantNode, executor: Executor, stop: Stop) -> None:
    """Run the control loop at the rate of the spec on absolute deadlines; missed periods are skipped."""
    deadlines = Deadlines(node.spec.dt)
    longest = LOOK if node.config.commands.guard else node.spec.dt

    def wait() -> None:
        node.chores.do(deadlines.left)
        left = deadlines.left()
        if left > SPIN_SHORTEST:
            spin_once(executor, node, min(left - SPIN_SHORTEST, longest))
        else:
            deadlines.wait()

    node.loop.run(deadlines, lambda: stop.asked or node.finished, wait)


def main() -> None:
    """Run the node until Ctrl-C, or until its duration has passed."""
    stop, service = start(), Service()
    node = None
    try:
        with one_sentence():
            node = PlantNode(service.progress)
            executor = executor_of(node, quick=True)
            node.realtime = use_real_time(node, node.config.priority, node.config.cores)
            node.garbage = take_over_collection()
            service.ready()
            run(node, executor, stop)
            node.write_report()
    finally:
        service.stopping()
        if node and node.log:
            node.log.close()
        end(node)


if __name__ == "__main__":
    main()
