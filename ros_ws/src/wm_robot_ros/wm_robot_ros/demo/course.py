"""The whole demo: a first visit with a hidden change, a second one that starts from what was learned, a report."""

import json
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from wm_robot.errors import DeviceError, MissingExtraError, SnapshotError
from wm_robot.evaluation.recovery import threshold
from wm_robot.lifetime.store import Store
from wm_robot.spec import RobotSpec
from wm_robot_ros.demo.crew import Crew
from wm_robot_ros.demo.options import Options
from wm_robot_ros.demo.plan import Plan
from wm_robot_ros.demo.screen import Screen
from wm_robot_ros.demo.visit import PRIORITY, SAVING, Role, Visit, agent_of, hold
from wm_robot_ros.demo.watch import RobotView, Watch
from wm_robot_ros.environment import private_environment
from wm_robot_sim import load_spec

ROBOT = "arm"
ADAPTIVE, FROZEN, RESTORED, NEWBORN = "adaptive", "frozen", "restored", "newborn"
NOTICED = 0.7
"""Seconds after the change in which the story is the change itself."""
STEADY = 1.0
"""Seconds for which a turn of the story has to hold before it is told."""
FAILED, INTERRUPTED = 1, 130


def run(options: Options, screen: Screen) -> int:
    """Run the demo; returns the exit code: 0, 1 if a process failed, 130 after Ctrl-C.

    After Ctrl-C further ones are ignored, so that the process ends with that code.

    Raises:
        MissingExtraError: If ROS 2 or another part is not installed.
        SnapshotError: If a base is missing or another robot's.
    """
    _require_extras()
    spec = load_spec(ROBOT)
    manifests = {path: _manifest(path, spec) for path in (options.base, options.frozen)}
    environment = private_environment()
    restore = _state_to_go_on_from(options, manifests[options.base], screen)
    _clear(options)
    crew = Crew(environment, options.out / "logs")
    with _interrupted_once():
        try:
            return _run(options, spec, manifests, restore, crew, screen)
        except DeviceError as error:
            screen.clear()
            crew.stop(patience=SAVING)
            screen.say(f"DeviceError: {error}")
            screen.say(f"What was recorded until then is in {options.out}")
            return FAILED
        except KeyboardInterrupt:
            screen.clear()
            codes = crew.stop(patience=SAVING)
            screen.say(f"Stopped. {_what_is_there(options)}")
            for name in (agent_of(ADAPTIVE), agent_of(RESTORED)):
                if codes.get(name):
                    screen.say(
                        crew.explain(name, f"'{name}' ended with code {codes[name]}: its last save is older")
                    )
            return INTERRUPTED
        finally:
            crew.stop()


def _run(
    options: Options,
    spec: RobotSpec,
    manifests: Mapping[Path, Mapping[str, Any]],
    restore: Path | None,
    crew: Crew,
    screen: Screen,
) -> int:
    plan = Plan.of(options.seed, quick=options.quick)
    began_with = _arrays(restore, manifests[options.base], spec)
    digest = options.out / "logs" / "digest.jsonl"
    watch = Watch(digest)
    robots = ",".join((ADAPTIVE, FROZEN, RESTORED, NEWBORN))
    recorder = {
        "path": str(options.session.absolute()),
        "robots": robots,
        "digest": str(digest.absolute()),
        "realtime.priority": PRIORITY + 2,
    }
    crew.start("recorder", "recorder_node", recorder)
    hold(_first(options, spec, plan, restore), crew, watch, screen, _Storyteller(plan))
    screen.say(
        f"The {ADAPTIVE} arm's state is saved in {options.state}; now it wakes from it in the changed world."
    )
    hold(_second(options, spec, plan), crew, watch, screen, _waking)
    codes = crew.stop("recorder", patience=SAVING)
    if codes["recorder"]:
        raise DeviceError(crew.explain("recorder", f"the recorder ended with code {codes['recorder']}"))
    screen.say("Writing the report, and drawing the film …")
    # Here, since it loads torch and matplotlib, and the robots had to start at once.
    from wm_robot_ros.demo.account import write_account

    write_account(options, spec, plan, manifests, began_with, screen)
    return 0


def _first(options: Options, spec: RobotSpec, plan: Plan, restore: Path | None) -> Visit:
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


def _second(options: Options, spec: RobotSpec, plan: Plan) -> Visit:
    newborn = Role(name=NEWBORN, base=options.base, learning=True, world=plan.change.world)
    return Visit(
        title="second visit: waking with what was learned",
        robot=spec.name,
        period=spec.dt,
        seed=options.seed + 1,
        length=plan.second,
        roles=(replace(newborn, name=RESTORED, restore=options.state, state=options.state), newborn),
    )


class _Storyteller:
    """What is happening in the first visit."""

    def __init__(self, plan: Plan):
        self._plan = plan
        self._before: dict[str, float] = {}
        self._told, self._next, self._next_since = "", "", 0.0

    def __call__(self, robots: Sequence[RobotView]) -> str:
        learning = robots[0]
        if learning.since_change is None:
            self._before = {view.name: view.error or 0.0 for view in robots}
            if (learning.time or 0.0) < 2:
                return "Both arms go to their target."
            return "Both arms follow the target. Soon their world will change; neither will be told."
        if learning.since_change < NOTICED or not self._told:
            self._told = f"The world has changed: {self._plan.change.words}."
            return self._told
        return self._steady(self._standing(robots), learning.since_change)

    def _standing(self, robots: Sequence[RobotView]) -> str:
        learning, frozen = robots
        fine = [(v.error or 0.0) < threshold(self._before.get(v.name, 0.0)) for v in robots]
        if all(fine):
            return "Both arms are on their target, as before the change."
        if fine[0]:
            return f"The {learning.name} arm has found its footing again. The {frozen.name} one has not."
        if fine[1]:
            return f"The {frozen.name} arm is on its target; the {learning.name} one is still learning."
        return "Both arms have lost their footing; one of them is learning."

    def _steady(self, story: str, now: float) -> str:
        """The story, once it has been true for a while: the target moves, and errors with it."""
        if story != self._next:
            self._next, self._next_since = story, now
        if now - self._next_since >= STEADY:
            self._told = story
        return self._told


def _waking(robots: Sequence[RobotView]) -> str:
    restored, newborn = robots
    return f"Same weights, same changed world. The {restored.name} arm knows it, the {newborn.name} one does not."


def _require_extras() -> None:
    """Miss at the start, by name, what would be missed at the end."""
    for module, extra in (("torch", "learn"), ("mujoco", "sim"), ("mcap", "ros"), ("matplotlib", "report")):
        if find_spec(module) is None:
            raise MissingExtraError("wm-robot demo", extra)


def _manifest(base: Path, spec: RobotSpec) -> dict[str, Any]:
    """What a base says of itself, without the weights and the library that reads them."""
    arm = " --arm robust" if base.name.endswith("robust") else ""
    again = (
        f"Name another with --base or --frozen, or train one: wm-robot train {spec.name}{arm} --out {base}"
    )
    try:
        manifest = dict(json.loads((base / "base.json").read_bytes()))
        lived_by = str(manifest["spec_digest"])
        manifest["digest"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SnapshotError(
            f"no base in {base.absolute()}: {type(error).__name__}: {error}. {again}"
        ) from error
    if lived_by != spec.digest():
        raise SnapshotError(
            f"base {base} was trained for another robot than '{spec.name}' ({spec.digest()[:12]}): its spec "
            f"digest is {lived_by[:12]}. {again}"
        )
    return manifest


def _clear(options: Options) -> None:
    """Remove what a run before left and this one makes anew; never a state."""
    options.out.mkdir(parents=True, exist_ok=True)
    for name in ("session.mcap", "report.html", "video.mp4", "video.gif", "video.part.mp4", "video.part.gif"):
        (options.out / name).unlink(missing_ok=True)
    shutil.rmtree(options.out / "logs", ignore_errors=True)


def _state_to_go_on_from(options: Options, base: Mapping[str, Any], screen: Screen) -> Path | None:
    """The saved state, if it is this base's; another is put aside, since no life is to be lost."""
    store = Store(options.state)
    if not options.state.exists():
        screen.say("The adaptive arm is born: there is no saved state yet.")
        return None
    try:
        saved = store.show()
        fits = (saved.base_digest, saved.spec_digest) == (base["digest"], base["spec_digest"])
    except SnapshotError:
        fits = False
    if fits and not options.fresh:
        screen.say(
            f"The adaptive arm goes on from {options.state}: {saved.steps} steps of life. (--fresh: birth)"
        )
        return options.state
    aside = next(p for n in range(1, 10_000) if not (p := options.out / f"state-before-{n}").exists())
    options.state.rename(aside)
    why = "as asked" if fits else "the saved state belongs to another base or robot"
    screen.say(f"The adaptive arm is born: {why}. The saved state is kept in {aside}.")
    return None


def _arrays(restore: Path | None, base: Mapping[str, Any], spec: RobotSpec) -> Any:
    """The state that the visit begins with: at its end, its folder holds another."""
    if restore is None:
        return None
    return Store(restore).load(base_digest=base["digest"], spec_digest=spec.digest())


def _what_is_there(options: Options) -> str:
    there = [path.name for path in (options.session, options.state) if path.exists()]
    return f"{' and '.join(there) or 'Nothing'} in {options.out}; the next run goes on from the state."


@contextmanager
def _interrupted_once() -> Iterator[None]:
    """Take Ctrl-C or SIGTERM as one interrupt, and ignore all further ones until what was lived is saved."""
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
