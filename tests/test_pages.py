"""Every block of code on a page runs, and prints what stands below it."""

import glob
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from batchhess.compat import tf

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Its blocks are pairs, which are held against each other below.
MIGRATION = os.path.join("docs", "migration.md")


def read(page):
    with open(os.path.join(ROOT, page), encoding="utf-8") as file:
        return file.read()


def pages():
    found = glob.glob(os.path.join(ROOT, "docs", "**", "*.md"), recursive=True)
    names = sorted(os.path.relpath(path, ROOT) for path in found)
    return [
        page
        for page in ["README.md"] + names
        if "```python" in read(page) and page != MIGRATION
    ]


def test_there_are_pages():
    assert len(pages()) > 8


@pytest.mark.parametrize("page", pages())
def test_a_page_runs_and_prints_what_it_says(page, tmp_path):
    """All of a page is one program, in a process of its own."""
    blocks = BLOCK.findall(read(page))
    program = "\n".join(text for language, text in blocks if language == "python")
    said = "".join(text for language, text in blocks if language == "text")
    path = ROOT + os.pathsep + os.environ.get("PYTHONPATH", "")
    found = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=str(tmp_path),
        env=dict(os.environ, PYTHONPATH=path),
    )
    assert found.returncode == 0, found.stderr[-3000:]
    if said:
        assert found.stdout == said


def rows():
    """Pairs of the title and the blocks of each section of the migration page."""
    sections = re.split(r"^## (.+)$", read(MIGRATION), flags=re.MULTILINE)[1:]
    for title, text in zip(sections[::2], sections[1::2]):
        blocks = [
            code for language, code in BLOCK.findall(text) if language == "python"
        ]
        if blocks:
            yield pytest.param(blocks, id=title)


def test_the_migration_table_names_every_row():
    table = read(MIGRATION).split("\n## ")[0]
    titles = [row.id for row in rows()]
    assert len(titles) == 8
    assert re.findall(r"^\| \[(.+?)\]", table, re.MULTILINE) == titles


@pytest.mark.parametrize("blocks", list(rows()))
def test_before_and_after_answer_the_same(blocks):
    """The first block builds the model, the second `before`, the third `after`.

    What is written by hand shares nothing with the library, and is the oracle.
    """
    model, by_hand, ours = blocks
    assert "batchhess" not in model + by_hand
    names = {"np": np, "tf": tf}
    for block in blocks:
        exec(block, names)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        before = session.run(names["before"], names["feed"])
        after = session.run(names["after"], names["feed"])
    assert before.shape == after.shape
    assert np.abs(before).max() > 0.01
    np.testing.assert_allclose(after, before, rtol=1e-9, atol=1e-11)
