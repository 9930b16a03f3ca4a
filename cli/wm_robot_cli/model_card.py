"""The card of a life that is shipped: Markdown, with the front matter that Hugging Face reads."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from wm_robot.spec import RobotSpec
from wm_robot.store.snapshot import Snapshot

TAGS = ["robotics", "world-model", "continual-learning", "wm_robot"]


def model_card(
    product: str,
    *,
    base: Mapping[str, Any],
    snapshot: Snapshot,
    spec: RobotSpec,
    evaluation: Sequence[Mapping[str, Any]],
) -> str:
    """A card of what is known: where the life comes from, and what it was measured on and when.

    Args:
        base: What the base's card says.
    """
    memory = base["config"].get("memory", "unknown")
    made = base["card"].get("command", "unknown") if isinstance(base.get("card"), Mapping) else "unknown"
    lines = [
        "---",
        yaml.safe_dump(_front_matter(product, spec, evaluation), sort_keys=False).rstrip(),
        "---",
        "",
        f"# {product}",
        "",
        f"A life of robot `{spec.name}`: a base that can learn, and the state of one life that did. It goes on "
        "learning where it is brought to.",
        "",
        *_table(
            {
                "base": f"`{base['digest']}`, family `{memory}`",
                "base made by": f"`{made}`",
                "state": f"`{snapshot.digest}`, {snapshot.size} bytes",
                "lived": f"{snapshot.steps} steps at {spec.rate:g} Hz",
                "saved": f"{snapshot.created} {snapshot.note}".rstrip(),
                "robot": f"`{spec.name}`, {len(spec.joints)} joints, spec `{spec.digest()}`",
                "wm_robot": snapshot.code,
            }
        ),
        "",
        "## Evaluation",
        "",
        *_measured(evaluation),
        "",
        "## Use",
        "",
        "The state is valid with this base and this robot alone. `wm-robot state import` puts both in place and "
        "checks that they belong together; `wm-robot export BASE` makes the graphs that a robot runs.",
        "",
        "A learned model may be wrong, and nothing here is certified: it is no safety system.",
        "",
    ]
    return "\n".join(lines)


def _front_matter(product: str, spec: RobotSpec, evaluation: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    front: dict[str, Any] = {"library_name": "wm_robot", "pipeline_tag": "robotics", "tags": TAGS}
    results = [
        {
            "task": {"type": "robotics"},
            "dataset": {
                "name": f"wm-robot bench {each['bench']} · {each.get('robot', spec.name)}",
                "type": "simulation",
            },
            # A figure that a bench refused has no value: the table below says null.
            "metrics": [
                {"type": name, "value": value} for name, value in each["figures"].items() if value is not None
            ],
        }
        for each in evaluation
    ]
    if results:
        front["model-index"] = [{"name": product, "results": results}]
    return front


def _table(rows: Mapping[str, str]) -> Iterator[str]:
    yield "| | |"
    yield "|---|---|"
    yield from (f"| {name} | {value} |" for name, value in rows.items())


def _measured(evaluation: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not evaluation:
        yield "None came with it."
        return
    yield "| bench | when | commit | figures |"
    yield "|---|---|---|---|"
    for each in evaluation:
        figures = ", ".join(f"{name} {json.dumps(value)}" for name, value in each["figures"].items())
        yield f"| {each['bench']} | {each['when']} | {each['commit']} | {figures} |"
