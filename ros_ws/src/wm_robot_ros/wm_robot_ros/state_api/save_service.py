"""Save service: `~/save` of an agent, with a standard service type, so that it does not need `wm_robot_msgs`."""

from collections.abc import Callable
from contextlib import ExitStack

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from std_srvs.srv import Trigger

from wm_robot.errors import WmRobotError
from wm_robot_ros.middleware.worker_result import await_result, create_async_service
from wm_robot_ros.state_api.state_session import StateSession


def create_save_service(
    node: Node, session: StateSession, resources: ExitStack, *, explain: Callable[[str], str]
) -> None:
    """Create `~/save`, which answers with the digest of the snapshot or with the reason of a failure.

    Args:
        resources: Stack that destroys the service when it closes.
        explain: Adds the missing inputs to the answer of an agent that has not started.
    """

    async def save(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            response.message = await await_result(session.save_in_worker(explain=explain), node)
            response.success = True
        except WmRobotError as error:
            response.success, response.message = False, str(error)
        return response

    service = create_async_service(node, Trigger, "~/save", save, ReentrantCallbackGroup())
    resources.callback(node.destroy_service, service)
