from glob import glob

from setuptools import setup

setup(
    name="wm_robot_bringup",
    version="0.1.0",
    packages=[],
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/wm_robot_bringup"]),
        ("share/wm_robot_bringup", ["package.xml"]),
        ("share/wm_robot_bringup/launch", glob("../../../launch/*.py")),
        ("share/wm_robot_bringup/config", glob("../../../launch/config/*")),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="The wm_robot authors",
    maintainer_email="maintainer@example.com",
    description="Launch files of wm_robot, and layouts to look at what it imagines",
    license="Apache-2.0",
)
