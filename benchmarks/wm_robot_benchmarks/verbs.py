"""What each `wm-robot bench NAME` takes; the work is imported when it runs, so that help answers at once."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from wm_robot_benchmarks.result import FAMILIES, Setting, measure
from wm_robot_cli.values import (
    Count,
    CountOrZero,
    Duration,
    Priority,
    Rate,
    RateOrZero,
    Seed,
    Threads,
)

BASES = Path("bases")
JsonFlag = Annotated[bool, tyro.conf.arg(name="json")]


def adaptation(
    robot: str = "arm",
    worlds: Count = 200,
    seeds: tuple[Seed, ...] = (0, 1, 2),
    memory: str = "ekf",
    bases: Path = BASES,
    quick: bool = False,
    as_json: JsonFlag = False,
) -> None:
    """Open-loop error by steps lived in worlds never trained on, and what false histories do.

    Args:
        robot: Name of the robot.
        worlds: Held-out worlds for each seed.
        seeds: Of worlds, motion and noise.
        memory: Family that the figures are of.
        bases: Folder with the trained bases.
        quick: A quarter of the worlds, one seed.
        as_json: Print one JSON object as the last line.
    """
    from wm_robot_benchmarks.adaptation import run

    measure(run, Setting("adaptation", robot, seeds, quick, bases), memory, worlds, as_json=as_json)


def calibration(
    robot: str = "arm",
    worlds: Count = 200,
    seeds: tuple[Seed, ...] = (0, 1),
    memory: str = "ekf",
    bases: Path = BASES,
    quick: bool = False,
    as_json: JsonFlag = False,
) -> None:
    """How often the world is within the deviation that was foreseen for it, in worlds never trained on.

    Args:
        robot: Name of the robot.
        worlds: Held-out worlds for each seed.
        seeds: Of worlds, motion and noise.
        memory: Family that the lives are of; its base needs a calibration, see `wm-robot calibrate`.
        bases: Folder with the trained bases.
        quick: A quarter of the worlds, one seed.
        as_json: Print one JSON object as the last line.
    """
    from wm_robot_benchmarks.calibration import run

    measure(run, Setting("calibration", robot, seeds, quick, bases), memory, worlds, as_json=as_json)


def consolidate(
    robot: str = "arm",
    lives: Count = 8,
    minutes: Duration = 20.0,
    seeds: tuple[Seed, ...] = (0, 1),
    memory: str = "ekf",
    bases: Path = BASES,
    quick: bool = False,
    as_json: JsonFlag = False,
) -> None:
    """Robots whose motors wear beyond what training knew: frozen, written, and consolidated too; and poison.

    Args:
        robot: Name of the robot.
        lives: Robots for each seed.
        minutes: Simulated time in which they wear.
        seeds: Of wear, motion and noise.
        memory: Family that the lives are of.
        bases: Folder with the trained bases.
        quick: A quarter of the robots, a fifth of the time, one seed.
        as_json: Print one JSON object as the last line.
    """
    from wm_robot_benchmarks.consolidate import run

    measure(run, Setting("consolidate", robot, seeds, quick, bases), memory, lives, minutes, as_json=as_json)


def control(
    robot: str = "arm",
    episodes: Count = 100,
    seeds: tuple[Seed, ...] = (0, 1),
    memory: str = "ekf",
    bases: Path = BASES,
    quick: bool = False,
    as_json: JsonFlag = False,
) -> None:
    """Settled target error after a hidden change, each arm driven by its own planner.

    Args:
        robot: Name of the robot.
        episodes: Episodes for each arm and seed.
        seeds: Of worlds, targets and noise.
        memory: Family that the figures are of.
        bases: Folder with the trained bases.
        quick: A fifth of the episodes, one seed.
        as_json: Print one JSON object as the last line.
    """
    from wm_robot_benchmarks.control import run

    measure(run, Setting("control", robot, seeds, quick, bases), memory, episodes, as_json=as_json)


def durability(
    kills: CountOrZero = 1000,
    power_cuts: CountOrZero = 0,
    recorder_kills: CountOrZero = 200,
    size: Count = 2 << 20,
    folder: Path | None = None,
    seeds: tuple[Seed, ...] = (0,),
    quick: bool = False,
    as_json: JsonFlag = False,
) -> None:
    """Whether what was acknowledged survives `kill -9` at random instants; naive writers are the controls.

    Args:
        kills: Of each writer of lives.
        recorder_kills: Of each writer of recordings, in the middle of an episode.
        power_cuts: Of each writer of lives on a disk image of its own; needs root and a loop device.
        size: Of a state, in bytes.
        folder: On the disk that is to be tried; the one for temporary files by default.
        seeds: The first is that of the instants.
        quick: A twentieth of each.
        as_json: Print one JSON object as the last line.
    """
    from wm_robot_benchmarks.durability import run

    setting = Setting("durability", "none", seeds[:1], quick, BASES)
    measure(run, setting, kills, power_cuts, recorder_kills, size, folder, as_json=as_json)


def life(
    robot: str = "arm",
    steps: Count = 1_000_000,
    seeds: tuple[Seed, ...] = (0,),
    memory: str = "ekf",
    bases: Path = BASES,
    quick: bool = False,
    as_json: JsonFlag = False,
) -> None:
    """One long life in simulated time: whether its step, its state or its error grow with age.

    Args:
        robot: Name of the robot.
        steps: Steps of the life; a million are five and a half hours at 50 Hz, and take about one and a half.
        seeds: The first is that of worlds, motion and noise.
        memory: Family of the life.
        bases: Folder with the trained bases.
        quick: A hundredth of the steps.
        as_json: Print one JSON object as the last line.
    """
    from wm_robot_benchmarks.long_lifetime import run

    measure(run, Setting("life", robot, seeds[:1], quick, bases), memory, steps, as_json=as_json)


def memory(
    task: Literal["linear", "gain", "arm"] = "linear",
    families: tuple[str, ...] = FAMILIES,
    worlds: Count = 128,
    updates: Count = 3000,
    seeds: tuple[Seed, ...] = (0, 1),
    work: Path = Path("runs/bench"),
    bases: Path = BASES,
    figure: Path | None = None,
    quick: bool = False,
    as_json: JsonFlag = False,
) -> None:
    """Families of lifetime state side by side, and beside what needs no learning in weights.

    Args:
        task: `linear`: random linear systems that change; the families are trained first, for some ten minutes each.
            `gain`: a gain that lasts over episodes, trained likewise. `arm`: the bases that are there.
        families: Those to compare.
        worlds: Of `arm`: held-out worlds for each seed.
        updates: Of each training; those of `gain` are a tenth.
        seeds: Of the worlds that they are tested on.
        work: Folder of the trainings, one for each task; what is trained there already is taken.
        bases: Of `arm`: folder with the trained bases.
        figure: Of `arm`: SVG file to draw the errors in.
        quick: A fiftieth of the updates (a third for `gain`), a quarter of the worlds, one seed.
        as_json: Print one JSON object as the last line.
    """
    setting = Setting("memory", task, seeds, quick, bases)
    if task == "arm":
        from wm_robot_benchmarks.memory_arm import run as run_arm

        measure(run_arm, setting, families, worlds, figure, as_json=as_json)
    elif task == "gain":
        from wm_robot_benchmarks.memory_gain import run as run_gain

        measure(run_gain, setting, families, updates // 10, work / task, as_json=as_json)
    else:
        from wm_robot_benchmarks.memory_linear import run

        measure(run, setting, families, updates, work / task, as_json=as_json)


def assimilation(
    robot: str = "arm",
    pairs: Count = 64,
    seeds: tuple[Seed, ...] = (0, 1),
    memory: str = "ekf",
    bases: Path = BASES,
    quick: bool = False,
    as_json: JsonFlag = False,
) -> None:
    """Pairs of robots that live each other's sessions: what each foresees of the other's world and of its own.

    Args:
        robot: Name of the robot.
        pairs: For each seed.
        seeds: Of bodies, payloads, motion and noise.
        memory: Family that the lives are of.
        bases: Folder with the trained bases.
        quick: A quarter of the pairs, one seed.
        as_json: Print one JSON object as the last line.
    """
    from wm_robot_benchmarks.assimilation import run

    measure(run, Setting("assimilation", robot, seeds, quick, bases), memory, pairs, as_json=as_json)


def onboard(
    robot: str = "arm",
    repetitions: Count = 200,
    episodes: Count = 24,
    seeds: tuple[Seed, ...] = (0, 1),
    memory: str = "ekf",
    bases: Path = BASES,
    quick: bool = False,
    as_json: JsonFlag = False,
) -> None:
    """A whole plan as a graph, beside plain torch and its bare matrix products; what few plans cost.

    Args:
        robot: Name of the robot.
        repetitions: Plans of each kind at the default size; an eighth at that of TD-MPC2.
        episodes: Episodes of each planner and seed.
        seeds: Of worlds, targets and noise.
        memory: Family that the figures are of.
        bases: Folder with the trained bases.
        quick: A quarter of the repetitions and episodes, one seed.
        as_json: Print one JSON object as the last line.
    """
    from wm_robot_benchmarks.onboard import run

    measure(
        run, Setting("onboard", robot, seeds, quick, bases), memory, repetitions, episodes, as_json=as_json
    )


def recall(
    robot: str = "arm",
    lives: Count = 48,
    seeds: tuple[Seed, ...] = (0, 1),
    memory: str = "ekf",
    bases: Path = BASES,
    quick: bool = False,
    as_json: JsonFlag = False,
) -> None:
    """Conditions that come back without a label: how fast a life is at home in them again.

    Args:
        robot: Name of the robot.
        lives: Lives for each seed, of five conditions and 14 visits.
        seeds: Of worlds, motion and noise.
        memory: Family that the lives are of.
        bases: Folder with the trained bases.
        quick: An eighth of the lives, one seed.
        as_json: Print one JSON object as the last line.
    """
    from wm_robot_benchmarks.recall import run

    measure(run, Setting("recall", robot, seeds, quick, bases), memory, lives, as_json=as_json)


def resume(
    robot: str = "arm",
    families: tuple[str, ...] = (),
    steps: Count = 10_000,
    interruptions: CountOrZero = 10,
    seeds: tuple[Seed, ...] = (0,),
    bases: Path = BASES,
    quick: bool = False,
    as_json: JsonFlag = False,
) -> None:
    """Lives that are killed and go on from their last snapshot: whether they are those that were never stopped.

    Args:
        robot: Name of the robot.
        families: Those with a base that are tried; all by default.
        steps: Of each life.
        interruptions: Times that it is killed.
        seeds: The first is that of worlds, motion and instants.
        bases: Folder with the trained bases.
        quick: A twentieth of the steps.
        as_json: Print one JSON object as the last line.
    """
    from wm_robot_benchmarks.resume import run

    measure(
        run,
        Setting("resume", robot, seeds[:1], quick, bases),
        families,
        steps,
        interruptions,
        as_json=as_json,
    )


def ros(
    robot: str = "arm",
    seconds: Duration = 60.0,
    rate: Rate = 100.0,
    priority: Priority = 50,
    memory: str = "ekf",
    seeds: tuple[Seed, ...] = (0,),
    bases: Path = BASES,
    quick: bool = False,
    as_json: JsonFlag = False,
) -> None:
    """What ROS 2 costs a loop: twelve joints echoed at 200 Hz by an agent that plans nothing, and the whole agent.

    Args:
        robot: Name of the whole agent's robot.
        seconds: Of the echo, and of the whole agent; each executor gets a sixth, and so does the control.
        rate: Of the whole agent, in Hz; at another than the robot's own the base is timed, and foresees nothing.
        priority: Of all nodes among real-time processes, where that is permitted; 0: none.
        memory: Family of the agent's base.
        seeds: The first is that of what the robot of twelve joints says that it senses.
        bases: Folder with the trained bases.
        quick: A quarter of the time.
        as_json: Print one JSON object as the last line.
    """
    from wm_robot_benchmarks.ros import run

    measure(
        run, Setting("ros", robot, seeds[:1], quick, bases), memory, seconds, rate, priority, as_json=as_json
    )


def sim(
    robot: str = "arm",
    seconds: Duration = 20.0,
    threads: Threads = 1,
    quick: bool = False,
    as_json: JsonFlag = False,
) -> None:
    """Transitions a second of a batched rollout, beside a bare `mujoco.rollout` loop in the same run.

    Args:
        robot: Name of the robot.
        seconds: Time for each of the two.
        threads: Physics threads of both.
        quick: A quarter of the time.
        as_json: Print one JSON object as the last line.
    """
    from wm_robot_benchmarks.sim import run

    measure(run, Setting("sim", robot, (0,), quick, BASES), seconds, threads, as_json=as_json)


def store(
    size: Count = 2 << 20,
    rounds: Count = 40,
    snapshots: Count = 100_000,
    folder: Path | None = None,
    quick: bool = False,
    as_json: JsonFlag = False,
) -> None:
    """What a snapshot costs beside the bare hash, writes and fsyncs, and how a store of very many answers.

    Args:
        size: Of a state, in bytes.
        rounds: States that are written both ways.
        snapshots: Of the large store.
        folder: On the disk that is to be tried; the one for temporary files by default.
        quick: A quarter of the rounds, a twentieth of the snapshots.
        as_json: Print one JSON object as the last line.
    """
    from wm_robot_benchmarks.store import run

    measure(
        run, Setting("store", "none", (0,), quick, BASES), size, rounds, snapshots, folder, as_json=as_json
    )


def tamper(
    n: Count = 10_000,
    robot: str = "arm",
    memory: str = "gru",
    seeds: tuple[Seed, ...] = (0,),
    bases: Path = BASES,
    quick: bool = False,
    as_json: JsonFlag = False,
) -> None:
    """Whether a bundle is ever taken that is damaged, forged, old or hostile; a reader that trusts is the control.

    Args:
        n: Attempts in all.
        robot: Name of the robot.
        memory: Family of the life that is shipped.
        seeds: The first is that of the attacks.
        bases: Folder with the trained bases.
        quick: A twentieth of the attempts.
        as_json: Print one JSON object as the last line.
    """
    from wm_robot_benchmarks.tamper import run

    measure(run, Setting("tamper", robot, seeds[:1], quick, bases), memory, n, as_json=as_json)


def loop(
    robot: str = "arm",
    seconds: Duration = 60.0,
    rate: RateOrZero = 0.0,
    learner: Literal["on", "off"] = "off",
    hogs: CountOrZero = 0,
    priority: Priority = 50,
    memory: str = "ekf",
    bases: Path = BASES,
    quick: bool = False,
    as_json: JsonFlag = False,
) -> None:
    """Time from a sensor's stamp to the command for it, through ROS 2, plant and agent in processes of their own.

    Args:
        robot: Name of the robot.
        seconds: Length of the run.
        rate: Of the loop, in Hz; 0: the robot's own. At another the base is timed, and foresees nothing.
        learner: Whether the agent has its learner beside it.
        hogs: Processes of ordinary priority that spin beside it.
        priority: Of both nodes among real-time processes, where that is permitted; 0: none.
        memory: Family of the agent's base.
        bases: Folder with the trained bases.
        quick: A quarter of the time.
        as_json: Print one JSON object as the last line.
    """
    from wm_robot_benchmarks.loop import run

    setting = Setting("loop", robot, (0,), quick, bases)
    measure(
        run,
        setting,
        memory,
        seconds,
        rate=rate,
        learner=learner == "on",
        hogs=hogs,
        priority=priority,
        as_json=as_json,
    )


def safety(
    robot: str = "arm",
    generated: Count = 10_000,
    kills: CountOrZero = 20,
    flood: Count = 100_000,
    deaths: CountOrZero = 2,
    memory: str = "ekf",
    seeds: tuple[Seed, ...] = (0,),
    bases: Path = BASES,
    quick: bool = False,
    as_json: JsonFlag = False,
) -> None:
    """Whether a wrong number reaches a motor, a false message is acted on, or a plant goes on without control.

    Args:
        robot: Name of the robot.
        generated: Random actions and readings, for each of two sets of limits.
        kills: Control processes that are killed, and as many that are stopped; 0: none.
        flood: Messages at 10 kHz.
        deaths: Learners and recorders that are stopped twice and then killed, in a minute each; 0: none.
        memory: Family of the agent that has the learner.
        seeds: The first is that of the numbers and instants.
        bases: Folder with the trained bases.
        quick: A twentieth of the cases, five of the kills, one death of each in a fifth of the time.
        as_json: Print one JSON object as the last line.
    """
    from wm_robot_benchmarks.safety import run

    setting = Setting("safety", robot, seeds[:1], quick, bases)
    measure(run, setting, generated, kills, flood, deaths=deaths, memory=memory, as_json=as_json)


def pigeon(
    robot: str = "arm",
    robots: Count = 24,
    memory: str = "ekf",
    seeds: tuple[Seed, ...] = (0, 1),
    bases: Path = BASES,
    quick: bool = False,
    as_json: JsonFlag = False,
) -> None:
    """Whether reward that comes whatever a robot does makes a ritual, and whether an alarm tells false promises.

    Args:
        robot: Name of the robot.
        robots: In each run and seed, each in a world of its own.
        memory: Family of the agents' base.
        seeds: Of worlds, work and noise.
        bases: Folder with the trained bases.
        quick: A third of the robots, one seed: too few to tell a ritual from noise.
        as_json: Print one JSON object as the last line.
    """
    from wm_robot_benchmarks.pigeon import run

    measure(run, Setting("pigeon", robot, seeds, quick, bases), memory, robots, as_json=as_json)


BENCHES: dict[str, Callable[..., Any]] = {
    "adaptation": adaptation,
    "assimilation": assimilation,
    "calibration": calibration,
    "consolidate": consolidate,
    "control": control,
    "durability": durability,
    "life": life,
    "memory": memory,
    "onboard": onboard,
    "pigeon": pigeon,
    "recall": recall,
    "resume": resume,
    "ros": ros,
    "safety": safety,
    "sim": sim,
    "loop": loop,
    "store": store,
    "tamper": tamper,
}
