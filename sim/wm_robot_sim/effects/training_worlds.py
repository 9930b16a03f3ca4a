"""Worlds with effects of the kinds that training may use."""

from dataclasses import replace

import numpy as np

from wm_robot.spec import RobotSpec
from wm_robot_sim.effects.effect import Effect, list_kinds
from wm_robot_sim.effects.strengths import load_strengths
from wm_robot_sim.worlds import DomainRandomization, World

PLAIN_SHARE, RANDOMIZED_SHARE, SECOND_EFFECT_CHANCE = 0.2, 0.5, 0.4
"""Share of the worlds without an effect, share of randomised worlds, and chance of a second effect."""
RELATIVE_STRENGTH = 0.25, 1.5
"""Range of strengths, in that of the benches where it was set for the robot, else in 1; log-uniform."""


def draw_effect_worlds(spec: RobotSpec, num_worlds: int, rng: np.random.Generator) -> list[World]:
    """Draw nominal and randomised worlds, most of them with one or two effects."""
    distribution = DomainRandomization(spec)
    nominal = distribution.make_nominal_world()
    kinds, strengths = list_kinds(spec, "training"), load_strengths(spec.name)
    worlds = []
    for _ in range(num_worlds):
        world = distribution.sample(rng) if rng.random() < RANDOMIZED_SHARE else nominal
        count = 0 if rng.random() < PLAIN_SHARE else 1 + (rng.random() < SECOND_EFFECT_CHANCE)
        chosen = rng.choice(kinds, size=min(count, len(kinds)), replace=False).tolist()
        effects = [
            Effect(
                kind=kind,
                seed=int(rng.integers(2**32)),
                strength=strengths.get(kind, 1.0) * float(np.exp(rng.uniform(*np.log(RELATIVE_STRENGTH)))),
            )
            for kind in chosen
        ]
        worlds.append(replace(world, effects=tuple(effects)))
    return worlds
