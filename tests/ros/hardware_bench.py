"""Plays broadcaster and controller of a robot, and a controller of it, to a control node."""

import numpy as np
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from wm_robot.robots import find_spec_path, load_spec
from wm_robot_ros.middleware import convert
from wm_robot_ros.middleware.environment import make_node_command
from wm_robot_ros.middleware.qos import LATCHED_QOS

SPEC = load_spec("arm")
PATIENT = "safety: {max_age_periods: 1000}\n"
"""A busy machine is no silence."""
STATES, CONTROLLER = "/broadcast/joint_states", "/controller/commands"
KINDS = {"joint_trajectory": JointTrajectory, "float64_multi_array": Float64MultiArray}


def angles_of(message):
    return list(message.points[0].positions if isinstance(message, JointTrajectory) else message.data)


class Bench:
    """Plays broadcaster, controller and agent to the node; the joints follow what the controller is told."""

    def __init__(
        self,
        start,
        peer,
        folder,
        *,
        kind="joint_trajectory",
        description=None,
        at=0.1,
        foreign="/peer",
        **more,
    ):
        """Args:
        foreign: Node that needs no validation record, though it answers observations: this one.
        """
        self.peer, self.place = peer, np.full(6, at)
        patient = find_spec_path("arm").read_text()
        assert "safety:" not in patient
        (folder / "patient.yaml").write_text(patient + PATIENT)
        start(
            make_node_command(
                "control_node",
                {
                    "robot": str(folder / "patient.yaml"),
                    "command.kind": kind,
                    "command.topic": CONTROLLER,
                    "states.topic": STATES,
                    "command.max_age": 10.0,
                    "command.timeout": 30.0,
                    "hold_if_late": False,
                    "foreign_controller": foreign,
                    **more,
                },
                namespace="arm",
            )
        )
        self.told = peer.hear(KINDS[kind], CONTROLLER)
        self.sensed, self.applied = (
            peer.hear(JointState, "/arm/joint_states"),
            peer.hear(JointState, "/arm/applied_command"),
        )
        self.status = peer.hear(String, "/arm/plant/status")
        self._description = peer.node.create_publisher(String, "/robot_description", LATCHED_QOS)
        if description:
            self._description.publish(String(data=description))
        self.states = peer.speak(JointState, STATES)
        self._commands = peer.speak(JointState, "/arm/joint_command")
        self._arm = peer.node.create_client(Trigger, "/arm/plant/arm")

    def move(self, holds, why, *, command=None, own_stamps=False, timeout=40.0):
        """Go on, joints in another order than the spec's and one more, until something holds.

        Args:
            own_stamps: Commands have the present time as stamp, as a joystick's, and not that of an observation.
        """

        def step():
            if self.told:
                self.place = np.array(angles_of(self.told[-1]))
            names = [*reversed(SPEC.joint_names), "jaw"]
            stamp = self.peer.node.get_clock().now().to_msg()
            message = JointState(
                name=names, position=[*map(float, self.place[::-1]), 0.0], velocity=[0.0] * 7
            )
            message.header.stamp = stamp
            self.states.publish(message)
            if command is not None and self.sensed:
                self._commands.publish(
                    convert.make_action_message(
                        np.float32(command),
                        SPEC,
                        self.peer.now() if own_stamps else convert.read_stamp(self.sensed[-1]),
                    )
                )
            return holds()

        self.peer.until(step, why, timeout=timeout)

    def arm(self, *, ready=True):
        """Ask for it; with `ready`, once nothing keeps it from being armed."""
        if ready:
            self.move(lambda: self.status and not self.says()["arming_obstacle"], "it cannot be armed")
        answer = self._arm.call_async(Trigger.Request())
        self.move(answer.done, "no answer")
        return answer.result()

    def says(self):
        return convert.decode_json_message(self.status[-1])

    def mode(self):
        return self.says()["mode"] if self.status else ""
