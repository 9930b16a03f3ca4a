"""Several simulated robots, each in a namespace with a life of its own.

Made from graphs/multi.yaml by `python -m wm_robot_ros.launching.launch_files`: change it there.
"""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

ARGUMENTS = [('robots', 'left,right', 'namespaces, by comma', {'names': 'namespaces'}),
 ('robot', 'arm', 'name of a robot that ships, or path of its spec', {'names': 'robot'}),
 ('base', 'bases/arm-ekf', "folder of the agents' base", {'names': 'base'}),
 ('learning', True, 'false: the lives are read and never written', {}),
 ('lives',
  '',
  "folder with a store for each robot's life, which goes on where there is one; empty: not saved",
  {}),
 ('world', 'random', 'nominal, random, or JSON with the fields that differ', {'names': 'world'}),
 ('record', '', 'session file (MCAP) of all of them; empty: none', {'names': 'new file'})]
NODES = [{'name': 'plant',
  'executable': 'plant_node',
  'namespace': '$(robots)',
  'policy': 'restarted',
  'parameters': {'robot': '$(robot)', 'world': '$(world)', 'hold_if_late': False}},
 {'name': 'agent',
  'executable': 'agent_node',
  'namespace': '$(robots)',
  'lifecycle': True,
  'when': {'lives': True},
  'policy': 'restarted',
  'parameters': {'robot': '$(robot)',
                 'base': '$(base)',
                 'learning': '$(learning)',
                 'state': '$(lives)/$(namespace)',
                 'resume': True}},
 {'name': 'agent',
  'executable': 'agent_node',
  'namespace': '$(robots)',
  'lifecycle': True,
  'when': {'lives': False},
  'policy': 'restarted',
  'parameters': {'robot': '$(robot)', 'base': '$(base)', 'learning': '$(learning)'}},
 {'name': 'recorder',
  'executable': 'recorder_node',
  'when': {'record': True},
  'policy': 'restarted',
  'restarted_with': {'numbered': True},
  'parameters': {'path': '$(record)', 'robots': '$(robots)', 'robot': '$(robot)'}}]


def generate_launch_description():
    # The file beside this one, from a checkout as from an installed package.
    spec = spec_from_file_location("bring_up", Path(__file__).with_name("bring_up.py"))
    bring_up = module_from_spec(spec)
    spec.loader.exec_module(bring_up)
    return bring_up.description_of(ARGUMENTS, NODES)
