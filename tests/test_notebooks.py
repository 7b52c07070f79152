"""Every notebook runs from a clean kernel, and prints what it was committed with."""

import glob
import os
import re

import pytest

nbclient = pytest.importorskip("nbclient", reason="needs the extra 'notebooks'")
nbformat = pytest.importorskip("nbformat", reason="needs the extra 'notebooks'")
pytest.importorskip("matplotlib", reason="needs the extra 'notebooks'")

FOLDER = os.path.join(os.path.dirname(__file__), "..", "notebooks")
NOTEBOOKS = sorted(glob.glob(os.path.join(FOLDER, "*.ipynb")))
notebooks = pytest.mark.parametrize("path", NOTEBOOKS, ids=os.path.basename)


def test_there_are_notebooks():
    assert NOTEBOOKS


NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?|_\d+")


def printed(cell):
    """What a cell has printed, but for its numbers and how they are lined up."""
    texts = [
        output.get("text", output.get("data", {}).get("text/plain", ""))
        for output in cell.outputs
        if output.get("name") != "stderr"
    ]
    words = NUMBER.sub("#", "\n".join(texts))
    return re.sub(r"\[ ", "[", re.sub(r"[\s-]+", " ", words)).strip()


def test_numbers_and_their_places_are_not_compared_and_words_are():
    def cell(text):
        output = nbformat.v4.new_output("stream", text=text)
        return nbformat.v4.new_code_cell(outputs=[output])

    one, other = "[[ 0.  -1.5e-07]]\n---- add_3:0", "[[1. 2.25]] - add_14:0"
    assert printed(cell(one)) == printed(cell(other)) == "[[# #]] add#:#"
    assert printed(cell("3 are right")) != printed(cell("3 are wrong"))


@notebooks
def test_it_runs_from_a_clean_kernel_and_prints_the_same(path):
    notebook = nbformat.read(path, as_version=4)
    committed = [printed(c) for c in notebook.cells if c.cell_type == "code"]
    client = nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3")
    client.execute(cwd=FOLDER)
    found = [printed(c) for c in notebook.cells if c.cell_type == "code"]
    assert found == committed


@notebooks
def test_committed_outputs_are_of_one_clean_run(path):
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error"]
    assert [o for o in outputs if "image/png" in o.get("data", {})]
