"""Verb `wm-robot state save`: requests a snapshot from a running agent."""

import json
import re
import subprocess
import sys
from typing import Annotated

import tyro

from wm_robot.errors import ConfigError, MissingExtraError
from wm_robot_cli.values import Duration, JsonFlag

NODE_PATTERN = re.compile(r"/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*", re.ASCII)
"""Name of a node, with or without its namespace."""


def request_snapshot(
    agent: Annotated[str, tyro.conf.Positional] = "agent",
    /,
    *,
    timeout: Duration = 10.0,
    as_json: JsonFlag = False,
) -> None:
    """Request a snapshot from a running agent over ROS 2. The agent's parameter `save_to` is the destination.

    Args:
        agent: Name of the agent's node, with its namespace, such as `/left/agent`.
        timeout: Longest time to wait for the agent, in s.
        as_json: Print JSON.
    """
    try:
        from wm_robot_ros.middleware.environment import make_ros_environment, read_ros_domain
    except ImportError as error:
        raise MissingExtraError("wm-robot state save", "ros") from error
    if not NODE_PATTERN.fullmatch(agent):
        raise ConfigError(
            f"agent is '{agent}'; a node's name has letters, digits, '_' and '/', such as /left/agent"
        )
    environment = make_ros_environment(domain=read_ros_domain())
    command = [sys.executable, "-m", "wm_robot_ros.state_api.save_client", agent, str(timeout)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    found = done.stdout.split()[-1]
    print(json.dumps({"snapshot": found}) if as_json else f"{agent} saved {found[:12]}")
