"""A recorded session, lived again by an agent that drives nothing.

Made from graphs/replay.yaml by `python -m wm_robot_ros.launching.launch_files`: change it there.
"""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

ARGUMENTS = [('recording', 'session.mcap', 'session (MCAP), or bag of ROS 2', {'names': 'recording'}),
 ('from_robot', '', 'namespace of the robot in it; empty: the one without', {'names': 'recorded robot'}),
 ('robot', 'arm', 'name of a robot that ships, or path of its spec', {'names': 'robot'}),
 ('base', 'bases/arm-ekf', "folder of the agent's base", {'names': 'base'}),
 ('restore', '', 'life to go on from, STORE or STORE@BRANCH; empty: birth', {}),
 ('state', '', 'where the life is saved, STORE or STORE@BRANCH; empty: not at all', {}),
 ('learning', True, 'false: the life is read and never written', {}),
 ('display', True, 'markers and frames of the imagined future, for RViz and Foxglove', {})]
NODES = [{'name': 'agent',
  'executable': 'agent_node',
  'policy': 'required',
  'lifecycle': True,
  'parameters': {'robot': '$(robot)',
                 'base': '$(base)',
                 'restore': '$(restore)',
                 'state': '$(state)',
                 'learning': '$(learning)'}},
 {'name': 'display',
  'executable': 'display_node',
  'policy': 'optional',
  'when': {'display': True},
  'parameters': {'robot': '$(robot)'}},
 {'name': 'replay',
  'executable': 'replay_node',
  'ends': True,
  'parameters': {'recording': '$(recording)', 'from_robot': '$(from_robot)', 'listeners': 1}}]


def generate_launch_description():
    # The file beside this one, from a checkout as from an installed package.
    spec = spec_from_file_location("bring_up", Path(__file__).with_name("bring_up.py"))
    bring_up = module_from_spec(spec)
    spec.loader.exec_module(bring_up)
    return bring_up.description_of(ARGUMENTS, NODES)
