"""The notebook, run from top to bottom in a kernel of its own."""

import ast
import os
import re
import sys
import tomllib
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
    kept = printed(notebook)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(here)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 4
    assert outputs and any("<img" in output.get("data", {}).get("text/html", "") for output in outputs)  # the result
    assert any("video" in output.get("data", {}).get("text/html", "") for output in outputs)
    assert "same bytes" in outputs[-1]["text"]
    assert printed(notebook) == kept  # what the page shows is what a reader gets


def printed(notebook):
    """What the cells print, without bars, and with anything that differs from run to run as N."""
    texts = [
        output["text"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream" and output.name == "stdout"
    ]
    lines = "".join(texts).replace("\r", "\n").splitlines()
    return [re.sub(r"[\d.]+", "N", line) for line in lines if line.strip() and "%|" not in line and "," not in line]


def test_the_extra_of_the_notebook_has_what_its_cells_import():
    nbformat = pytest.importorskip("nbformat")
    cells = [cell.source for cell in nbformat.read(REPO / "docs/tour.ipynb", as_version=4).cells]
    code = "\n".join(
        line for text in cells for line in text.splitlines() if re.match(r"(import|from) \w[\w.]*( |$)", line)
    )
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).partition(".")[0]
        for node in ast.parse(code).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    named = " ".join([*project["optional-dependencies"]["notebook"], "ipython pillow"])  # of ipykernel, torchvision
    known = {"IPython": "ipython", "PIL": "pillow"}
    missing = {name for name in imported - {"vqclip"} - sys.stdlib_module_names if known.get(name, name) not in named}
    assert not missing and "matplotlib" in imported
