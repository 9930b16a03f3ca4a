"""Verb `wm-robot completion`: shell completion of verbs, options, branches and pins."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import tyro

BASH_SCRIPT = """\
_wm_robot() {
    local line="${COMP_LINE:0:COMP_POINT}" word prefix=""
    word="${line##* }"
    # Bash splits words at '@'; the part before it must not be returned.
    case "$word" in *@*) prefix="${word%@*}@";; esac
    mapfile -t COMPREPLY < <(wm-robot completion --line "$line" 2>/dev/null)
    COMPREPLY=("${COMPREPLY[@]#"$prefix"}")
}
complete -o default -F _wm_robot wm-robot
"""
ZSH_SCRIPT = """\
autoload -U +X bashcompinit && bashcompinit
""" + BASH_SCRIPT.replace("mapfile -t COMPREPLY < <(", "COMPREPLY=($(").replace(
    "2>/dev/null)", "2>/dev/null))"
)
SCRIPTS = {"bash": BASH_SCRIPT, "zsh": ZSH_SCRIPT}

VerbTable = Mapping[str, Callable[..., Any]]


def make_completion_verb(verbs: VerbTable, groups: Mapping[str, VerbTable]) -> Callable[..., None]:
    """Create the verb `completion` of a program with these verbs, and with groups of verbs."""

    def completion(
        shell: Annotated[Literal["bash", "zsh"], tyro.conf.Positional] = "bash", /, *, line: str | None = None
    ) -> None:
        """Print the completion script of a shell: `source <(wm-robot completion bash)`.

        Args:
            shell: Name of the shell.
            line: Print the candidates for the end of this line instead; the script uses it.
        """
        if line is None:
            print(SCRIPTS[shell])
        else:
            print("\n".join(find_candidates(line.split(" ")[1:], verbs, groups)))

    return completion


def find_candidates(words: Sequence[str], verbs: VerbTable, groups: Mapping[str, VerbTable]) -> list[str]:
    """Return the candidates for the last of these words; none for a file name.

    Args:
        words: Words after the program's name; the last may be empty.
        groups: Verbs that have verbs of their own.
    """
    *before, word = [each for each in words[:-1] if each] + list(words[-1:] or [""])
    if before and before[0] in groups:
        verbs, before = groups[before[0]], before[1:]
    if "@" in word:
        return [name for name in _list_references(word) if name.startswith(word)]
    if not before:
        return [name for name in verbs if name.startswith(word)]
    if word.startswith("-") and before[0] in verbs:
        return [name for name in _list_options(verbs[before[0]]) if name.startswith(word)]
    return []


def _list_references(word: str) -> list[str]:
    from wm_robot.errors import WmRobotError
    from wm_robot.store.store import Store

    folder = word.rpartition("@")[0]
    store = Store(Path(folder).expanduser())
    try:
        return [f"{folder}@{name}" for name in (*store.read_branches(), *store.read_pins())]
    except (WmRobotError, OSError):
        # An error message would disturb the command line.
        return []


def _list_options(verb: Callable[..., Any]) -> list[str]:
    named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    hints = get_type_hints(verb, include_extras=True)
    options = []
    for parameter in inspect.signature(verb).parameters.values():
        if parameter.kind in named:
            # Some options have another name on the command line than in the code.
            told = (
                getattr(each, "name", None) for each in getattr(hints[parameter.name], "__metadata__", ())
            )
            options.append("--" + next(filter(None, told), parameter.name.replace("_", "-")))
    return [*options, "--help"]
