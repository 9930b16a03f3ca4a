from glob import glob

from setuptools import find_packages, setup

setup(
    name="wm_robot_ros",
    version="0.1.0",
    packages=find_packages(include=["wm_robot_ros", "wm_robot_ros.*"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/wm_robot_ros"]),
        ("share/wm_robot_ros", ["package.xml"]),
        ("share/wm_robot_ros/launch", glob("../../../launch/*.yaml")),
        ("share/wm_robot_ros/launch/graphs", glob("../../../launch/graphs/*.yaml")),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="The wm_robot authors",
    maintainer_email="maintainer@example.com",
    description="Nodes of wm_robot: a simulated plant, and an agent that goes on learning",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "plant_node = wm_robot_ros.nodes.plant_node:main",
            "agent_node = wm_robot_ros.nodes.agent_node:main",
            "recorder_node = wm_robot_ros.nodes.recorder_node:main",
            "control_node = wm_robot_ros.nodes.control_node:main",
            "display_node = wm_robot_ros.nodes.display_node:main",
            "replay_node = wm_robot_ros.nodes.replay_node:main",
            "action_client_node = wm_robot_ros.nodes.action_client_node:main",
        ]
    },
)
