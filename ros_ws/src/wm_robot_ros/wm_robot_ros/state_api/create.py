"""State interfaces of an agent: creates services, actions and topics, if `wm_robot_msgs` is built."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeAlias

from wm_robot.streams.transition_assembler import StampedTransition
from wm_robot_ros.state_api import interfaces
from wm_robot_ros.state_api.served_agent import ServedAgent

if TYPE_CHECKING:
    from wm_robot.agent.agent import PredictionError

TransitionCallback: TypeAlias = "Callable[[StampedTransition, PredictionError], None]"


def create_state_interfaces(agent: ServedAgent, resources: ExitStack) -> list[TransitionCallback]:
    """Create the services, actions and topics of a lifetime state, or log in one line what is missing.

    Args:
        resources: Stack that destroys each part when it closes.

    Returns:
        Callbacks for each transition that the agent learned from.
    """
    missing = interfaces.interfaces_unavailable()
    if missing:
        agent.node.get_logger().warning(missing)
        return []
    from wm_robot_ros.state_api.actions import LifetimeActions
    from wm_robot_ros.state_api.services import LifetimeServices
    from wm_robot_ros.state_api.topics import LifetimeTopics

    topics, actions = LifetimeTopics(agent), LifetimeActions(agent)
    services = LifetimeServices(agent.node, agent.session)
    for part in (topics, services, actions):
        resources.callback(part.destroy_all)
    return [topics.publish_transition, actions.record_transition]
