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
from wm_robot.io.base_file import CARD, find_base
from wm_robot.io.durable import try_lock
from wm_robot.memory.registry import DEFAULT_MEMORY
from wm_robot.robots import load_spec
from wm_robot.spec import RobotSpec
from wm_robot.store.store import Store
from wm_robot.tasks import TaskError
from wm_robot_demo.commentary import (
    FirstSessionCommentary,
    SecondSessionCommentary,
    describe_output,
    describe_saved_state,
)
from wm_robot_demo.options import DemoOptions
from wm_robot_demo.processes import NodeProcesses
from wm_robot_demo.progress import DemoDisplay
from wm_robot_demo.scenario import ADAPTIVE, FROZEN, NEWBORN, RESTORED, ROBOTS, DemoPlan
from wm_robot_demo.session import (
    AGENT_PRIORITY,
    SAVE_TIMEOUT,
    DemoSession,
    RobotSettings,
    agent_process_name,
    run_session,
)
from wm_robot_demo.status_reader import StatusReader
from wm_robot_ros.middleware.environment import make_private_environment

if TYPE_CHECKING:
    from wm_robot.memory.state_arrays import Arrays
    from wm_robot_demo.load_session import RobotTrack

LOCK_FILE = ".lock"
"""Lock file in the folder of a running demo."""
EXIT_FAILED, EXIT_INTERRUPTED = 1, 130


def run_demo(options: DemoOptions, screen: DemoDisplay) -> int:
    """Run the demo. Return the exit code: 0, 1 if a process failed, 130 after Ctrl-C.

    Without ROS 2 it runs in this process with the library's own loop, and writes no recording. A second Ctrl-C is
    ignored, so that the process ends with that code.

    Raises:
        MissingExtraError: If a package is not installed.
        SnapshotError: If a base is missing or belongs to another robot.
        SpecError: If there is no such robot, or it cannot have its task.
        ConfigError: If it has no task or declares no change, or if another demo runs in the same folder.
    """
    over_ros = options.ros and find_spec("rclpy") is not None
    _require_extras(over_ros)
    spec = load_spec(options.robot)
    if not spec.tasks:
        raise ConfigError(f"robot '{spec.name}' has no task. Add one to its spec; see docs/add_a_task.md")
    task = options.task or next(iter(spec.tasks))
    error = TaskError(spec, spec.find_task(task))
    plan = DemoPlan.from_seed(options.seed, spec, task, quick=options.quick)
    bases = find_demo_bases(options, spec)
    manifests = {path: _read_manifest(path, spec, options) for path in (bases.learning, bases.frozen)}
    with _lock_folder(options.output_folder):
        environment = make_private_environment() if over_ros else None
        if environment is None:
            why = "ROS 2 is not installed" if options.ros else "Option --no-ros"
            screen.write_message(
                f"{why}: the demo runs in one process, in simulated seconds, and writes no "
                f"{options.session_path.name}."
            )
        if bases.learning == bases.frozen:
            screen.write_message(
                f"There is no base {spec.name}-robust: the frozen {error.scale.robot_noun} has the base of the other "
                "one, and does not learn."
            )
        restore = _select_saved_state(options, manifests[bases.learning], screen, error.scale.robot_noun)
        _delete_old_output(options)
        demo = _DemoRun(
            options=options,
            spec=spec,
            task=task,
            error=error,
            plan=plan,
            bases=bases,
            manifests=manifests,
            restore=restore,
            screen=screen,
        )
        with _handle_first_interrupt():
            return demo.run_over_ros(environment) if environment is not None else demo.run_in_process()


@dataclass(frozen=True, kw_only=True)
class DemoBases:
    """Bases of a demo."""

    learning: Path
    frozen: Path


def find_demo_bases(options: DemoOptions, spec: RobotSpec) -> DemoBases:
    """Find the bases: those of the options, or those with the robot's name.

    Without a robust base for this spec, the frozen robot gets the base of the learning one, and does not learn.

    Raises:
        SnapshotError: If the robot has no base.
    """
    named = options.base or Path("bases") / f"{spec.name}-{DEFAULT_MEMORY}"
    try:
        learning = find_base(named)
    except SnapshotError as error:
        if options.base is not None:
            raise
        time = options.describe_training_time()
        raise SnapshotError(
            f"robot '{spec.name}' has no base in {named}. Train it first: wm-robot train {options.robot} --all"
            + (f" ({time})" if time else "")
            + ", or name another: --base FOLDER"
        ) from error
    if options.frozen is not None:
        return DemoBases(learning=learning, frozen=find_base(options.frozen))
    robust = f"{spec.name}-robust"
    for near in (learning.with_name(robust), Path("bases") / robust):
        try:
            frozen = find_base(near)
        except SnapshotError:
            continue
        if _read_spec_digest(frozen) == spec.compute_digest():
            return DemoBases(learning=learning, frozen=frozen)
    return DemoBases(learning=learning, frozen=learning)


def _read_spec_digest(base: Path) -> str:
    try:
        return str(json.loads((base / CARD).read_bytes())["spec_digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


@dataclass(frozen=True, kw_only=True)
class _DemoRun:
    """One demo: two sessions and their report."""

    options: DemoOptions
    spec: RobotSpec
    task: str
    error: TaskError
    plan: DemoPlan
    bases: DemoBases
    manifests: Mapping[Path, Mapping[str, Any]]
    restore: Path | None
    screen: DemoDisplay

    def run_over_ros(self, environment: Mapping[str, str]) -> int:
        """Run each node in its own process, in real time."""
        options, screen = self.options, self.screen
        crew = NodeProcesses(environment, options.output_folder / "logs")
        try:
            return self._run_sessions_over_ros(crew)
        except DeviceError as error:
            screen.end_progress()
            crew.stop_processes(timeout=SAVE_TIMEOUT)
            return self._report_failure(error)
        except KeyboardInterrupt:
            screen.end_progress()
            codes = crew.stop_processes(timeout=SAVE_TIMEOUT)
            screen.write_message(f"Stopped. {describe_output(options)}")
            for name in (agent_process_name(ADAPTIVE), agent_process_name(RESTORED)):
                if codes.get(name):
                    screen.write_message(
                        crew.format_failure(
                            name, f"'{name}' ended with code {codes[name]}: its saved state is older"
                        )
                    )
            return EXIT_INTERRUPTED
        finally:
            crew.stop_processes()

    def run_in_process(self) -> int:
        """Run all robots in this process, in simulated time."""
        # Imported here: a demo over ROS does not need it, and its robots have to start at once.
        from wm_robot_demo import single_process

        options, spec, screen, scale = self.options, self.spec, self.screen, self.error.scale
        try:
            began_with = self._read_initial_arrays()
            tales = [
                *single_process.run_session_in_process(
                    self.make_first_session(), spec, screen, FirstSessionCommentary(self.plan, scale)
                )
            ]
            screen.write_message(describe_saved_state(options, scale))
            tales += single_process.run_session_in_process(
                self.make_second_session(), spec, screen, SecondSessionCommentary(scale)
            )
            return self._write_output(tales, began_with, is_complete=True, over_ros=False)
        except DeviceError as error:
            return self._report_failure(error)
        except KeyboardInterrupt:
            screen.write_message(f"Stopped. {describe_output(options)}")
            return EXIT_INTERRUPTED

    def _run_sessions_over_ros(self, crew: NodeProcesses) -> int:
        options, spec, screen, scale = self.options, self.spec, self.screen, self.error.scale
        began_with = self._read_initial_arrays()
        digest = options.output_folder / "logs" / "digest.jsonl"
        watch = StatusReader(digest)
        recorder = {
            "path": str(options.session_path.absolute()),
            "robots": ",".join(ROBOTS),
            "robot": name_robot(options),
            "task": self.task,
            "summary": str(digest.absolute()),
            "realtime.priority": AGENT_PRIORITY + 2,
        }
        crew.start_process("recorder", "recorder_node", recorder)
        run_session(self.make_first_session(), crew, watch, screen, FirstSessionCommentary(self.plan, scale))
        screen.write_message(describe_saved_state(options, scale))
        run_session(self.make_second_session(), crew, watch, screen, SecondSessionCommentary(scale))
        codes = crew.stop_processes("recorder", timeout=SAVE_TIMEOUT)
        if codes["recorder"]:
            raise DeviceError(
                crew.format_failure("recorder", f"the recorder ended with code {codes['recorder']}")
            )
        # Imported here: they load matplotlib, and without ROS the reader of recordings may be missing.
        from wm_robot.recording.session_file import read_session
        from wm_robot_demo.load_session import read_robot_recording

        session = read_session(options.session_path)
        tales = [read_robot_recording(session, name, spec, self.task) for name in ROBOTS]
        return self._write_output(tales, began_with, is_complete=session.is_whole, over_ros=True)

    def _write_output(
        self,
        recordings: "Sequence[RobotTrack]",
        initial_arrays: "Arrays | None",
        *,
        is_complete: bool,
        over_ros: bool,
    ) -> int:
        self.screen.write_message("Writing the report and rendering the film …")
        # Imported here: it loads torch and matplotlib, and the robots had to start at once.
        from wm_robot_demo.report import write_output

        write_output(
            self.options,
            self.spec,
            self.error.scale,
            self.plan,
            self.bases,
            self.manifests,
            initial_arrays,
            recordings,
            self.screen,
            is_complete=is_complete,
            over_ros=over_ros,
        )
        return 0

    def make_first_session(self) -> DemoSession:
        """Return the session in which the world changes."""
        options, plan = self.options, self.plan
        learning = RobotSettings(
            name=ADAPTIVE,
            base=self.bases.learning,
            learning=True,
            restore=self.restore,
            state=options.state_path,
            change_time=plan.change.time,
            change_world=plan.change.world_text,
        )
        return DemoSession(
            title="first session: the world will change",
            robot=name_robot(options),
            task=self.task,
            period=self.spec.dt,
            seed=options.seed,
            duration=plan.first_duration,
            scale=self.error.scale,
            robots=(
                learning,
                replace(
                    learning, name=FROZEN, base=self.bases.frozen, learning=False, restore=None, state=None
                ),
            ),
        )

    def make_second_session(self) -> DemoSession:
        """Return the session that starts in the changed world."""
        options, plan = self.options, self.plan
        newborn = RobotSettings(
            name=NEWBORN, base=self.bases.learning, learning=True, world=plan.change.world_text
        )
        return DemoSession(
            title="second session: start from the saved state",
            robot=name_robot(options),
            task=self.task,
            period=self.spec.dt,
            seed=options.seed + 1,
            duration=plan.second_duration,
            scale=self.error.scale,
            robots=(
                replace(newborn, name=RESTORED, restore=options.state_path, state=options.state_path),
                newborn,
            ),
        )

    def _read_initial_arrays(self) -> "Arrays | None":
        return _read_arrays(self.restore, self.manifests[self.bases.learning], self.spec)

    def _report_failure(self, error: DeviceError) -> int:
        self.screen.write_message(f"DeviceError: {error}")
        self.screen.write_message(f"The recording up to this error is in {self.options.output_folder}")
        return EXIT_FAILED


def name_robot(options: DemoOptions) -> str:
    """Return the robot as a node accepts it: its name, or the absolute path of its spec."""
    path = Path(options.robot)
    return str(path.absolute()) if path.suffix in (".yaml", ".yml") else options.robot


def _require_extras(over_ros: bool) -> None:
    """Check the packages of the whole demo at its start."""
    needed = {"torch": "learn", "mujoco": "sim", "matplotlib": "report"} | (
        {"mcap": "ros"} if over_ros else {}
    )
    missing = [extra for module, extra in needed.items() if find_spec(module) is None]
    if missing:
        raise MissingExtraError("wm-robot demo", ",".join(missing))


def _read_manifest(base: Path, spec: RobotSpec, options: DemoOptions) -> dict[str, Any]:
    """Read the manifest of a base, without its weights and the library that reads them."""
    variant = " --variant robust" if base.name.endswith("robust") else ""
    train = f"wm-robot train {options.robot}{variant} --out {base}"
    again = f"Select another with --base or --frozen, or train one: {train}"
    try:
        manifest = dict(json.loads((base / "base.json").read_bytes()))
        lived_by = str(manifest["spec_digest"])
        manifest["digest"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SnapshotError(
            f"{base.absolute()} is not a base: {type(error).__name__}: {error}. {again}"
        ) from error
    if lived_by != spec.compute_digest():
        raise SnapshotError(
            f"base {base} was trained for another robot than '{spec.name}' ({spec.compute_digest()[:12]}): its spec "
            f"digest is {lived_by[:12]}. {again}"
        )
    return manifest


@contextmanager
def _lock_folder(out: Path) -> Iterator[None]:
    """Lock the output folder against another demo.

    Raises:
        ConfigError: If another demo runs there.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (out / LOCK_FILE).open("w") as file:
        if not try_lock(file):
            raise ConfigError(
                f"another demo writes to {out}. Wait until it ends, or select another folder: --out FOLDER"
            )
        yield


def _delete_old_output(options: DemoOptions) -> None:
    """Delete the output of an earlier run that this run writes again; never a state."""
    for name in ("session.mcap", "report.html", "video.mp4", "video.gif", "video.part.mp4", "video.part.gif"):
        (options.output_folder / name).unlink(missing_ok=True)
    shutil.rmtree(options.output_folder / "logs", ignore_errors=True)


def _select_saved_state(
    options: DemoOptions, base: Mapping[str, Any], screen: DemoDisplay, noun: str
) -> Path | None:
    """Select the saved state of this base. A state of another base is moved, so that no state is lost."""
    store = Store(options.state_path)
    if not options.state_path.exists():
        screen.write_message(
            f"The adaptive {noun} starts from the initial state: there is no saved state yet."
        )
        return None
    try:
        saved = store.read_manifest()
        fits = (saved.base_digest, saved.spec_digest) == (base["digest"], base["spec_digest"])
    except SnapshotError:
        fits = False
    if fits and not options.fresh:
        screen.write_message(
            f"The adaptive {noun} continues from {options.state_path}: {saved.steps} steps. (--fresh: initial state)"
        )
        return options.state_path
    aside = next(
        p for n in range(1, 10_000) if not (p := options.output_folder / f"state-before-{n}").exists()
    )
    options.state_path.rename(aside)
    why = "option --fresh" if fits else "the saved state belongs to another base or robot"
    screen.write_message(
        f"The adaptive {noun} starts from the initial state: {why}. The saved state was moved to {aside}."
    )
    return None


def _read_arrays(restore: Path | None, base: Mapping[str, Any], spec: RobotSpec) -> "Arrays | None":
    """Read the state at the start of the session. At its end, the folder contains another one."""
    if restore is None:
        return None
    return Store(restore).load(base_digest=base["digest"], spec_digest=spec.compute_digest())


@contextmanager
def _handle_first_interrupt() -> Iterator[None]:
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
