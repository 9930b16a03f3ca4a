"""A simulated robot, and an agent that drives it and goes on learning.

Made from graphs/sim.yaml by `python -m wm_robot_ros.launching.launch_files`: change it there.
"""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

ARGUMENTS = [('robot', 'arm', 'name of a robot that ships, or path of its spec', {'names': 'robot'}),
 ('base', 'bases/arm-ekf', "folder of the agent's base", {'names': 'base'}),
 ('restore', '', 'life to go on from, STORE or STORE@BRANCH; empty: birth', {}),
 ('state', '', 'where the life is saved, STORE or STORE@BRANCH; empty: not at all', {}),
 ('learning', True, 'false: the life is read and never written', {}),
 ('namespace', '', 'of all nodes', {'names': 'namespace'}),
 ('seed', 0, 'of start pose, target, noise and random worlds', {'least': 0}),
 ('world', 'nominal', 'nominal, random, or JSON with the fields that differ', {'names': 'world'}),
 ('record', '', 'session file (MCAP) to record to; empty: none', {'names': 'new file'}),
 ('display', True, 'markers and frames of the imagined future, for RViz and Foxglove', {})]
NODES = [{'name': 'plant',
  'executable': 'plant_node',
  'policy': 'required',
  'namespace': '$(namespace)',
  'parameters': {'robot': '$(robot)', 'seed': '$(seed)', 'world': '$(world)', 'hold_if_late': False}},
 {'name': 'agent',
  'executable': 'agent_node',
  'policy': 'required',
  'namespace': '$(namespace)',
  'lifecycle': True,
  'parameters': {'robot': '$(robot)',
                 'base': '$(base)',
                 'restore': '$(restore)',
                 'state': '$(state)',
                 'learning': '$(learning)',
                 'seed': '$(seed)'}},
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
