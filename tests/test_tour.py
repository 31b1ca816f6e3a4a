"""The notebook, run from top to bottom in a kernel of its own."""

import os
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parent.parent


def test_the_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    # As in a checkout: the notebook in docs/, the studies beside it, `vqclip` on the PATH.
    here = tmp_path / "docs"
    here.mkdir()
    (tmp_path / "experiments").symlink_to(REPO / "experiments")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(REPO))
    notebook = nbformat.read(REPO / "docs/tour.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(here)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 4
    assert outputs and any("<img" in output.get("data", {}).get("text/html", "") for output in outputs)  # the result
    assert any("video" in output.get("data", {}).get("text/html", "") for output in outputs)
    assert "same bytes" in outputs[-1]["text"]
