"""`wm-robot validate --replay` and `--model-only`: reports of a log, and of a world model as a model."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wm_robot.errors import SnapshotError
from wm_robot_cli.progress import ProgressMeter
from wm_robot_cli.tables import make_console, print_table

if TYPE_CHECKING:
    from wm_robot.agent.agent import Agent
    from wm_robot.evaluation.validation.model_judgement import JudgedModel
    from wm_robot.evaluation.validation.open_loop_meter import OpenLoopModel
    from wm_robot.evaluation.validation.replay import ReplayReport
    from wm_robot.memory.state_arrays import ArrayState
    from wm_robot.recording.agent_log import AgentLog
    from wm_robot.spec import RobotSpec
    from wm_robot_cli.validation.runner import ValidationTarget


def report_replay(
    target: "ValidationTarget",
    session: Path,
    *,
    namespace: str,
    agent_name: str,
    end_state: str,
    as_json: bool,
) -> None:
    """Replay a session with the agent of a target, and print the report.

    Args:
        end_state: Saved state that the replayed one is compared with; empty: none.
    """
    from wm_robot.evaluation.validation.replay import compare_states, replay_log
    from wm_robot.recording.agent_log import read_agent_log
    from wm_robot.safety.logged_gate import LoggedGate

    spec = target.load_spec()
    log = read_agent_log(session, spec, namespace=namespace or None, agent=agent_name)
    agent = target.load_agent(learning=log.learning is not False)
    with ProgressMeter("replay") as progress:
        found = replay_log(
            agent,
            log,
            make_predictions(target, agent),
            spec,
            restore=target.state or None,
            gate=LoggedGate(spec, log.initial_action),
            progress=progress,
        )
    values: dict[str, Any] = {"session": str(session), "base": target.base, "state": target.state}
    values |= found.to_dict()
    if end_state:
        apart = compare_states(agent.state, _load_state(end_state, agent))
        # States of other parts or shapes have no difference.
        values["end_state_difference"] = apart if math.isfinite(apart) else None
    if as_json:
        print(json.dumps(values))
    else:
        _print_replay(found, values)


def make_predictions(target: "ValidationTarget", agent: "Agent") -> "OpenLoopModel[ArrayState]":
    """Make the open-loop predictions of a base: calibrated where torch and a calibration are there."""
    from wm_robot.evaluation.validation.open_loop_models import AgentPredictions, BasePredictions
    from wm_robot.model.base import load_base

    try:
        import torch
    except ImportError:
        return AgentPredictions(agent)
    from wm_robot.model.calibration import load_calibration

    torch.set_num_threads(1)
    base = load_base(target.base)
    try:
        return BasePredictions(base, load_calibration(target.base, base))
    except SnapshotError:
        return BasePredictions(base)


def report_model(
    target: "ValidationTarget", sessions: Sequence[Path], *, namespace: str, seconds: float, as_json: bool
) -> None:
    """Judge the world model of a target as a model, and print the figures.

    Args:
        sessions: Logs; none: those of simulated plants other than the nominal one.
        seconds: Length of each log of a simulated plant.
    """
    from wm_robot.evaluation.validation.model_judgement import judge_world_model
    from wm_robot.recording.agent_log import read_agent_log
    from wm_robot_cli.validation.plant_logs import collect_plant_logs, list_plant_scenarios

    spec = target.load_spec()
    logs: dict[str, AgentLog]
    if sessions:
        logs = {str(path): read_agent_log(path, spec, namespace=namespace or None) for path in sessions}
    else:
        scenarios = list_plant_scenarios(spec, target.task, seed=target.seed, seconds=seconds)
        logs = collect_plant_logs(spec, list(scenarios))
    models, notes = _make_models(target, spec)
    with ProgressMeter("models") as progress:
        found = judge_world_model(models, logs, spec, progress=progress)
    if as_json:
        print(json.dumps(found.to_dict() | {"notes": notes, "base": target.base, "state": target.state}))
        return
    rows = [
        {
            "group": each.group,
            "steps": str(each.horizon),
            "model": each.model,
            "error": each.error,
            "of the change": each.ratio,
            "within 1 deviation": each.coverage,
            "world model better": each.wins,
        }
        for each in found.list_figures()
    ]
    print_table(make_console(), rows)
    for note in notes:
        print(note)
    print(f"medians over {len(logs)} logs; the deviations of the world model are {found.uncertainty}")


def _make_models(target: "ValidationTarget", spec: "RobotSpec") -> "tuple[dict[str, JudgedModel], list[str]]":
    from wm_robot.errors import SpecError
    from wm_robot.evaluation.validation.model_judgement import (
        LEAST_SQUARES,
        SIMULATOR,
        WORLD_MODEL,
        JudgedAgent,
        JudgedLeastSquares,
    )
    from wm_robot.model.base import load_base
    from wm_robot_cli.validation.simulator_model import SimulatorModel

    agent, notes = target.load_agent(), []
    models: dict[str, JudgedModel] = {
        WORLD_MODEL: JudgedAgent(agent, make_predictions(target, agent), target.state or None)
    }
    try:
        models[SIMULATOR] = SimulatorModel(spec)
    except SpecError as error:
        notes.append(str(error))
    models[LEAST_SQUARES] = JudgedLeastSquares(load_base(target.base))
    return models, notes


def _load_state(reference: str, agent: "Agent") -> Any:
    from wm_robot.store.store import parse_reference

    store, name = parse_reference(reference)
    return store.load(name, base_digest=agent.base.digest, spec_digest=agent.spec.compute_digest())


def _print_replay(found: "ReplayReport", values: dict[str, Any]) -> None:
    report = found.report
    rows = [
        {
            "group": each.group,
            "steps": str(each.horizon),
            "error": each.error,
            "of the change": each.ratio,
            "within 1 deviation": each.coverage,
            "predictions": each.count,
        }
        for each in report.open_loop
    ]
    print_table(make_console(), rows)
    print(
        f"{report.num_steps} steps, {report.num_valid} valid, {report.num_excluded} of them not learned from; "
        f"deviations: {report.uncertainty}"
    )
    if report.surprise:
        parts = ", ".join(f"{name} {value:.3g}" for name, value in report.surprise.items())
        print(f"surprise in nats per channel: {parts}")
    if report.commands["count"]:
        apart = report.commands["distance"]
        print(
            f"commands against applied actions, in shares of the range: mean {apart['mean']:.3g}, "
            f"p95 {apart['p95']:.3g}; limits: {report.commands['violations'] or 'none violated'}"
        )
    if found.live is None:
        print("the log has no surprise of an agent to compare with")
    elif found.live.is_equal:
        print(f"equal to the live run in all {found.live.num_compared} steps")
    else:
        print(
            f"{found.live.num_different} of {found.live.num_compared} steps differ from the live run, by up to "
            f"{found.live.max_difference:.3g} nats per channel; the first at stamp {found.live.first_different}"
        )
    if "end_state_difference" in values:
        apart = values["end_state_difference"]
        print(
            "the saved state at the end has other parts"
            if apart is None
            else f"largest difference from the saved state at the end: {apart:.3g}"
        )
    for note in found.notes:
        print(note)
