"""Verb `wm-robot diagnose`: which joint or sensor of a robot is off, how, and by how much, from its motion."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from wm_robot.errors import ConfigError, MissingExtraError, SpecError
from wm_robot_cli.progress import ProgressMeter
from wm_robot_cli.values import Duration, JsonFlag, Seed, ValueRange

if TYPE_CHECKING:
    from wm_robot.evaluation.diagnosis.diagnosis import Diagnosis
    from wm_robot.evaluation.diagnosis.readings import Recording
    from wm_robot.spec import RobotSpec
    from wm_robot.types import Episode, Fault

EXIT_FAULT_FOUND = 3
"""Exit code if a fault is found."""
HEALTHY = "healthy"
"""What is simulated without a fault."""
MAX_SECONDS = 180.0
"""Longest motion that is diagnosed, in s; of a longer recording its last part is."""

Mass = Annotated[float, ValueRange(0, 1000)]


def diagnose_robot(
    robot: Annotated[str, tyro.conf.Positional],
    /,
    *,
    recording: tuple[Path, ...] = (),
    simulate: tuple[str, ...] = (),
    namespace: str = "",
    payload: Mass | None = None,
    state: str = "",
    base: Path | None = None,
    seconds: Duration = 60.0,
    stops: bool = True,
    seed: Seed = 0,
    as_json: JsonFlag = False,
) -> None:
    """Find which joint or sensor of a robot is off, how, by how much and how sure, from about a minute of its motion.

    Faults are compared in simulation, with the robot's MuJoCo model. Each joint should move in the recording, and
    visit both of its stops. Exit code 0: nothing was found. Exit code 3: a fault was found.

    Args:
        robot: Name of the robot, or the path of its spec.
        recording: Sessions, bags, episode files or folders of them; the last 180 s are used.
        simulate: Faults of a simulated robot that is diagnosed instead, for trying it out: `encoder_zero:elbow:0.3`,
            `weak:elbow:0.3`, `payload:0.3`, `exchanged_motors:elbow:wrist`; or `healthy`.
        namespace: Of the robot in a session; needed if there are several.
        payload: Known mass in the hand during the recording, in kg. It shows the zero of servo and reading.
        state: Lifetime state, whose learned faults are tried first: `STORE` or `STORE@BRANCH`.
        base: Folder of the state's base.
        seconds: Duration of the simulated motion, in s.
        stops: Whether each simulated joint visits both of its stops.
        seed: Seed of the simulated robot and its motion.
        as_json: Print JSON as the last line.
    """
    if bool(recording) == bool(simulate):
        raise ConfigError(
            "diagnose needs one of --recording and --simulate. Run: wm-robot diagnose arm --simulate healthy"
        )
    if bool(state) != (base is not None):
        given, lacking = ("--state", "--base") if state else ("--base", "--state")
        raise ConfigError(
            f"{given} is given without {lacking}; a learned state is read with its base. Give both"
        )
    try:
        from wm_robot_sim.fault_simulator import FaultSimulator
    except ImportError as error:
        raise MissingExtraError("wm-robot diagnose", "sim") from error
    from wm_robot.evaluation.diagnosis.readings import Recording
    from wm_robot.evaluation.diagnosis.search import diagnose_recording
    from wm_robot.robots import load_spec

    spec = load_spec(robot)
    if simulate:
        episodes = [_simulate(spec, simulate, seed=seed, seconds=seconds, stops=stops)]
    else:
        episodes = _load(recording, spec, namespace)
    motion = Recording(spec, episodes)
    proposals = _read_learned(spec, state, base) if base is not None else []
    with ProgressMeter(f"diagnose {spec.name}") as progress:
        found = diagnose_recording(
            FaultSimulator(spec, episodes, payload=payload), motion, proposals=proposals, progress=progress
        )
    _print_diagnosis(found, motion, proposals, as_json=as_json)
    if found.findings:
        sys.exit(EXIT_FAULT_FOUND)


def _simulate(
    spec: "RobotSpec", faults: Sequence[str], *, seed: int, seconds: float, stops: bool
) -> "Episode":
    from wm_robot.evaluation.diagnosis.fault_kinds import parse_fault
    from wm_robot_sim.diagnosis_motion import simulate_recording

    parsed = [parse_fault(each, spec.joint_names) for each in faults if each != HEALTHY]
    return simulate_recording(spec, parsed, seed=seed, seconds=seconds, stops=stops)


def _load(recordings: Sequence[Path], spec: "RobotSpec", namespace: str) -> "list[Episode]":
    """Load the last part of recordings."""
    from wm_robot.recording.recorded_experience import load_recordings
    from wm_robot_cli.recording_inputs import check_recordings

    check_recordings(recording=tuple(recordings))
    kept: list[Episode] = []
    left = round(MAX_SECONDS * spec.rate)
    for episode in reversed(load_recordings(recordings, spec, namespace)):
        if left > 0:
            kept.insert(0, _cut_end(episode, left))
            left -= len(episode)
    return kept


def _cut_end(episode: "Episode", steps: int) -> "Episode":
    """Return the last steps of an episode."""
    from dataclasses import replace

    first = max(0, len(episode) - steps)
    if not first:
        return episode
    return replace(
        episode,
        stamp=episode.stamp[first:],
        obs=episode.obs[first:],
        action=episode.action[first:],
        initial_action=episode.action[first - 1],
        reward=episode.reward[first:],
        goal=episode.goal[first:],
        valid=episode.valid[first:],
        is_new=None if episode.is_new is None else episode.is_new[first:],
    )


def _read_learned(spec: "RobotSpec", state: str, base: Path) -> "list[Fault]":
    """Return the faults that a learned state suggests."""
    from wm_robot.io.base_file import check_same_base, find_base
    from wm_robot.store.store import parse_reference
    from wm_robot_cli.recording_inputs import load_base_and_spec

    folder = find_base(base)
    store, reference = parse_reference(state)
    snapshot = store.read_manifest(reference)
    check_same_base(folder, snapshot.base_digest, state)
    loaded, own = load_base_and_spec(folder, "wm-robot diagnose --state")
    if own.compute_digest() != spec.compute_digest():
        raise SpecError(
            f"base {folder} is of robot '{own.name}', and '{spec.name}' is diagnosed. Name a base of that robot"
        )
    from wm_robot.model.learned_physics import read_learned_physics
    from wm_robot_sim.learned_faults import propose_faults

    learned = read_learned_physics(loaded.model, store.load(snapshot.digest))
    return propose_faults(spec, learned.physics, learned.mixing, learned.offset)


def _print_diagnosis(
    found: "Diagnosis", motion: "Recording", proposals: "Sequence[Fault]", *, as_json: bool
) -> None:
    for line in found.describe():
        print(line)
    if as_json:
        learned = [each.to_dict() for each in proposals]
        print(json.dumps({**found.to_dict(), "proposed_by_state": learned}))
