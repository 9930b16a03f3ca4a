"""Save client: `python -m wm_robot_ros.state_api.save_client NODE SECONDS` makes a running agent save its state."""

import sys
import time

import rclpy
from rclpy.executors import SingleThreadedExecutor
from std_srvs.srv import Trigger

from wm_robot.errors import DeviceError


def request_save(name: str, timeout: float) -> str:
    """Call `~/save` of an agent, and return the digest of the snapshot.

    Args:
        name: Name of the node, with its namespace.
        timeout: Longest wait for the answer, in s.

    Raises:
        DeviceError: If the agent does not answer, or cannot save.
    """
    node = rclpy.create_node("ask_save")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    client = node.create_client(Trigger, f"{name}/save")
    deadline = time.monotonic() + timeout
    while not client.wait_for_service(timeout_sec=0.1):
        if time.monotonic() > deadline:
            raise DeviceError(
                f"no node offers {client.srv_name}. Check that the agent has this name, is configured and uses this "
                "ROS_DOMAIN_ID"
            )
    answer = client.call_async(Trigger.Request())
    executor.spin_until_future_complete(answer, timeout_sec=max(0.0, deadline - time.monotonic()))
    if not answer.done():
        raise DeviceError(f"{name} did not answer within {timeout:g} s")
    if not answer.result().success:
        raise DeviceError(f"{name} did not save: {answer.result().message}")
    return str(answer.result().message)


def main() -> None:
    """Save, and print the digest.

    Raises:
        SystemExit: With 2 if the agent did not save.
    """
    name, seconds = sys.argv[1:]
    rclpy.init()
    try:
        sys.stdout.write(f"{request_save(name, float(seconds))}\n")
    except DeviceError as error:
        sys.stderr.write(f"DeviceError: {error}\n")
        raise SystemExit(2) from None
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
