"""Agent parameters: names, defaults, bounds and descriptions of the parameters of an agent node."""

from dataclasses import dataclass

from rclpy.node import Node

from wm_robot.agent.builder import AgentConfig
from wm_robot_ros.middleware.parameters import declare_parameter


@dataclass(frozen=True, kw_only=True)
class AgentParameters:
    """Parameters of an agent node."""

    robot: str
    agent: AgentConfig
    initial_state: str
    resume: bool
    save_to: str
    max_age: float
    target_max_age: float
    status_rate: float
    autostart: bool
    save_every: float
    keep_last: int
    report: str
    validation_record: str
    keys: str
    min_subscribers: int
    heartbeat_file: str
    shadow: bool
    log: str
    priority: int
    cores: str

    @property
    def command_topic(self) -> str:
        """Topic of the commands; in shadow mode one that no plant follows."""
        return "~/shadow_command" if self.shadow else "joint_command"

    @classmethod
    def declare_parameters(cls, node: Node) -> "AgentParameters":
        """Declare every parameter of a node, and return their values.

        Raises:
            ConfigError: If a value has the wrong type or is out of range.
        """
        agent = AgentConfig(
            base=declare_parameter(node, "base", "", "folder of the base, or name of a base that ships"),
            task=declare_parameter(
                node,
                "task",
                "",
                "task of the robot's spec, or of a plan of the base; empty: the first one of the spec",
            ),
            learning=declare_parameter(
                node, "learning", True, "false: the lifetime state is read and never updated"
            ),
            use_context_bank=declare_parameter(
                node,
                "use_context_bank",
                True,
                "recognise and reuse the contexts of earlier steps; false: relearn them",
            ),
            learner=declare_parameter(
                node, "learner", False, "start a process that fits a residual to recent steps"
            ),
            monitor_plans=declare_parameter(
                node, "monitor_plans", True, "report plans whose predicted rewards do not occur"
            ),
            seed=declare_parameter(node, "seed", 0, "seed of the planner's noise"),
            num_samples=declare_parameter(
                node, "planner.num_samples", 0, "number of plans per iteration; 0: default", bounds=(0, 65536)
            ),
            horizon=declare_parameter(
                node, "planner.horizon", 0, "number of predicted steps; 0: default", bounds=(0, 256)
            ),
            num_iterations=declare_parameter(
                node, "planner.num_iterations", 0, "number of planner iterations; 0: default", bounds=(0, 64)
            ),
            num_threads=declare_parameter(node, "num_threads", 1, "number of torch threads", bounds=(1, 64)),
        )
        return cls(
            agent=agent,
            robot=declare_parameter(node, "robot", "arm", "name of a robot that ships, or path of its spec"),
            initial_state=declare_parameter(
                node,
                "initial_state",
                "",
                "saved state to start from, STORE or STORE@BRANCH; empty: that of the base",
            ),
            resume=declare_parameter(
                node,
                "resume",
                False,
                "start from the state in `save_to`, if there is one, and ignore `initial_state`",
            ),
            save_to=declare_parameter(
                node, "save_to", "", "store for the lifetime state, STORE or STORE@BRANCH; empty: never save"
            ),
            save_every=declare_parameter(
                node,
                "save_every",
                60.0,
                "time between two saves while acting, in s; 0: save at the end only",
                bounds=(0, 86400),
            ),
            keep_last=declare_parameter(
                node,
                "keep_last",
                64,
                "number of newest snapshots to keep; the same number of older ones with growing gaps; 0: all",
                bounds=(0, 1_000_000),
            ),
            max_age=declare_parameter(
                node, "observation.max_age", 0.1, "s; an older observation is rejected", bounds=(0, 10)
            ),
            target_max_age=declare_parameter(
                node, "target.max_age", 0.5, "s; the agent does not act on an older target", bounds=(0, 3600)
            ),
            status_rate=declare_parameter(
                node, "status_rate", 10.0, "rate of ~/status, in Hz", bounds=(2, 50)
            ),
            autostart=declare_parameter(
                node, "autostart", False, "configure and activate the node at its start"
            ),
            report=declare_parameter(
                node, "report", "", "file for the last ~/status, written at the end; empty: none"
            ),
            validation_record=declare_parameter(
                node,
                "validation_record",
                "",
                "file of a validation record; empty: the one beside the state's store or the base",
            ),
            keys=declare_parameter(
                node, "keys", "", "folder of the keys that the record is verified with; empty: the user's"
            ),
            min_subscribers=declare_parameter(
                node,
                "min_subscribers",
                0,
                "minimum number of subscribers of its commands before the agent starts",
                bounds=(0, 64),
            ),
            heartbeat_file=declare_parameter(
                node,
                "heartbeat_file",
                "",
                "file of the memory that agent, plant and wm-robot guard share; empty: none",
            ),
            shadow=declare_parameter(
                node,
                "shadow",
                False,
                "shadow mode: another controller drives; commands go to ~/shadow_command, and a report to ~/report",
            ),
            log=declare_parameter(node, "log", "", "file for one line of JSON per control step; empty: none"),
            priority=declare_parameter(
                node, "realtime.priority", 0, "SCHED_FIFO priority; 0: no real time", bounds=(0, 99)
            ),
            cores=declare_parameter(
                node, "realtime.cores", "", "cores to run on with real time, such as 2,3; empty: any"
            ),
        )
