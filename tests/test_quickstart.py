"""The notebook docs/quickstart.ipynb: committed without outputs, and executed from the first cell to the last."""

import base64
import json
import os

import cv2
import numpy as np
import pytest

from tests.conftest import REPOSITORY, TINY

NOTEBOOK = REPOSITORY / "docs" / "quickstart.ipynb"


def test_the_notebook_has_ten_cells_and_no_outputs():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert len(cells) == 10
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@pytest.mark.notebook
def test_the_notebook_runs(scene_dir, tmp_path, monkeypatch):
    """With flags of seconds in place of the demo's, in a folder of its own instead of the checkout."""
    nbformat, nbclient = (
        pytest.importorskip(name, reason=f"{name} is not installed") for name in ("nbformat", "nbclient")
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
    (tmp_path / "docs").mkdir()
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    flags = [*TINY.split(), "--data_dir", str(scene_dir), "--num_iters", "2", "--frame_range", "2:6"]
    parameters.source = f"FLAGS = {flags}"
    (tmp_path / "train.py").symlink_to(REPOSITORY / "train.py")
    (at,) = [n for n, cell in enumerate(notebook.cells) if "os.chdir" in cell.source]
    notebook.cells.insert(at, nbformat.v4.new_code_cell(notebook.cells[at].source))  # executed twice
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path / "docs")}})
    client.execute()
    (run,) = (tmp_path / "out").iterdir()
    assert {path.name for path in (run / "export").iterdir()} == {"tracks.npz", "tracks.csv"}
    with np.load(run / "export" / "tracks.npz") as file:
        assert file["frame_numbers"].tolist() == [2, 3, 4, 5]
    (picture,) = [picture for cell in notebook.cells for picture in pictures(cell)]
    assert picture.std() > 10  # not blank


def pictures(cell) -> list[np.ndarray]:
    data = [output.get("data", {}).get("image/png") for output in cell.get("outputs", [])]
    return [np.asarray(cv2.imdecode(np.frombuffer(base64.b64decode(png), np.uint8), 1)) for png in data if png]
