"""Every command that a message, a docstring or a page gives has a verb and options that there are."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from wm_robot_cli.completion import _list_options
from wm_robot_cli.main import GROUPS, VERBS

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for folder in ("wm_robot", "cli", "sim", "ros_ws/src", "benchmarks", "examples")
    for path in (ROOT / folder).rglob("*.py")
)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND = re.compile(r"wm-robot((?: [a-z]+(?:-[a-z]+)*)+)((?:(?!\. |`|\||;|\$\().)*)")
"""The words of a command, and what follows them in its line."""
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")


def texts(path: Path) -> Iterator[str]:
    """Strings of a module, a `…` in place of what is put into them; code of a page."""
    if path.suffix == ".md":
        yield from re.findall(
            r"^\s*wm-robot.*|`wm-robot[^`]*", path.read_text(encoding="utf-8"), flags=re.MULTILINE
        )
        return
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    parts = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in nodes:
        if id(node) in parts:
            continue
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def commands() -> list[tuple[Path, str, str]]:
    return [
        (path, *match)
        for path in (*SOURCES, *PAGES)
        for text in texts(path)
        for match in COMMAND.findall(text)
    ]


def wrong(words: str, rest: str) -> str:
    """What is wrong with a command; empty if nothing is."""
    verb, *more = words.split()
    if verb not in VERBS:
        return f"there is no verb '{verb}'"
    known = GROUPS[verb][0] if verb in GROUPS else {}
    if known and more and more[0] not in known:
        return f"'{verb}' has no '{more[0]}'"
    if known and not more:
        return ""
    options = _list_options(known[more[0]] if known else VERBS[verb])
    # A truth may be denied, and a traceback be asked for everywhere.
    allowed = {*options, *(f"--no-{option[2:]}" for option in options), "--debug"}
    unknown = [option for option in OPTION.findall(rest) if option not in allowed]
    return f"'{words.strip()}' has no {unknown}" if unknown else ""


def test_commands_that_are_given_can_be_given():
    found = commands()
    assert len(found) > 100
    told = [
        f"{path.relative_to(ROOT)}: wm-robot{words}{rest}: {why}"
        for path, words, rest in found
        if (why := wrong(words, rest))
    ]
    assert not told, "\n".join(told)


def lacking(words: str, rest: str) -> int:
    """How many arguments a command would still need to be run."""
    verb, *more = words.split()
    if "--help" in rest or (verb in GROUPS and not more):
        return 0
    known = GROUPS[verb][0][more[0]] if verb in GROUPS else VERBS[verb]
    given = [*more[verb in GROUPS :], *(word for word in rest.split() if not word.startswith("-"))]
    needed = [
        each
        for each in inspect.signature(known).parameters.values()
        if each.kind is each.POSITIONAL_ONLY and each.default is each.empty
    ]
    return max(0, len(needed) - len(given))


def test_a_command_that_a_message_tells_to_run_lacks_nothing():
    told = [
        f"{path.relative_to(ROOT)}: wm-robot{words}{rest}"
        for path in SOURCES
        for text in texts(path)
        for words, rest in re.findall(f": {COMMAND.pattern}", text)
        if not wrong(words, rest) and lacking(words, rest)
    ]
    assert not told, "\n".join(told)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ((" trian", ""), "there is no verb 'trian'"),
        ((" state lss", " X"), "'state' has no 'lss'"),
        ((" train", " arm --udpates 3"), "'train' has no ['--udpates']"),
        ((" train", " arm --updates 3 --no-curriculum --debug"), ""),
        ((" bench", " …"), ""),
    ],
)
def test_what_is_wrong_with_a_command_is_seen(command, why):
    assert wrong(*command) == why
