from glob import glob

from setuptools import setup

setup(
    name="wm_robot_ros",
    version="0.1.0",
    packages=["wm_robot_ros", "wm_robot_ros.demo"],
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
            "plant_node = wm_robot_ros.plant_node:main",
            "agent_node = wm_robot_ros.agent_node:main",
            "recorder_node = wm_robot_ros.recorder_node:main",
            "control_node = wm_robot_ros.control_node:main",
            "display_node = wm_robot_ros.display_node:main",
            "replay_node = wm_robot_ros.replay_node:main",
            "ask_node = wm_robot_ros.ask_node:main",
        ]
    },
)
