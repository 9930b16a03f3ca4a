"""A robot, simulated or behind ros2_control, and an agent that drives it and goes on learning.

Made from graphs/robot.yaml by `python -m wm_robot_ros.launching.launch_files`: change it there.
"""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

ARGUMENTS = [('plant',
  'sim',
  'sim, or hardware: a robot behind controllers of ros2_control',
  {'choices': ['sim', 'hardware']}),
 ('robot', 'arm', 'name of a robot that ships, or path of its spec', {'names': 'robot'}),
 ('base', 'bases/arm-ekf', "folder of the agent's base", {'names': 'base'}),
 ('restore', '', 'life to go on from, STORE or STORE@BRANCH; empty: birth', {}),
 ('state', '', 'where the life is saved, STORE or STORE@BRANCH; empty: not at all', {}),
 ('learning', True, 'false: the life is read and never written', {}),
 ('namespace',
  'robot',
  "of all nodes; with hardware another than that of the robot's own topics",
  {'names': 'namespace'}),
 ('armed', False, 'follow the first command; false: only after ~/arm was called', {}),
 ('command',
  'joint_trajectory',
  'with hardware: joint_trajectory or float64_multi_array',
  {'choices': ['joint_trajectory', 'float64_multi_array']}),
 ('command_topic', '/joint_trajectory_controller/joint_trajectory', 'with hardware: of the controller', {}),
 ('states_topic', '/joint_states', 'with hardware: what its joint_state_broadcaster publishes', {}),
 ('description_topic',
  '/robot_description',
  'with hardware: URDF to check the spec against; empty: none',
  {}),
 ('record', '', 'session file (MCAP) to record to; empty: none', {'names': 'new file'}),
 ('display', True, 'markers and frames of the imagined future, for RViz and Foxglove', {})]
NODES = [{'name': 'plant',
  'executable': 'plant_node',
  'policy': 'required',
  'namespace': '$(namespace)',
  'when': {'plant': 'sim'},
  'parameters': {'robot': '$(robot)', 'armed': '$(armed)'}},
 {'name': 'plant',
  'executable': 'control_node',
  'policy': 'required',
  'namespace': '$(namespace)',
  'when': {'plant': 'hardware'},
  'parameters': {'robot': '$(robot)',
                 'armed': '$(armed)',
                 'command.kind': '$(command)',
                 'command.topic': '$(command_topic)',
                 'states.topic': '$(states_topic)',
                 'description.topic': '$(description_topic)'}},
 {'name': 'agent',
  'executable': 'agent_node',
  'policy': 'required',
  'namespace': '$(namespace)',
  'lifecycle': True,
  'parameters': {'robot': '$(robot)',
                 'base': '$(base)',
                 'restore': '$(restore)',
                 'state': '$(state)',
                 'learning': '$(learning)'}},
 {'name': 'display',
  'executable': 'display_node',
  'policy': 'optional',
  'namespace': '$(namespace)',
  'when': {'display': True},
  'parameters': {'robot': '$(robot)'}},
 {'name': 'recorder',
  'executable': 'recorder_node',
  'when': {'record': True},
  'policy': 'restarted',
  'restarted_with': {'numbered': True},
  'parameters': {'path': '$(record)', 'robots': '$(namespace)', 'robot': '$(robot)'}}]


def generate_launch_description():
    # The file beside this one, from a checkout as from an installed package.
    spec = spec_from_file_location("bring_up", Path(__file__).with_name("bring_up.py"))
    bring_up = module_from_spec(spec)
    spec.loader.exec_module(bring_up)
    return bring_up.description_of(ARGUMENTS, NODES)
