"""`wm-robot new` finds the sensors of a model, and its robot reads what they read."""

import json

import mujoco
import numpy as np
import pytest

from tests.sim.sensing_robots import SENSING_CRAWLER
from wm_robot.robots import load_spec
from wm_robot_cli.main import main
from wm_robot_sim.batch import BatchSim
from wm_robot_sim.worlds import DomainRandomization

pytestmark = pytest.mark.sim

MODEL = SENSING_CRAWLER.replace(
    "<sensor>",
    """<sensor>
    <gyro name="g" site="head" noise="0.03"/><accelerometer name="a" site="head"/>
    <framequat name="q" objtype="site" objname="head"/>
    <force name="pull" site="front"/><torque name="twist" site="front"/>
    <velocimeter name="fast" site="head"/><touch name="left foot" site="front"/>
    <rangefinder name="depth" site="head" cutoff="3"/>
    <framequat name="target" objtype="site" objname="front"/>""",
)


@pytest.fixture
def crawler(tmp_path, capsys):
    (tmp_path / "crawler.xml").write_text(MODEL)
    main(["new", "crawler", "--mjcf", str(tmp_path / "crawler.xml"), "--out", str(tmp_path), "--json"])
    return load_spec(tmp_path / "crawler.yaml"), json.loads(capsys.readouterr().out.splitlines()[-1])


def test_sensors_on_one_site_become_one_sensor(crawler, tmp_path):
    spec, said = crawler
    found = {sensor.name: (sensor.kind, sensor.frame, sensor.fields) for sensor in spec.sensors}
    assert found == {
        "imu": ("imu", "head", ("orientation", "angular_velocity", "linear_acceleration")),
        "front": ("wrench", "front", ("force", "torque")),
        "head": ("twist", "head", ("linear_velocity",)),
        "left_foot": ("contact", "front", ("force",)),
        "depth": ("range", "head", ("range",)),
    }
    sensors = {sensor.name: sensor for sensor in spec.sensors}
    assert sensors["imu"].noise["angular_velocity"] == 0.03 and sensors["depth"].limits == {"range": 3.0}
    assert sensors["depth"].source == "depth" and sensors["front"].limits["torque"] == 4
    assert said["sensors"] == 5
    assert any(
        "remove sensors from the spec that the real robot does not have" in each for each in said["to_check"]
    )
    notes = (tmp_path / "crawler.md").read_text()
    assert "Sensors of kind 'imu': 'imu', with orientation, angular_velocity" in notes
    assert all(check["result"] == "passed" for check in said["checks"])


def test_the_written_sensors_read_what_those_of_the_model_read(crawler, tmp_path):
    spec, _ = crawler
    sim = BatchSim(spec, [DomainRandomization(spec).make_nominal_world()], seed=0)
    for _ in range(20):
        sim.step(sim.last_action)
    true, layout = sim.compute_true_obs()[0], spec.layout
    model = mujoco.MjModel.from_xml_path(str(tmp_path / "crawler.xml"))
    data = mujoco.MjData(model)
    mujoco.mj_setState(model, data, sim.save()["physical"][0], int(mujoco.mjtState.mjSTATE_FULLPHYSICS))
    data.ctrl[sim.plant.actuator_ids] = sim.last_action[0]
    mujoco.mj_forward(model, data)
    matrix = np.zeros(9)
    mujoco.mju_quat2Mat(matrix, data.sensor("q").data)
    depth = data.sensor("depth").data
    expected = {
        "imu/orientation": matrix.reshape(3, 3)[:, :2].T.ravel(),
        "imu/angular_velocity": data.sensor("g").data,
        "imu/linear_acceleration": data.sensor("a").data,
        "front/force": data.sensor("pull").data,
        "front/torque": data.sensor("twist").data,
        "head/linear_velocity": data.sensor("fast").data,
        "left_foot/force": data.sensor("left foot").data,
        "depth/range": np.where(depth < 0, 3, depth),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(true[layout.find_channels(name)], values, atol=1e-4, err_msg=name)


def test_what_has_no_source_is_said(crawler, tmp_path, capsys):
    path = tmp_path / "crawler.yaml"
    path.write_text(
        path.read_text().replace("sensors:", "sensors:\n  - {name: mood, kind: scalar, limits: 1}")
    )
    main(["check", str(path)])
    said = capsys.readouterr().out
    assert "sensor 'mood' has no source in crawler.xml: in simulation it reads 0 and noise" in said
    assert "orientation, angular_velocity, linear_acceleration" in said
    main(["check", str(path), "--json"])
    said = json.loads(capsys.readouterr().out)
    assert said["not_simulated"] == ["mood"] and said["sensors"][:2] == ["mood", "imu"]
