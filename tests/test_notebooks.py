"""Every notebook runs from a clean kernel, and its committed outputs are whole."""

import glob
import os

import pytest

nbclient = pytest.importorskip("nbclient", reason="needs the extra 'notebooks'")
nbformat = pytest.importorskip("nbformat", reason="needs the extra 'notebooks'")
pytest.importorskip("matplotlib", reason="needs the extra 'notebooks'")

FOLDER = os.path.join(os.path.dirname(__file__), "..", "notebooks")
NOTEBOOKS = sorted(glob.glob(os.path.join(FOLDER, "*.ipynb")))
notebooks = pytest.mark.parametrize("path", NOTEBOOKS, ids=os.path.basename)


def test_there_are_notebooks():
    assert NOTEBOOKS


@notebooks
def test_it_runs_from_a_clean_kernel(path):
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3")
    client.execute(cwd=FOLDER)


@notebooks
def test_committed_outputs_are_of_one_clean_run(path):
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error"]
    assert [o for o in outputs if "image/png" in o.get("data", {})]
