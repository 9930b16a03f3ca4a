"""State interfaces of an agent: creates services, actions and topics, if `wm_robot_msgs` is built."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeAlias

from wm_robot.streams.transition_assembler import Lived
from wm_robot_ros.state_api import interfaces
from wm_robot_ros.state_api.served_agent import ServedAgent

if TYPE_CHECKING:
    from wm_robot.agent.agent import Surprise

Watch: TypeAlias = "Callable[[Lived, Surprise], None]"


def attach(agent: ServedAgent, resources: ExitStack) -> list[Watch]:
    """Create the services, actions and topics of a lifetime state, or log in one line what is missing.

    Args:
        resources: Stack that destroys each part when it closes.

    Returns:
        Callbacks for each transition that the agent learned from.
    """
    missing = interfaces.missing()
    if missing:
        agent.node.get_logger().warning(missing)
        return []
    from wm_robot_ros.state_api.actions import LifetimeActions
    from wm_robot_ros.state_api.services import LifetimeServices
    from wm_robot_ros.state_api.topics import LifetimeTopics

    topics, actions = LifetimeTopics(agent), LifetimeActions(agent)
    services = LifetimeServices(agent.node, agent.session)
    for part in (topics, services, actions):
        resources.callback(part.destroy)
    return [topics.lived, actions.lived]
