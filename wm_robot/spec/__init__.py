"""Robot specs: what a robot is, as its YAML file says it."""

from wm_robot.spec.channel_layout import JOINTS as JOINTS
from wm_robot.spec.channel_layout import ChannelGroup as ChannelGroup
from wm_robot.spec.channel_layout import ChannelLayout as ChannelLayout
from wm_robot.spec.floating_base import BASE as BASE
from wm_robot.spec.floating_base import FloatingBase as FloatingBase
from wm_robot.spec.parts import GOAL_TYPES as GOAL_TYPES
from wm_robot.spec.parts import JOINT_KINDS as JOINT_KINDS
from wm_robot.spec.parts import WHOLE_TURN as WHOLE_TURN
from wm_robot.spec.parts import Actuator as Actuator
from wm_robot.spec.parts import Joint as Joint
from wm_robot.spec.parts import Link as Link
from wm_robot.spec.parts import Task as Task
from wm_robot.spec.parts import check_task_name as check_task_name
from wm_robot.spec.parts import names_reward_file as names_reward_file
from wm_robot.spec.robot_spec import VERSION as VERSION
from wm_robot.spec.robot_spec import RobotSpec as RobotSpec
from wm_robot.spec.robot_spec import encode_canonical_json as encode_canonical_json
from wm_robot.spec.robot_spec import make_home_obs as make_home_obs
from wm_robot.spec.safety import Safety as Safety
from wm_robot.spec.sensors import SENSOR_KINDS as SENSOR_KINDS
from wm_robot.spec.sensors import Sensor as Sensor
