import io
import json
import subprocess
import sys

import pytest
from rich.console import Console

from wm_robot.robots import load_spec
from wm_robot_cli.demo_display import TerminalDisplay, TextDisplay, select_display
from wm_robot_demo.progress import SessionProgress
from wm_robot_demo.scenario import CHANGE_TIME_RANGE, MIXING_STRENGTH, DemoChange, DemoPlan
from wm_robot_demo.status_reader import RobotStatus, StatusReader

pytestmark = pytest.mark.ros

SECOND = 10**9


def said(at: float, error: float, **more: object) -> dict[str, object]:
    """What the digest says of a robot that got its first command at 100 s."""
    latency = {"p50_ms": 4.0, "p99_ms": 8.0, "worst_ms": 9.0}
    known: dict[str, object] = {"start": 100 * SECOND, "stamp": round((100 + at) * SECOND), "error": error}
    return known | {
        "active": True,
        "fault": "",
        "surprise": -2.5,
        "lifetime": {"num_steps": round(at * 50)},
        "latency": latency,
        **more,
    }


def test_a_seed_decides_the_change_and_seeds_differ():
    spec = load_spec("arm")
    assert DemoChange.draw(3, spec, "reach") == DemoChange.draw(3, spec, "reach")
    changes = [DemoChange.draw(seed, spec, "reach") for seed in range(50)]
    assert len({change.time for change in changes}) > 40
    assert len({change.world_text for change in changes}) == 50
    assert all(CHANGE_TIME_RANGE[0] <= change.time <= CHANGE_TIME_RANGE[1] for change in changes)


def test_a_change_leaves_time_to_settle_and_to_recover():
    for quick in (False, True):
        for seed in range(20):
            plan = DemoPlan.from_seed(seed, load_spec("arm"), "reach", quick=quick)
            assert 2.5 < plan.change.time < plan.first_duration - 5


def test_the_changed_world_reads_as_the_plant_reads_it():
    pytest.importorskip("mujoco")
    from wm_robot_sim.world_parameter import parse_world

    spec = load_spec("arm")
    change = DemoChange.draw(0, spec, "reach")
    (effect,) = parse_world(change.world_text, spec, seed=0).effects
    assert (effect.kind, effect.strength) == ("command_mixing", MIXING_STRENGTH)
    assert {DemoChange.draw(seed, spec, "reach").world_text for seed in (0, 1)} > {change.world_text}


def test_the_watch_reads_what_is_added_and_never_half_a_line(tmp_path):
    path = tmp_path / "digest.jsonl"
    watch = StatusReader(path)
    assert watch.read_new() == set()
    line = json.dumps({"robots": {"adaptive": said(1.0, 0.02), "frozen": {}}}) + "\n"
    path.write_text(line + line[:30])
    assert watch.read_new() == {"adaptive"}
    assert watch.robots["adaptive"].time == pytest.approx(1.0)
    assert watch.robots["frozen"].time is None
    path.write_text(line + line)
    assert watch.read_new() == set(), "the same stamp is no news"


def test_a_view_shows_the_mean_error_of_the_last_half_second():
    view = RobotStatus(name="adaptive")
    for i in range(20):
        view.update_from(said(i / 10, 0.1 if i < 10 else 0.01))
    assert view.recent_error == pytest.approx(0.01)
    view.update_from(said(2.0, 0.01, change=101 * SECOND))
    assert view.since_change == pytest.approx(1.0)


def scene(time: float, story: str = "Both arms follow the target.") -> SessionProgress:
    views = [RobotStatus(name="adaptive"), RobotStatus(name="frozen")]
    for view, error in zip(views, (0.009, 0.064), strict=True):
        for i in range(int(time * 10) + 1):
            view.update_from(said(i / 10, error, change=103 * SECOND))
    return SessionProgress(
        title="first visit", sentence=story, time=time, duration=22.0, period=0.02, robots=views
    )


class Quiet:
    def write_message(self, words):
        pass

    def show_progress(self, scene):
        pass

    def end_progress(self):
        pass


@pytest.mark.parametrize(("module", "extra"), [("torch", "learn"), ("mcap", "ros"), ("matplotlib", "report")])
def test_a_missing_part_is_named_before_anything_starts(tmp_path, monkeypatch, module, extra):
    from wm_robot.errors import MissingExtraError
    from wm_robot_demo import DemoOptions, run_demo

    monkeypatch.setattr("wm_robot_demo.demo_run.find_spec", lambda name: None if name == module else name)
    options = DemoOptions(output_folder=tmp_path / "out", base=tmp_path, frozen=tmp_path)
    with pytest.raises(MissingExtraError, match=rf'pip install "wm_robot\[{extra}\]"'):
        run_demo(options, Quiet())
    assert not (tmp_path / "out").exists()


def test_two_demos_in_one_folder_are_refused_in_one_sentence(tmp_path):
    from wm_robot.io.durable import try_lock

    command = [sys.executable, "-m", "wm_robot_cli", "demo", "--out", str(tmp_path)]
    with (tmp_path / ".lock").open("w") as other:
        assert try_lock(other)
        done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        f"ConfigError: another demo writes to {tmp_path}. Wait until it ends, or select another folder: --out "
        "FOLDER. See: wm-robot demo --help"
    ]
    assert [path.name for path in tmp_path.iterdir()] == [".lock"], "the other's files are left alone"


def test_an_arm_is_off_its_target_in_the_story_where_it_is_in_the_account():
    """Above 1.5 times its mean error before the change, and above 10 mm."""
    from wm_robot_demo.commentary import describe_errors

    def heard(name: str, before: float, now: float) -> RobotStatus:
        view = RobotStatus(name=name)
        for i in range(40):
            view.update_from(said(i / 10, 0.3 if i < 20 else before))
        for i in range(40, 50):
            view.update_from(said(i / 10, now, change=104 * SECOND))
        assert view.error_before == pytest.approx(before), "the way to the target does not count"
        return view

    fine, off, poor = (
        heard("adaptive", 0.002, 0.009),
        heard("frozen", 0.002, 0.011),
        heard("frozen", 0.02, 0.025),
    )
    assert describe_errors([fine, off]) == "The adaptive arm is on its target; the frozen one is off it now."
    assert describe_errors([fine, poor]) == "Both arms are on their target."


def test_a_pipe_gets_a_line_now_and_then_and_at_each_turn_of_the_story():
    file = io.StringIO()
    screen = select_display(Console(file=file, width=60))
    assert isinstance(screen, TextDisplay)
    for i in range(50):
        screen.show_progress(scene(1 + i / 10))
    screen.show_progress(scene(6.0, "The world has changed."))
    lines = file.getvalue().splitlines()
    assert len(lines) == 3 and "\x1b" not in file.getvalue()
    assert lines[0].startswith("  1.0 s  adaptive 9 mm, frozen 64 mm, latency p99 8.0 ms.")
    assert lines[-1].endswith("The world has changed.")


def test_a_terminal_gets_one_screen_with_everything_on_it():
    file = io.StringIO()
    screen = select_display(Console(file=file, force_terminal=True, width=110, height=40))
    assert isinstance(screen, TerminalDisplay)
    screen.show_progress(scene(6.0))
    screen.end_progress()
    shown = file.getvalue()
    for words in (
        "Both arms follow the target.",
        "9 mm",
        "64 mm",
        "300",
        "4.0 / 8.0 ms",
        "changed 3.0 s, 150 steps ago",
    ):
        assert words in shown


def test_a_robot_that_has_not_spoken_yet_can_be_shown():
    file = io.StringIO()
    views = [RobotStatus(name="adaptive"), RobotStatus(name="frozen")]
    silent = SessionProgress(
        title="first visit", sentence="starting", time=0.0, duration=22.0, period=0.02, robots=views
    )
    for screen in (
        TerminalDisplay(Console(file=file, force_terminal=True, width=110)),
        TextDisplay(Console(file=file)),
    ):
        screen.show_progress(silent)
        screen.end_progress()
    assert "starting" in file.getvalue()
