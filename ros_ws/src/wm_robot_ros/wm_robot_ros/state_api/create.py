"""What an agent offers beyond standard messages, where the project's own are built."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from wm_robot.agent.builder import Surprise
from wm_robot.streams.transition_assembler import Lived
from wm_robot_ros.state_api import interfaces

if TYPE_CHECKING:
    from wm_robot_ros.nodes.agent_node import AgentNode

Watch = Callable[[Lived, Surprise], None]


def attach(node: "AgentNode", entities: list[Callable[[], object]], watching: list[Watch]) -> None:
    """Give an agent its services and actions for lives, and what it says of them; or say in one line what is missing.

    Args:
        entities: Gets what takes each part down again.
        watching: Gets who is to be told of each step that was lived.
    """
    missing = interfaces.missing()
    if missing:
        node.get_logger().warning(missing)
        return
    from wm_robot_ros.state_api.actions import LifetimeActions
    from wm_robot_ros.state_api.services import LifetimeServices
    from wm_robot_ros.state_api.topics import LifetimeTopics

    topics, services, actions = LifetimeTopics(node), LifetimeServices(node), LifetimeActions(node)
    entities += [part.destroy for part in (topics, services, actions)]
    watching += [topics.lived, actions.lived]
