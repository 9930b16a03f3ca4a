"""Model card of a shipped lifetime state: Markdown, with the front matter of Hugging Face."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from wm_robot.spec import RobotSpec
from wm_robot.store.snapshot import Snapshot

CARD_TAGS = ["robotics", "world-model", "continual-learning", "wm_robot"]


def write_model_card(
    product: str,
    *,
    base: Mapping[str, Any],
    snapshot: Snapshot,
    spec: RobotSpec,
    evaluation: Sequence[Mapping[str, Any]],
) -> str:
    """Write a card: origin of the lifetime state, and its measurements with their dates.

    Args:
        base: Content of the base's card.
    """
    memory = base["config"].get("memory", "unknown")
    card: Mapping[str, Any] = base["card"] if isinstance(base.get("card"), Mapping) else {}
    lines = [
        "---",
        yaml.safe_dump(_make_front_matter(product, spec, evaluation), sort_keys=False).rstrip(),
        "---",
        "",
        f"# {product}",
        "",
        f"A lifetime of robot `{spec.name}`: a base that can learn, and one lifetime state that did. It continues to "
        "learn after its import.",
        "",
        *_write_table(
            {
                "base": f"`{base['digest']}`, family `{memory}`",
                "base made by": f"`{card.get('command', 'unknown')}`",
                "state": f"`{snapshot.digest}`, {snapshot.size} bytes",
                "lived": f"{snapshot.steps} steps at {spec.rate:g} Hz",
                "saved": f"{snapshot.created} {snapshot.note}".rstrip(),
                "robot": f"`{spec.name}`, {len(spec.joints)} joints, spec `{spec.compute_digest()}`",
                "wm_robot": snapshot.code,
            }
        ),
        "",
        *_write_worlds(card.get("trained_on")),
        "## Evaluation",
        "",
        *_write_evaluation(evaluation),
        "",
        "## Use",
        "",
        "The state is valid with this base and this robot only. `wm-robot state import` imports both and "
        "checks that they match; `wm-robot export BASE` writes the ONNX models for a robot.",
        "",
        "A learned model may be wrong, and no part is certified: it is not a safety system.",
        "",
    ]
    return "\n".join(lines)


def _make_front_matter(
    product: str, spec: RobotSpec, evaluation: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    front: dict[str, Any] = {"library_name": "wm_robot", "pipeline_tag": "robotics", "tags": CARD_TAGS}
    results = [
        {
            "task": {"type": "robotics"},
            "dataset": {
                "name": f"wm-robot bench {each['bench']} · {each.get('robot', spec.name)}",
                "type": "simulation",
            },
            # A figure that a bench rejected has no value: the table below contains null.
            "metrics": [
                {"type": name, "value": value} for name, value in each["figures"].items() if value is not None
            ],
        }
        for each in evaluation
    ]
    if results:
        front["model-index"] = [{"name": product, "results": results}]
    return front


def _write_table(rows: Mapping[str, str]) -> Iterator[str]:
    yield "| | |"
    yield "|---|---|"
    yield from (f"| {name} | {value} |" for name, value in rows.items())


def _write_worlds(sentences: Any) -> Iterator[str]:
    """Write from which worlds the base learned; nothing where its card does not say it."""
    if isinstance(sentences, list) and sentences:
        yield from ("## Trained on", "", *(f"- {sentence}" for sentence in sentences), "")


def _write_evaluation(evaluation: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not evaluation:
        yield "No evaluation is included."
        return
    yield "| bench | when | commit | figures |"
    yield "|---|---|---|---|"
    for each in evaluation:
        figures = ", ".join(f"{name} {json.dumps(value)}" for name, value in each["figures"].items())
        yield f"| {each['bench']} | {each['when']} | {each['commit']} | {figures} |"
