"""The house: imports point down, TensorFlow comes in by one door, docs are whole."""

import ast
import inspect
import os
import re

import pytest

import batchhess

PACKAGE = os.path.dirname(batchhess.__file__)

# From ground to roof. A module may import from the floors below its own.
FLOORS = [
    ["compat", "errors", "analysis"],
    ["data", "feeding", "fingerprint", "journal", "naming", "progress"],
    ["storage", "effects", "protos"],
    ["streaming", "inlining"],
    ["models"],
    ["analysis.region", "analysis.sizes", "arguments"],
    ["analysis.audit", "analysis.observation_axis", "layout"],
    ["analysis.alignment"],
    ["analysis.partition"],
    ["analysis.narrows", "passes", "problem", "rebuild"],
    ["control_flow"],
    ["corrections", "methods.bilinear", "methods.tangents"],
    ["methods.curvature"],
    [
        "methods.blocks",
        "methods.columns",
        "methods.differences",
        "methods.observations",
        "methods.symmetric",
    ],
    ["methods", "checks"],
    ["building", "explanation"],
    ["joining"],
    ["operators"],
    ["verification", "exporting"],
    ["answering"],
    ["beam"],
    ["pipeline"],
    ["", "demo"],
    ["commands"],
    ["cli"],
    ["__main__"],
]


def modules():
    for folder, _, files in os.walk(PACKAGE):
        for file in files:
            if file.endswith(".py"):
                path = os.path.join(folder, file)
                name = os.path.relpath(path, PACKAGE)[:-3].replace(os.sep, ".")
                yield re.sub(r"\.?__init__$", "", name), path


def imports(path):
    with open(path, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "{}: imports are absolute".format(path)
            for alias in node.names:
                yield "{}.{}".format(node.module, alias.name)


def floor_of(name):
    """The floor of the module that `name`, with or without an attribute, is of."""
    name = name[len("batchhess") :].lstrip(".")
    for candidate in (name, name.rpartition(".")[0]):
        for number, floor in enumerate(FLOORS):
            if candidate in floor:
                return number
    return None


def test_every_module_has_a_floor():
    placed = [name for floor in FLOORS for name in floor]
    assert sorted(name for name, _ in modules()) == sorted(placed)


@pytest.mark.parametrize("name, path", sorted(modules()))
def test_imports_point_down(name, path):
    for imported in imports(path):
        if imported.startswith("batchhess"):
            below = floor_of(imported)
            assert below < floor_of("batchhess." + name), imported


@pytest.mark.parametrize("name, path", sorted(modules()))
def test_tensorflow_comes_in_through_compat(name, path):
    if name != "compat":
        assert not [i for i in imports(path) if i.split(".")[0] == "tensorflow"]


@pytest.mark.parametrize("name", sorted(batchhess.__all__))
def test_public_docstrings_tell_every_argument_and_raise(name):
    member = getattr(batchhess, name)
    if not inspect.isfunction(member):
        assert member.__doc__
        return
    sections = re.split(r"\n\n(Args|Returns|Raises):\n", inspect.getdoc(member))
    told = dict(zip(sections[1::2], sections[2::2]))
    assert set(told) == {"Args", "Returns", "Raises"}
    arguments = re.findall(r"^  (\w+):", told["Args"], re.MULTILINE)
    assert arguments == list(inspect.signature(member).parameters)


def test_all_names_what_is_public():
    assert batchhess.__all__ == sorted(batchhess.__all__)
    for name in batchhess.__all__:
        assert hasattr(batchhess, name)
