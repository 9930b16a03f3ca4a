"""Nothing that is read can run. No source of this repository is excepted, not even this one."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = (
    "benchmarks",
    "cli",
    "docs",
    "examples",
    "hardware",
    "launch",
    "ros_ws/src",
    "sim",
    "tests",
    "wm_robot",
)
MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "jsonpickle"}
CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "torch.load",
    "torch.save",
    "torch.jit.load",
    "torch.hub.load",
    "torch.package.PackageImporter",
    "numpy.lib.format.read_array",
    "pandas.read_pickle",
    "yaml.load",
    "yaml.load_all",
    "yaml.full_load",
    "yaml.full_load_all",
    "yaml.unsafe_load",
    "yaml.unsafe_load_all",
    "os.system",
    "os.popen",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "runpy.run_path",
}
KEYWORDS = {"allow_pickle", "shell"}
"""Arguments that must not be there, unless they are False."""


def sources() -> list[Path]:
    below = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    # What make ros builds beside the sources is others' code.
    return sorted([*below, *(ROOT / "ros_ws").glob("*.py")])


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def known_as(tree: ast.Module) -> dict[str, str]:
    """What each imported name stands for, in full."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {each.asname: each.name for each in node.names if each.asname}
        elif isinstance(node, ast.ImportFrom):
            names |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
    return names


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (node.module, *(f"{node.module}.{each.name}" for each in node.names))


def found(source: str) -> list[str]:
    """All that could run data, or reads it so."""
    tree = ast.parse(source)
    names = known_as(tree)
    hits = [name for name in imports(tree) if name.partition(".")[0] in MODULES or name in CALLS]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            first, dot, rest = ast.unparse(node.func).partition(".")
            called = names.get(first, first) + dot + rest
            hits += [called] if called in CALLS else []
            hits += [
                f"{each.arg}={ast.unparse(each.value)}"
                for each in node.keywords
                if each.arg in KEYWORDS
                and not (isinstance(each.value, ast.Constant) and each.value.value is False)
            ]
    return hits


@pytest.mark.parametrize("path", sources(), ids=shown)
def test_no_source_reads_data_that_could_run(path):
    assert not found(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import marshal as m",
        "import shelve",
        "def f():\n    import cloudpickle",
        "import torch\ntorch.load(x)",
        "import torch as t\nt.load(x, weights_only=True)",
        "from torch import load",
        "import numpy as np\nnp.load(x, allow_pickle=True)",
        "f(x, allow_pickle=anything)",
        "import yaml\nyaml.load(x, Loader=L)",
        "from yaml import unsafe_load as safe",
        "ev" + "al(x)",
        "ex" + "ec(x)",
        "import subprocess\nsubprocess.run(x, shell=True)",
        "import os\nos.system(x)",
    ],
)
def test_each_way_would_be_seen(source):
    assert found(source)


@pytest.mark.parametrize(
    "source",
    [
        "import re\nre.compile(x)",
        "model.eval()",
        "import numpy as np\nnp.load(x, allow_pickle=False)",
        "import yaml\nyaml.safe_load(x)",
        "from safetensors.numpy import load\nload(x)",
    ],
)
def test_what_cannot_run_data_is_free(source):
    assert not found(source)
