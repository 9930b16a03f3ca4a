"""What saved lives foresee of a recording. No robot moves.

Made from graphs/evaluate.yaml by `python -m wm_robot_ros.launching.launch_files`: change it there.
"""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

ARGUMENTS = [('recording',
  'session.mcap',
  'session (MCAP), bag of ROS 2, episode file or folder of them',
  {'names': 'recording'}),
 ('namespace', '', 'of the robot in a session that tells of several', {'names': 'recorded robot'}),
 ('robot', 'arm', 'name of a robot that ships, or path of its spec', {'names': 'robot'}),
 ('base', 'bases/arm-ekf', 'folder of the base', {'names': 'base'}),
 ('state', 'runs/lives', 'store of the lives', {}),
 ('lives', 'main', 'branches, pins or digests, by comma', {})]
NODES = [{'name': 'agent',
  'executable': 'agent_node',
  'policy': 'required',
  'lifecycle': True,
  'parameters': {'robot': '$(robot)', 'base': '$(base)', 'restore': '$(state)', 'state': '$(state)'}},
 {'name': 'ask',
  'executable': 'ask_node',
  'ends': True,
  'parameters': {'action': 'evaluate',
                 'recordings': '$(recording)',
                 'lives': '$(lives)',
                 'robot': '$(namespace)'}}]


def generate_launch_description():
    # The file beside this one, from a checkout as from an installed package.
    spec = spec_from_file_location("bring_up", Path(__file__).with_name("bring_up.py"))
    bring_up = module_from_spec(spec)
    spec.loader.exec_module(bring_up)
    return bring_up.description_of(ARGUMENTS, NODES)
