"""Catalog: finds the stand-ins that a robot can show, and builds their plants."""

from wm_robot.errors import SpecError
from wm_robot.spec import RobotSpec
from wm_robot_sim.model_compiler import compile_model
from wm_robot_sim.plant import Plant
from wm_robot_sim.standins.standin import PREFIX, STANDINS, StandIn
from wm_robot_sim.standins.standin_parts import StandInParts, find_lack

NOMINAL = "nominal"
"""Name of the plant that is the robot's own model."""


def build_plant(spec: RobotSpec, standin: StandIn | None = None) -> Plant:
    """Build the nominal plant of a robot, or that of a stand-in.

    Raises:
        SpecError: If the robot's model lacks what the stand-in changes.
    """
    nominal = Plant(spec, compile_model(spec))
    if standin is None:
        return nominal
    parts = StandInParts.draw(nominal, standin)
    return Plant(spec, compile_model(spec, add_parts=parts.add_to_spec), parts=parts)


def list_standins(spec: RobotSpec) -> tuple[StandIn, ...]:
    """List the stand-ins that a robot can show, each with seed 0, in the order of the table."""
    nominal = Plant(spec, compile_model(spec))
    known = (StandIn(name=name) for name in STANDINS)
    return tuple(each for each in known if not find_lack(nominal, each))


def find_standin(name: str, spec: RobotSpec, seed: int = 0) -> StandIn:
    """Find a stand-in for a robot by name.

    Args:
        name: `NAME` or `standin/NAME`, where `:SEED` may follow.
        seed: For a name without one.

    Raises:
        SpecError: If there is no such stand-in, or the robot's model lacks what it changes.
    """
    short, _, digits = name.removeprefix(PREFIX).partition(":")
    if short not in STANDINS or (":" in name and not digits.isdecimal()):
        known = ", ".join(f"{PREFIX}{each.name}" for each in list_standins(spec))
        raise SpecError(
            f"there is no stand-in '{name}'; robot '{spec.name}' has {known}, where a seed may follow, as in "
            f"{StandIn(name=next(iter(STANDINS)), seed=3)}"
        )
    standin = StandIn(name=short, seed=int(digits) if digits else seed)
    StandInParts.draw(Plant(spec, compile_model(spec)), standin)
    return standin


def parse_plant(text: str, spec: RobotSpec) -> StandIn | None:
    """Parse the name of a simulated plant: `nominal`, which is None, or that of a stand-in.

    Raises:
        SpecError: As for `find_standin`.
    """
    if text == NOMINAL:
        return None
    if not text.startswith(PREFIX):
        raise SpecError(
            f"there is no plant '{text}'; it must be {NOMINAL}, or a stand-in such as "
            f"{PREFIX}{next(iter(STANDINS))}"
        )
    return find_standin(text, spec)
