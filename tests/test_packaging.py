"""What is built from this checkout, and what an index, a checker and a reader see."""

import importlib
import os
import re
import runpy
import subprocess
import sys
import tarfile

import pytest

import batchhess

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
SETUP = os.path.join(ROOT, "setup.py")
pytestmark = pytest.mark.skipif(
    not os.path.exists(SETUP),
    reason="SKIPPED, NOT PASSED: no checkout beside the tests",
)


def read(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as file:
        return file.read()


def relative_links(text):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    links += re.findall(r'<img src="([^"]+)"', text)
    return [link for link in links if not re.match("[a-z]+:", link)]


def test_the_readme_links_to_files_that_are_there():
    links = relative_links(read("README.md"))
    assert len(links) > 10
    assert not [link for link in links if not os.path.exists(os.path.join(ROOT, link))]


def test_no_sentence_of_the_readme_is_a_link_and_nothing_more():
    """Without an address of the repository, an index shows their texts alone."""
    alone = r"(?:^|[.:;] )\[[^\]]*\]\([^)]*\)[.;,]"
    assert re.findall(alone, "So. [The proof](docs/proof.md).") != []
    assert not re.findall(alone, " ".join(read("README.md").split()))


@pytest.mark.parametrize("repository", [None, "https://example.org/batchhess"])
def test_an_index_is_given_no_link_that_leads_nowhere(repository):
    describe = runpy.run_path(SETUP, run_name="setup")["describe"]
    description = describe(read("README.md"), repository)
    assert not relative_links(description)
    assert "batchhess.hessians(f, x" in description
    assert "![" not in description  # A picture is an <img>, which has a width.
    assert ("<img " in description) == (repository is not None)


def test_the_readme_is_short_and_has_the_test_command():
    lines = read("README.md").splitlines()
    assert len(lines) <= 120
    assert [line for line in lines if line.endswith("-m pytest")]


def test_the_source_distribution_has_docs_notebooks_and_tests(tmp_path):
    pytest.importorskip("setuptools", reason="SKIPPED, NOT PASSED: no setuptools")
    command = [sys.executable, SETUP, "-q", "egg_info", "--egg-base", str(tmp_path)]
    command += ["sdist", "--formats=gztar", "--dist-dir", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(str(archive)) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    folders = ["batchhess", "benchmarks", "docs", "notebooks", "tests"]
    expected = ["CITATION.cff", "mkdocs.yml", os.path.join(".ci", "run")]
    for folder in folders:
        for where, _, files in os.walk(os.path.join(ROOT, folder)):
            kept = [f for f in files if not f.endswith((".pyc", "-checkpoint.ipynb"))]
            expected += [os.path.relpath(os.path.join(where, f), ROOT) for f in kept]
    assert len(expected) > 100
    assert not sorted(set(expected) - names)


def test_the_version_is_the_same_everywhere():
    assert "\nversion: {}\n".format(batchhess.__version__) in read("CITATION.cff")
    newest = re.search(r"^## (.+)$", read("CHANGELOG.md"), re.MULTILINE).group(1)
    assert newest.split()[0] == batchhess.__version__


def test_the_stub_names_what_is_public():
    stub = read("batchhess", "__init__.pyi")
    named = re.findall(
        r"^from batchhess\.(\w+) import (\w+) as \2$", stub, re.MULTILINE
    )
    assert sorted(name for _, name in named) == batchhess.__all__
    for module, name in named:
        home = importlib.import_module("batchhess." + module)
        assert getattr(home, name) is getattr(batchhess, name)


PROGRAM = """
from typing import Any, List
import batchhess
x: Any = 0
blocks: List[Any] = batchhess.hessians(x, [x], batch_axis=1, per_output=True)
whole = batchhess.derivatives(x, x, coordinates=[0], method="columns")
parts = [whole.values, whole.gradients, whole.hessians]
rows: List[List[Any]] = batchhess.hessian_blocks(x, [x, x])
error: float = batchhess.compute_hessian_error(x, x, {}, x)
report: str = str(batchhess.explain(x, x)[0])
"""
MISTAKES = [
    ("batchhess.hessians(x, x, methd='columns')", 'keyword argument "methd"'),
    ("batchhess.hessians(x)", 'Missing positional argument "xs"'),
    ("batchhess.laplacians(x, x, batch_axis='a')", 'Argument "batch_axis"'),
    ("batchhess.hessian(x, x)", 'has no attribute "hessian"'),
    ("batchhess.hessians(x, x)[0, 0]", "No overload variant"),
]


def test_a_type_checker_knows_the_public_functions(tmp_path):
    """One run of mypy over a program that is right, and over mistakes at its end."""
    pytest.importorskip("mypy", reason="SKIPPED, NOT PASSED: needs the extra 'tests'")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM + "\n".join(mistake for mistake, _ in MISTAKES) + "\n")
    first = PROGRAM.count("\n") + 1
    command = [sys.executable, "-m", "mypy", "--config-file"]
    command += [os.path.join(ROOT, "pyproject.toml"), "--cache-dir", str(tmp_path)]
    found = subprocess.run(
        command + [str(program)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=str(tmp_path),
        env=dict(os.environ, MYPYPATH=ROOT),
    )
    errors = re.findall(r"program\.py:(\d+): error: (.*)", found.stdout)
    expected = [str(first + n) for n in range(len(MISTAKES))]
    assert sorted({line for line, _ in errors}) == expected, found.stdout
    for number, (_, phrase) in zip(expected, MISTAKES):
        assert [m for line, m in errors if line == number and phrase in m], phrase
