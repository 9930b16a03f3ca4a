"""Parameters of an agent node: their names, defaults, bounds and descriptions."""

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
        """Declare every parameter of a node, and return the values that were given.

        Raises:
            ConfigError: If one was given as something that it cannot be.
        """
        life = LifeConfig(
            base=declare(node, "base", "", "folder of the base"),
            task=declare(node, "task", "", "task of the robot's spec; empty: its first"),
            learning=declare(node, "learning", True, "false: the state is read and never written"),
            recall=declare(
                node, "recall", True, "conditions lived before are recognised; false: learned anew"
            ),
            learner=declare(node, "learner", False, "a process beside it fits a residual for the life"),
            watch_plans=declare(node, "watch_plans", True, "tell when plans do not keep what they promise"),
            seed=declare(node, "seed", 0, "of the planner's noise"),
            samples=declare(node, "planner.samples", 0, "plans an iteration; 0: default", bounds=(0, 65536)),
            horizon=declare(node, "planner.horizon", 0, "steps looked ahead; 0: default", bounds=(0, 256)),
            iterations=declare(node, "planner.iterations", 0, "iterations; 0: default", bounds=(0, 64)),
            threads=declare(node, "threads", 1, "threads of torch", bounds=(1, 64)),
        )
        return cls(
            life=life,
            robot=declare(node, "robot", "arm", "name of a robot that ships, or path of its spec"),
            restore=declare(node, "restore", "", "life to go on from, STORE or STORE@BRANCH; empty: birth"),
            resume=declare(
                node, "resume", False, "go on from `state` where it holds a life, whatever restore is"
            ),
            state=declare(node, "state", "", "where to save, STORE or STORE@BRANCH; empty: not at all"),
            save_every=declare(
                node, "save_every", 60.0, "s between saves while it acts; 0: at the end", bounds=(0, 86400)
            ),
            keep_last=declare(
                node,
                "keep_last",
                64,
                "snapshots kept whole, and as many before, ever further apart; 0: all",
                bounds=(0, 1_000_000),
            ),
            max_age=declare(
                node, "observation.max_age", 0.1, "s; an older observation is refused", bounds=(0, 10)
            ),
            target_max_age=declare(
                node, "target.max_age", 0.5, "s; with an older target it does not act", bounds=(0, 3600)
            ),
            status_rate=declare(node, "status_rate", 10.0, "Hz of ~/status", bounds=(2, 50)),
            autostart=declare(node, "autostart", False, "configure and activate without being asked"),
            report=declare(node, "report", "", "file for the last ~/status, written at the end; empty: none"),
            listeners=declare(
                node,
                "listeners",
                0,
                "subscribers of joint_command without whom it does not begin",
                bounds=(0, 64),
            ),
            heartbeat=declare(node, "heartbeat", "", "page shared with wm-robot guard; empty: none"),
            log=declare(node, "log", "", "file that gets a line of JSON for each step; empty: none"),
            priority=declare(node, "realtime.priority", 0, "of SCHED_FIFO; 0: none", bounds=(0, 99)),
            cores=declare(node, "realtime.cores", "", "to run on alone, as 2,3; empty: any"),
        )
