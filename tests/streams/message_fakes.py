"""Messages of sensors with the fields of the ROS messages, and none of ROS."""

from types import SimpleNamespace as Namespace


def header():
    return Namespace(stamp=Namespace(sec=0, nanosec=0), frame_id="")


def xyz():
    return Namespace(x=0.0, y=0.0, z=0.0)


def pose():
    return Namespace(position=xyz(), orientation=Namespace(x=0.0, y=0.0, z=0.0, w=1.0))


def twist():
    return Namespace(linear=xyz(), angular=xyz())


def imu():
    return Namespace(
        header=header(),
        orientation=pose().orientation,
        orientation_covariance=[0.0] * 9,
        angular_velocity=xyz(),
        angular_velocity_covariance=[0.0] * 9,
        linear_acceleration=xyz(),
        linear_acceleration_covariance=[0.0] * 9,
    )


def scan():
    zeros = dict.fromkeys(("angle_min", "angle_max", "angle_increment", "range_min", "range_max"), 0.0)
    return Namespace(header=header(), ranges=[], **zeros)


MAKERS = {
    "imu": imu,
    "wrench": lambda: Namespace(header=header(), wrench=Namespace(force=xyz(), torque=xyz())),
    "contact": lambda: Namespace(data=0.0),
    "range": lambda: Namespace(header=header(), min_range=0.0, max_range=0.0, range=0.0),
    "scan": scan,
    "odometry": lambda: Namespace(
        header=header(), child_frame_id="", pose=Namespace(pose=pose()), twist=Namespace(twist=twist())
    ),
    "pose": lambda: Namespace(header=header(), pose=pose()),
    "twist": lambda: Namespace(header=header(), twist=twist()),
    "battery": lambda: Namespace(header=header(), voltage=0.0),
    "temperature": lambda: Namespace(header=header(), temperature=0.0),
    "vector": lambda: Namespace(data=[]),
    "scalar": lambda: Namespace(data=0.0),
}


def make_message(kind):
    """New message of a kind of sensor."""
    return MAKERS[kind]()
