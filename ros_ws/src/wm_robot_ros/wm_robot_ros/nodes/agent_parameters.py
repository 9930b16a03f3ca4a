"""Agent parameters: names, defaults, bounds and descriptions of the parameters of an agent node."""

from dataclasses import dataclass

from rclpy.node import Node

from wm_robot.agent.builder import LifeConfig
from wm_robot_ros.middleware.parameters import declare


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """Parameters of an agent node."""

    robot: str
    life: LifeConfig
    restore: str
    resume: bool
    state: str
    max_age: float
    target_max_age: float
    status_rate: float
    autostart: bool
    save_every: float
    keep_last: int
    report: str
    listeners: int
    heartbeat: str
    log: str
    priority: int
    cores: str

    @classmethod
    def declare(cls, node: Node) -> "AgentConfig":
        """Declare every parameter of a node, and return their values.

        Raises:
            ConfigError: If a value has the wrong type or is out of range.
        """
        life = LifeConfig(
            base=declare(node, "base", "", "folder of the base, or name of a base that ships"),
            task=declare(node, "task", "", "task of the robot's spec; empty: the first one"),
            learning=declare(node, "learning", True, "false: the lifetime state is read and never updated"),
            recall=declare(
                node, "recall", True, "recognise and reuse the contexts of earlier steps; false: relearn them"
            ),
            learner=declare(node, "learner", False, "start a process that fits a residual to recent steps"),
            watch_plans=declare(
                node, "watch_plans", True, "report plans whose predicted rewards do not occur"
            ),
            seed=declare(node, "seed", 0, "seed of the planner's noise"),
            samples=declare(
                node, "planner.samples", 0, "number of plans per iteration; 0: default", bounds=(0, 65536)
            ),
            horizon=declare(
                node, "planner.horizon", 0, "number of predicted steps; 0: default", bounds=(0, 256)
            ),
            iterations=declare(
                node, "planner.iterations", 0, "number of planner iterations; 0: default", bounds=(0, 64)
            ),
            threads=declare(node, "threads", 1, "number of torch threads", bounds=(1, 64)),
        )
        return cls(
            life=life,
            robot=declare(node, "robot", "arm", "name of a robot that ships, or path of its spec"),
            restore=declare(
                node, "restore", "", "saved state to start from, STORE or STORE@BRANCH; empty: initial state"
            ),
            resume=declare(
                node, "resume", False, "start from `state` if a state is saved there, and ignore `restore`"
            ),
            state=declare(
                node, "state", "", "store for the lifetime state, STORE or STORE@BRANCH; empty: never save"
            ),
            save_every=declare(
                node,
                "save_every",
                60.0,
                "time between two saves while acting, in s; 0: save at the end only",
                bounds=(0, 86400),
            ),
            keep_last=declare(
                node,
                "keep_last",
                64,
                "number of newest snapshots to keep; the same number of older ones with growing gaps; 0: all",
                bounds=(0, 1_000_000),
            ),
            max_age=declare(
                node, "observation.max_age", 0.1, "s; an older observation is rejected", bounds=(0, 10)
            ),
            target_max_age=declare(
                node, "target.max_age", 0.5, "s; the agent does not act on an older target", bounds=(0, 3600)
            ),
            status_rate=declare(node, "status_rate", 10.0, "rate of ~/status, in Hz", bounds=(2, 50)),
            autostart=declare(node, "autostart", False, "configure and activate the node at its start"),
            report=declare(node, "report", "", "file for the last ~/status, written at the end; empty: none"),
            listeners=declare(
                node,
                "listeners",
                0,
                "minimum number of joint_command subscribers before the agent starts",
                bounds=(0, 64),
            ),
            heartbeat=declare(node, "heartbeat", "", "memory page shared with wm-robot guard; empty: none"),
            log=declare(node, "log", "", "file for one line of JSON per control step; empty: none"),
            priority=declare(
                node, "realtime.priority", 0, "SCHED_FIFO priority; 0: no real time", bounds=(0, 99)
            ),
            cores=declare(
                node, "realtime.cores", "", "cores to run on with real time, such as 2,3; empty: any"
            ),
        )
