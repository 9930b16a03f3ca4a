"""Control rate: chosen among the divisors of a model's physics rate."""

from wm_robot.errors import SpecError

PREFERRED_RATE, LOWEST_RATE, HIGHEST_RATE = 50.0, 10.0, 500.0
"""Control rates, in Hz."""


def choose_rate(timestep: float, wanted: float | None, inferred: list[str]) -> float:
    """Choose the control rate: a divisor of the physics rate.

    Args:
        timestep: Physics step, in s.
        wanted: Rate in Hz; None: the divisor nearest to 50 Hz.
        inferred: Gets a sentence about the choice.

    Raises:
        SpecError: If the physics step does not divide the wanted control period, or no rate is possible.
    """
    steps = [n for n in range(1, 10_000) if LOWEST_RATE <= 1 / (n * timestep) <= HIGHEST_RATE]
    if not steps:
        raise SpecError(
            f"the physics step of the model is {timestep:g} s; for a control rate of {LOWEST_RATE:g} to "
            f"{HIGHEST_RATE:g} Hz it must be at most {1 / LOWEST_RATE:g} s. Set option/timestep in the model"
        )
    rates = [round(1 / (n * timestep), 9) for n in steps]
    if wanted is None:
        rate = min(rates, key=lambda each: abs(each - PREFERRED_RATE))
        inferred.append(
            f"control rate {rate:.6g} Hz: {round(1 / rate / timestep)} physics steps of {timestep:g} s; the rate "
            f"nearest to {PREFERRED_RATE:g} Hz that they divide"
        )
        return rate
    matching = [rate for rate in rates if abs(1 / wanted - 1 / rate) / timestep < 1e-6]
    if matching:
        inferred.append(f"control rate {matching[0]:.6g} Hz, as given")
        return matching[0]
    near = sorted(sorted(rates, key=lambda each: abs(each - wanted))[:2])
    raise SpecError(
        f"--rate is {wanted:g} Hz, a period of {1 / wanted / timestep:.4g} physics steps of {timestep:g} s; it must "
        f"be a whole number of them, from {LOWEST_RATE:g} to {HIGHEST_RATE:g} Hz. Rates that work: "
        f"{' and '.join(f'{each:.9g}' for each in near)}"
    )
