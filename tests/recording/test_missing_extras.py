"""Missing extras: the error names the extra and its installation."""

import importlib
import sys

import pytest

from wm_robot.errors import MissingExtraError


@pytest.mark.parametrize("module", ["episode_file", "open_episode"])
def test_episodes_without_pyarrow_name_their_extra(monkeypatch, module):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for name in ("episode_file", "open_episode"):
        monkeypatch.delitem(sys.modules, f"wm_robot.recording.{name}", raising=False)
    with pytest.raises(MissingExtraError, match=r'pip install "wm_robot\[episodes\]"'):
        importlib.import_module(f"wm_robot.recording.{module}")


@pytest.mark.parametrize("module", ["session_file", "session_recovery"])
def test_sessions_without_mcap_name_their_extra(monkeypatch, module):
    for name in ("mcap", "mcap.exceptions", "mcap.records"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("rosbag", "session_file", "session_recovery"):
        monkeypatch.delitem(sys.modules, f"wm_robot.recording.{name}", raising=False)
    with pytest.raises(MissingExtraError, match=r'pip install "wm_robot\[ros\]"'):
        importlib.import_module(f"wm_robot.recording.{module}")


@pytest.mark.parametrize("module", ["rosbag", "session_file"])
def test_bags_without_zstandard_name_their_extra(monkeypatch, module):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    for name in ("rosbag", "session_file"):
        monkeypatch.delitem(sys.modules, f"wm_robot.recording.{name}", raising=False)
    with pytest.raises(MissingExtraError, match=r'pip install "wm_robot\[ros\]"'):
        importlib.import_module(f"wm_robot.recording.{module}")
