"""A session of learning on a simulated robot. What was learned is kept, or undone if it made things worse.

Made from graphs/adapt.yaml by `python -m wm_robot_ros.launching.launch_files`: change it there.
"""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

ARGUMENTS = [('robot', 'arm', 'name of a robot that ships, or path of its spec', {'names': 'robot'}),
 ('base', 'bases/arm-ekf', "folder of the agent's base", {'names': 'base'}),
 ('state', 'runs/lives', 'store of the life, STORE or STORE@BRANCH', {}),
 ('restore', '', 'life to go on from; needed where `state` holds one already; empty: birth', {}),
 ('steps', 1500, 'control steps to learn from', {'least': 1}),
 ('allowed', 0.5, 'nats per channel that the surprise may rise by; below 0: any', {}),
 ('pin', '', 'name to keep the result under; empty: none', {}),
 ('world', 'random', 'nominal, random, or JSON with the fields that differ', {'names': 'world'}),
 ('seed', 0, 'of start pose, target, noise and random worlds', {'least': 0})]
NODES = [{'name': 'plant',
  'executable': 'plant_node',
  'policy': 'required',
  'parameters': {'robot': '$(robot)', 'seed': '$(seed)', 'world': '$(world)', 'hold_if_late': False}},
 {'name': 'agent',
  'executable': 'agent_node',
  'policy': 'required',
  'lifecycle': True,
  'parameters': {'robot': '$(robot)',
                 'base': '$(base)',
                 'restore': '$(restore)',
                 'state': '$(state)',
                 'seed': '$(seed)'}},
 {'name': 'ask',
  'executable': 'ask_node',
  'ends': True,
  'parameters': {'action': 'adapt', 'steps': '$(steps)', 'allowed': '$(allowed)', 'pin': '$(pin)'}}]


def generate_launch_description():
    # The file beside this one, from a checkout as from an installed package.
    spec = spec_from_file_location("bring_up", Path(__file__).with_name("bring_up.py"))
    bring_up = module_from_spec(spec)
    spec.loader.exec_module(bring_up)
    return bring_up.description_of(ARGUMENTS, NODES)
