"""Every block of code on a page runs, and prints what stands below it."""

import glob
import json
import os
import re
import shlex
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


# Imports TensorFlow once, and runs each program in a child of its own, which nothing
# has run in before.
RUNNER = """
import json, os, sys, traceback
import tensorflow.compat.v1, batchhess.operators
for line in sys.stdin:
    program, folder = json.loads(line)
    child = os.fork()
    if not child:
        os.chdir(folder)
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), number)
        try:
            exec(compile(program, "page", "exec"), {"__name__": "__main__"})
            code = 0
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(os.waitpid(child, 0)[1], flush=True)
"""


@pytest.fixture(scope="module")
def runner():
    """Runs a program in a folder; answers its status, and what it has printed."""
    path = ROOT + os.pathsep + os.environ.get("PYTHONPATH", "")
    process = subprocess.Popen(
        [sys.executable, "-c", RUNNER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=dict(os.environ, PYTHONPATH=path),
    )

    def run(program, folder):
        process.stdin.write(json.dumps([program, str(folder)]) + "\n")
        process.stdin.flush()
        status = process.stdout.readline().strip()
        return [status] + [(folder / name).read_text() for name in ("stdout", "stderr")]

    yield run
    process.stdin.close()
    process.wait()


@pytest.mark.parametrize("page", pages())
def test_a_page_runs_and_prints_what_it_says(page, runner, tmp_path):
    """All of a page is one program, in a process of its own."""
    blocks = BLOCK.findall(read(page))
    program = "\n".join(text for language, text in blocks if language == "python")
    said = "".join(text for language, text in blocks if language == "text")
    status, printed, errors = runner(program, tmp_path)
    assert status == "0", errors[-3000:]
    if said:
        assert printed == said
    shells = "".join(text for language, text in blocks if language == "sh")
    commands = re.findall("^python (-m batchhess .+)$", shells, re.MULTILINE)
    for command in commands:
        run_in(tmp_path, shlex.split(command))


def run_in(folder, command):
    """The command line of a page, beside what the page has written."""
    path = os.path.abspath(ROOT) + os.pathsep + os.environ.get("PYTHONPATH", "")
    done = subprocess.run(
        [sys.executable] + command,
        cwd=str(folder),
        env=dict(os.environ, PYTHONPATH=path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]


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
    assert len(titles) == 9
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
