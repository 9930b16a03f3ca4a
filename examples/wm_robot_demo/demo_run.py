"""Demo run: a first session with a hidden change, a second one from the saved state, and a report."""

import json
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wm_robot.errors import ConfigError, DeviceError, MissingExtraError, SnapshotError
from wm_robot.evaluation.recovery import START, threshold
from wm_robot.io.base_file import find_base
from wm_robot.io.durable import claim
from wm_robot.robots import load_spec
from wm_robot.spec import RobotSpec
from wm_robot.store.store import Store
from wm_robot_demo.options import Options
from wm_robot_demo.processes import Crew
from wm_robot_demo.progress import Screen
from wm_robot_demo.scenario import Plan
from wm_robot_demo.session import PRIORITY, SAVING, Role, Visit, agent_of, hold
from wm_robot_demo.status_reader import RobotView, Watch
from wm_robot_ros.middleware.environment import private_environment

if TYPE_CHECKING:
    from wm_robot_demo.load_session import Tale

ROBOT = "arm"
ROBOTS = ADAPTIVE, FROZEN, RESTORED, NEWBORN = "adaptive", "frozen", "restored", "newborn"
LOCK = ".lock"
"""Lock file in the folder of a running demo."""
NOTICED = 0.7
"""Seconds after the change in which the display shows the change itself."""
FAILED, INTERRUPTED = 1, 130


def run(options: Options, screen: Screen) -> int:
    """Run the demo. Return the exit code: 0, 1 if a process failed, 130 after Ctrl-C.

    Without ROS 2 it runs in this process with the library's own loop, and writes no recording. A second Ctrl-C is
    ignored, so that the process ends with that code.

    Raises:
        MissingExtraError: If a package is not installed.
        SnapshotError: If a base is missing or belongs to another robot.
        ConfigError: If another demo runs in the same folder.
    """
    over_ros = options.ros and find_spec("rclpy") is not None
    _require_extras(over_ros)
    spec = load_spec(ROBOT)
    options = replace(options, base=find_base(options.base), frozen=find_base(options.frozen))
    manifests = {path: _manifest(path, spec) for path in (options.base, options.frozen)}
    with _alone_in(options.out):
        environment = private_environment() if over_ros else None
        if environment is None:
            why = "ROS 2 is not installed" if options.ros else "Option --no-ros"
            screen.say(
                f"{why}: the demo runs in one process, in simulated seconds, and writes no {options.session.name}."
            )
        restore = _state_to_go_on_from(options, manifests[options.base], screen)
        _clear(options)
        demo = _Demo(options=options, spec=spec, manifests=manifests, restore=restore, screen=screen)
        with _interrupted_once():
            return demo.run_over_ros(environment) if environment is not None else demo.run_here()


@dataclass(frozen=True, kw_only=True)
class _Demo:
    """One demo: two sessions and their report."""

    options: Options
    spec: RobotSpec
    manifests: Mapping[Path, Mapping[str, Any]]
    restore: Path | None
    screen: Screen

    @property
    def plan(self) -> Plan:
        return Plan.of(self.options.seed, quick=self.options.quick)

    def run_over_ros(self, environment: Mapping[str, str]) -> int:
        """Run each node in its own process, in real time."""
        options, screen = self.options, self.screen
        crew = Crew(environment, options.out / "logs")
        try:
            return self._visit_over_ros(crew)
        except DeviceError as error:
            screen.clear()
            crew.stop(patience=SAVING)
            return self._failed(error)
        except KeyboardInterrupt:
            screen.clear()
            codes = crew.stop(patience=SAVING)
            screen.say(f"Stopped. {_what_is_there(options)}")
            for name in (agent_of(ADAPTIVE), agent_of(RESTORED)):
                if codes.get(name):
                    screen.say(
                        crew.explain(
                            name, f"'{name}' ended with code {codes[name]}: its saved state is older"
                        )
                    )
            return INTERRUPTED
        finally:
            crew.stop()

    def run_here(self) -> int:
        """Run all robots in this process, in simulated time."""
        # Imported here: a demo over ROS does not need it, and its robots have to start at once.
        from wm_robot_demo import single_process

        options, spec, screen = self.options, self.spec, self.screen
        try:
            began_with = self._began_with()
            tales = [
                *single_process.hold(
                    first_visit(options, spec, self.plan, self.restore), spec, screen, self._tell()
                )
            ]
            screen.say(_between(options))
            tales += single_process.hold(second_visit(options, spec, self.plan), spec, screen, _waking)
            return self._account(tales, began_with, whole=True, over_ros=False)
        except DeviceError as error:
            return self._failed(error)
        except KeyboardInterrupt:
            screen.say(f"Stopped. {_what_is_there(options)}")
            return INTERRUPTED

    def _visit_over_ros(self, crew: Crew) -> int:
        options, spec, screen = self.options, self.spec, self.screen
        began_with = self._began_with()
        digest = options.out / "logs" / "digest.jsonl"
        watch = Watch(digest)
        recorder = {
            "path": str(options.session.absolute()),
            "robots": ",".join(ROBOTS),
            "digest": str(digest.absolute()),
            "realtime.priority": PRIORITY + 2,
        }
        crew.start("recorder", "recorder_node", recorder)
        hold(first_visit(options, spec, self.plan, self.restore), crew, watch, screen, self._tell())
        screen.say(_between(options))
        hold(second_visit(options, spec, self.plan), crew, watch, screen, _waking)
        codes = crew.stop("recorder", patience=SAVING)
        if codes["recorder"]:
            raise DeviceError(crew.explain("recorder", f"the recorder ended with code {codes['recorder']}"))
        # Imported here: they load matplotlib, and without ROS the reader of recordings may be missing.
        from wm_robot.recording.session_file import read_session
        from wm_robot_demo.load_session import tale

        session = read_session(options.session)
        tales = [tale(session, name, spec) for name in ROBOTS]
        return self._account(tales, began_with, whole=session.whole, over_ros=True)

    def _account(self, tales: "Sequence[Tale]", began_with: Any, *, whole: bool, over_ros: bool) -> int:
        self.screen.say("Writing the report and rendering the film …")
        # Imported here: it loads torch and matplotlib, and the robots had to start at once.
        from wm_robot_demo.report import write_account

        write_account(
            self.options,
            self.spec,
            self.plan,
            self.manifests,
            began_with,
            tales,
            self.screen,
            whole=whole,
            over_ros=over_ros,
        )
        return 0

    def _tell(self) -> "_Storyteller":
        return _Storyteller(self.plan)

    def _began_with(self) -> Any:
        return _arrays(self.restore, self.manifests[self.options.base], self.spec)

    def _failed(self, error: DeviceError) -> int:
        self.screen.say(f"DeviceError: {error}")
        self.screen.say(f"The recording up to this error is in {self.options.out}")
        return FAILED


def first_visit(options: Options, spec: RobotSpec, plan: Plan, restore: Path | None) -> Visit:
    change = plan.change
    learning = Role(
        name=ADAPTIVE,
        base=options.base,
        learning=True,
        restore=restore,
        state=options.state,
        change_time=change.time,
        change_world=change.world,
    )
    return Visit(
        title="first visit: the world will change",
        robot=spec.name,
        period=spec.dt,
        seed=options.seed,
        length=plan.first,
        roles=(
            learning,
            replace(learning, name=FROZEN, base=options.frozen, learning=False, restore=None, state=None),
        ),
    )


def second_visit(options: Options, spec: RobotSpec, plan: Plan) -> Visit:
    newborn = Role(name=NEWBORN, base=options.base, learning=True, world=plan.change.world)
    return Visit(
        title="second visit: start from the saved state",
        robot=spec.name,
        period=spec.dt,
        seed=options.seed + 1,
        length=plan.second,
        roles=(replace(newborn, name=RESTORED, restore=options.state, state=options.state), newborn),
    )


class _Storyteller:
    """Sentence for the current event of the first session. The report contains the final result."""

    def __init__(self, plan: Plan):
        self._plan = plan

    def __call__(self, robots: Sequence[RobotView]) -> str:
        learning = robots[0]
        if learning.since_change is None:
            if (learning.time or 0.0) < START:
                return "Both arms go to their target."
            return "Both arms follow the target. Soon their world will change, without a signal to them."
        if learning.since_change < NOTICED:
            return f"The world has changed: {self._plan.change.words}."
        return _standing(robots)


def _standing(robots: Sequence[RobotView]) -> str:
    """Return a sentence about the arms that are on their target."""
    off = [view.name for view in robots if (view.error or 0.0) > threshold(view.before)]
    on = [view.name for view in robots if view.name not in off]
    if not off:
        return "Both arms are on their target."
    if not on:
        return "Both arms are off their target now."
    return f"The {on[0]} arm is on its target; the {off[0]} one is off it now."


def _between(options: Options) -> str:
    return (
        f"The {ADAPTIVE} arm's state is saved in {options.state}; now it starts from it in the changed world."
    )


def _waking(robots: Sequence[RobotView]) -> str:
    restored, newborn = robots
    return (
        f"Same weights, same changed world. The {restored.name} arm starts from its saved state, "
        f"the {newborn.name} one from the initial state."
    )


def _require_extras(over_ros: bool) -> None:
    """Check the packages of the whole demo at its start."""
    needed = {"torch": "learn", "mujoco": "sim", "matplotlib": "report"} | (
        {"mcap": "ros"} if over_ros else {}
    )
    missing = [extra for module, extra in needed.items() if find_spec(module) is None]
    if missing:
        raise MissingExtraError("wm-robot demo", ",".join(missing))


def _manifest(base: Path, spec: RobotSpec) -> dict[str, Any]:
    """Read the manifest of a base, without its weights and the library that reads them."""
    arm = " --arm robust" if base.name.endswith("robust") else ""
    again = (
        f"Select another with --base or --frozen, or train one: wm-robot train {spec.name}{arm} --out {base}"
    )
    try:
        manifest = dict(json.loads((base / "base.json").read_bytes()))
        lived_by = str(manifest["spec_digest"])
        manifest["digest"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SnapshotError(
            f"{base.absolute()} is not a base: {type(error).__name__}: {error}. {again}"
        ) from error
    if lived_by != spec.digest():
        raise SnapshotError(
            f"base {base} was trained for another robot than '{spec.name}' ({spec.digest()[:12]}): its spec "
            f"digest is {lived_by[:12]}. {again}"
        )
    return manifest


@contextmanager
def _alone_in(out: Path) -> Iterator[None]:
    """Lock the output folder against another demo.

    Raises:
        ConfigError: If another demo runs there.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (out / LOCK).open("w") as file:
        if not claim(file):
            raise ConfigError(
                f"another demo writes to {out}. Wait until it ends, or select another folder: --out FOLDER"
            )
        yield


def _clear(options: Options) -> None:
    """Delete the output of an earlier run that this run writes again; never a state."""
    for name in ("session.mcap", "report.html", "video.mp4", "video.gif", "video.part.mp4", "video.part.gif"):
        (options.out / name).unlink(missing_ok=True)
    shutil.rmtree(options.out / "logs", ignore_errors=True)


def _state_to_go_on_from(options: Options, base: Mapping[str, Any], screen: Screen) -> Path | None:
    """Select the saved state of this base. A state of another base is moved, so that no state is lost."""
    store = Store(options.state)
    if not options.state.exists():
        screen.say("The adaptive arm starts from the initial state: there is no saved state yet.")
        return None
    try:
        saved = store.show()
        fits = (saved.base_digest, saved.spec_digest) == (base["digest"], base["spec_digest"])
    except SnapshotError:
        fits = False
    if fits and not options.fresh:
        screen.say(
            f"The adaptive arm continues from {options.state}: {saved.steps} steps. (--fresh: initial state)"
        )
        return options.state
    aside = next(p for n in range(1, 10_000) if not (p := options.out / f"state-before-{n}").exists())
    options.state.rename(aside)
    why = "option --fresh" if fits else "the saved state belongs to another base or robot"
    screen.say(
        f"The adaptive arm starts from the initial state: {why}. The saved state was moved to {aside}."
    )
    return None


def _arrays(restore: Path | None, base: Mapping[str, Any], spec: RobotSpec) -> Any:
    """Read the state at the start of the session. At its end, the folder contains another one."""
    if restore is None:
        return None
    return Store(restore).load(base_digest=base["digest"], spec_digest=spec.digest())


def _what_is_there(options: Options) -> str:
    there = [path.name for path in (options.session, options.state) if path.exists()]
    return f"{' and '.join(there) or 'Nothing'} in {options.out}; the next run continues from the state."


@contextmanager
def _interrupted_once() -> Iterator[None]:
    """Handle Ctrl-C or SIGTERM as one interrupt, and ignore further ones until the state is saved."""
    numbers = (signal.SIGINT, signal.SIGTERM)

    def interrupt(*_: object) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is interrupt:
                signal.signal(number, handler)
