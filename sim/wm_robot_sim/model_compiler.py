"""Model compiler: compiles the model file that a spec names."""

import warnings
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import mujoco

from wm_robot.errors import SpecError
from wm_robot.robots.model_files import find_model_file
from wm_robot.spec import RobotSpec
from wm_robot_sim.effects.attachments import add_attachments
from wm_robot_sim.sensor_elements import add_sensors
from wm_robot_sim.world_ranges import WorldRanges


def compile_model(
    spec: RobotSpec,
    *,
    visuals: bool = False,
    attachments: Collection[str] = (),
    last_body: str = "",
    add_parts: Callable[[mujoco.MjSpec], None] | None = None,
) -> mujoco.MjModel:
    """Compile the robot's model. Without visuals the dynamics are equal, in a hundredth of the memory.

    Some models cannot be compiled without their visuals; they keep them, as the author wrote them.

    Args:
        attachments: Kinds of undeclared effects whose parts are added.
        last_body: Body of the last link, for them.
        add_parts: Adds the elements of a stand-in.

    Raises:
        SpecError: If MuJoCo cannot read or compile the model.
    """
    path, timestep = find_model_file(spec), WorldRanges.from_spec(spec).timestep

    def attach(model: mujoco.MjSpec) -> None:
        add_attachments(model, attachments, spec.joint_names, last_body)
        if add_parts:
            add_parts(model)

    if not visuals:
        # Where discarding visuals is the error, the model below keeps them.
        with suppress(ValueError):
            return _compile_file(path, spec, attach, timestep=timestep, discard_visuals=True)
    try:
        return _compile_file(path, spec, attach, timestep=timestep)
    except SpecError:
        raise
    except ValueError as error:
        cause, remedy = " ".join(str(error).split()), "Correct the model"
        if timestep and _can_compile(path, replace(spec, leave_out=(), sensors=(), interfaces=("position",))):
            remedy = f"It compiles without world.timestep, which is {timestep}: remove that, or set another"
        raise SpecError(
            f"robot '{spec.name}' has model '{spec.model}', and MuJoCo cannot compile {path}: {cause}. {remedy}"
        ) from error


def _compile_file(
    path: Path,
    spec: RobotSpec,
    attach: Callable[[mujoco.MjSpec], None] = lambda _: None,
    *,
    timestep: float = 0.0,
    discard_visuals: bool = False,
) -> mujoco.MjModel:
    model = mujoco.MjSpec.from_file(str(path))
    for name in spec.leave_out:
        part = model.body(name) or model.geom(name)
        if part is None:
            raise SpecError(f"leave_out names '{name}', and {path} has no body and no geom of that name")
        model.delete(part)
    if discard_visuals:
        model.compiler.discardvisual = True
    if timestep:
        model.option.timestep = timestep
    with warnings.catch_warnings():
        # Of dm_control's cheetah; its users cannot change that model.
        warnings.filterwarnings("ignore", "compiler attribute 'settotalmass' is deprecated")
        add_sensors(model, spec)
        attach(model)
        return model.compile()


def _can_compile(path: Path, spec: RobotSpec) -> bool:
    try:
        _compile_file(path, spec)
    except ValueError:
        return False
    return True
