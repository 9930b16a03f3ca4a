"""Scenarios of a battery: worlds, inputs and variants of each check, drawn by seed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from wm_robot.errors import SpecError
from wm_robot.evaluation.validation.battery import Check
from wm_robot.evaluation.validation.scenario import InputFault, Motion, Scenario, WorldChange
from wm_robot.spec import JOINTS, RobotSpec
from wm_robot_sim.effects.effect import EFFECT_KINDS, Effect, list_kinds
from wm_robot_sim.effects.strengths import load_strengths
from wm_robot_sim.world_ranges import LOG_UNIFORM_RANGES
from wm_robot_sim.worlds import DomainRandomization, World

NamedWorld = tuple[str, World]
UNKNOWN_STRENGTH = 1.0
"""Strength of an effect on a robot for which none was measured."""
RANDOM_KINDS = ("noise", "spikes", "jitter", "loss")
VARIANTS: Mapping[str, tuple[Literal["given", "initial"], bool]] = {
    "learning": ("given", True),
    "frozen as given": ("given", False),
    "frozen initial": ("initial", False),
}
"""Variants of `learning`: state at the start, and whether it is updated."""


class ScenarioSource:
    """Source of the scenarios of a robot."""

    def __init__(self, spec: RobotSpec, task: str, *, seed: int, standin: str = ""):
        self.spec, self.task, self.seed, self.standin = spec, task, seed, standin
        self._dynamics = DomainRandomization(spec)
        self._nominal = self._dynamics.make_nominal_world()

    def draw(self, check: Check, settings: Mapping[str, Any]) -> list[Scenario]:
        """Draw the scenarios of a check."""
        if check.measure == "learning":
            return [
                replace(each, name=f"{variant} {each.name}", start=start, learning=learning)
                for variant, (start, learning) in VARIANTS.items()
                for each in self._draw_episodes(check, settings)
            ]
        return list(self._draw_episodes(check, settings))

    def _draw_episodes(self, check: Check, settings: Mapping[str, Any]) -> Iterator[Scenario]:
        steps = round(settings["seconds"] * self.spec.rate)
        motion: Motion = "random" if check.measure == "prediction" else "task"
        rng = np.random.default_rng([self.seed, *check.name.encode()])
        for number, (name, changes, inputs) in enumerate(self._list_episodes(settings, steps, rng)):
            yield Scenario(
                check=check.name,
                name=name,
                robot=self.spec.name,
                task=self.task,
                seed=int(np.random.default_rng([self.seed, number, *check.name.encode()]).integers(2**31)),
                num_steps=steps,
                changes=changes,
                motion=motion,
                input_faults=inputs,
                standin=self.standin,
            )

    def _list_episodes(
        self, settings: Mapping[str, Any], steps: int, rng: np.random.Generator
    ) -> Iterator[tuple[str, tuple[WorldChange, ...], tuple[InputFault, ...]]]:
        kind, inputs = settings["worlds"], settings.get("inputs")
        if inputs is not None:
            for name, fault in self._list_inputs(settings, rng):
                # The second begins with the fault.
                visited = [("nominal", self._nominal), (name, self._nominal)]
                yield name, self._schedule(visited, settings, steps), (fault,)
            return
        if "every" in settings:
            count = round(settings["seconds"] / settings["every"])
            for number in range(settings.get("episodes", 1)):
                visited = [("nominal", self._nominal), *self._draw_declared(count - 1, rng)]
                yield f"{number}", self._schedule(visited, settings, steps), ()
            return
        for name, world in self._list_worlds(kind, settings, rng):
            is_plain = kind == "nominal" or "change" not in settings
            visited = [(name, world)] if is_plain else [("nominal", self._nominal), (name, world)]
            if "return" in settings:
                visited.append(("nominal", self._nominal))
            yield name, self._schedule(visited, settings, steps), ()

    def _schedule(
        self, worlds: Sequence[NamedWorld], settings: Mapping[str, Any], steps: int
    ) -> tuple[WorldChange, ...]:
        """Schedule worlds: at the start, at `change`, at `return`; or each for `every` seconds."""
        if "every" in settings:
            times = [settings["every"] * number for number in range(len(worlds))]
        else:
            times = [0.0, settings.get("change", 0.0), settings.get("return", 0.0)][: len(worlds)]
        return tuple(
            WorldChange(step=round(time * self.spec.rate), world=world.to_dict(), label=label)
            for time, (label, world) in zip(times, worlds, strict=True)
            if time * self.spec.rate < steps
        )

    def _list_worlds(
        self, kind: str, settings: Mapping[str, Any], rng: np.random.Generator
    ) -> list[NamedWorld]:
        count = settings.get("episodes", 1)
        if kind == "nominal":
            return [(f"{number}", self._nominal) for number in range(count)]
        if kind in ("declared", "returning"):
            return self._draw_declared(count, rng)
        if kind == "corners":
            return list(self._list_corners(0.0))
        if kind == "outside":
            return list(self._list_corners(settings["beyond"]))
        if kind == "effects":
            return list(self._list_effects(settings, rng))
        if kind == "faults":
            return list(self._list_faults(settings, rng))
        raise SpecError(
            f"worlds of a check are '{kind}'; they must be nominal, declared, returning, corners, "
            "outside, effects or faults"
        )

    def _draw_declared(self, count: int, rng: np.random.Generator) -> list[NamedWorld]:
        return [(f"{number}", self._dynamics.sample(rng)) for number in range(count)]

    def _list_corners(self, beyond: float) -> Iterator[NamedWorld]:
        """List worlds at the ends of each declared range; with `beyond`, that share of the range outside it."""
        ranges, nominal = self._dynamics.ranges, self._nominal
        for name in LOG_UNIFORM_RANGES:
            low, high = np.log(getattr(ranges, name))
            if low == high:
                continue
            for end, value in (("low", low - beyond * (high - low)), ("high", high + beyond * (high - low))):
                factor = float(np.exp(value))
                yield f"{name} {end}", replace(nominal, **{name: factor * getattr(nominal, name)})
        if ranges.payload[1] and self._has_payload():
            yield "payload high", replace(nominal, payload=ranges.payload[1] * (1 + beyond))
        if ranges.delay[1] and not beyond:
            yield "delay high", replace(nominal, delay=ranges.delay[1])
        if ranges.tilt:
            tilt = ranges.tilt * (1 + beyond)
            yield "tilt x", replace(nominal, tilt=np.array([tilt, 0.0]))
            yield "tilt y", replace(nominal, tilt=np.array([0.0, -tilt]))
        for each in self._dynamics.randomized.parameters:
            for end, value in (("low", each.low), ("high", each.high)):
                # Only within: a range may end where its quantity does.
                if not beyond:
                    yield (
                        f"{each.name} {end}",
                        replace(nominal, parameters={**nominal.parameters, each.name: value}),
                    )

    def _has_payload(self) -> bool:
        return bool(self._dynamics.ranges.payload_body)

    def _list_effects(self, settings: Mapping[str, Any], rng: np.random.Generator) -> Iterator[NamedWorld]:
        strengths = load_strengths(self.spec.name)
        kinds = [*list_kinds(self.spec, "training"), *list_kinds(self.spec, "test")]
        wanted = settings.get("kinds", kinds)
        for kind in kinds:
            if kind not in wanted:
                continue
            for number in range(settings.get("repeats", 1)):
                low, high = EFFECT_KINDS[kind].strengths
                strength = min(max(strengths.get(kind, UNKNOWN_STRENGTH), low), high)
                effect = Effect(kind=kind, seed=int(rng.integers(2**32)), strength=strength)
                yield f"{kind} {number}", replace(self._nominal, effects=(effect,))

    def _list_faults(self, settings: Mapping[str, Any], rng: np.random.Generator) -> Iterator[NamedWorld]:
        """List one world for each kind of fault and each motor, with a drawn size; dead motors are left out."""
        listed = []
        for kind, fault in self._dynamics.ranges.faults.items():
            if kind == "dead":
                # What a robot without a motor can still do is no matter of learning.
                continue
            for motor, name in enumerate(self.spec.action_names):
                for number in range(settings.get("repeats", 1)):
                    size = float(rng.uniform(*fault["range"]))
                    world = self._dynamics.make_changed_world(faults=[(motor, kind, size)])
                    listed.append((f"{kind} {name} {number}", world))
        most = settings.get("most", len(listed))
        chosen = sorted(rng.choice(len(listed), min(most, len(listed)), replace=False)) if listed else []
        yield from (listed[number] for number in chosen)

    def _list_inputs(
        self, settings: Mapping[str, Any], rng: np.random.Generator
    ) -> Iterator[tuple[str, InputFault]]:
        """List faults of the input: of one joint's readings, or of all where the kind acts on messages."""
        layout = self.spec.layout
        groups = [channels for group, channels in layout.slices if group.sensor == JOINTS]
        start = round(settings.get("change", 0.0) * self.spec.rate)
        for kind, size in settings["inputs"]:
            for number in range(settings.get("repeats", 1)):
                joint = int(rng.integers(len(self.spec.joints)))
                channels = tuple(group.start + joint for group in groups)
                if kind in ("latency", "jitter", "loss", "noise"):
                    channels = ()
                label = self.spec.joint_names[joint] if channels else "all"
                yield (
                    f"{kind} {size:g} {label} {number}",
                    InputFault(kind=kind, size=float(size), channels=channels, first_step=start),
                )
