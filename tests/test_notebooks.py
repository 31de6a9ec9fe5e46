"""Every notebook runs from top to bottom in a fresh kernel, and shows what its readers were promised."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbclient import NotebookClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
FIRST = FOLDER / "01_versions_and_branches.ipynb"


@pytest.fixture(scope="module", autouse=True)
def _kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Offer one kernel, this interpreter's, whatever kernels and start-up files the machine has."""
    home = tmp_path_factory.mktemp("jupyter")
    spec = home / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec.write_text(json.dumps({"argv": command, "display_name": "Python 3", "language": "python"}))
    with pytest.MonkeyPatch.context() as environment:
        for name in ("JUPYTER_PATH", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
            environment.setenv(name, str(home))
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Any]:
    """Return a function that runs a notebook once, in an empty folder, and returns it with its outputs."""
    finished: dict[Path, Any] = {}

    def execute(path: Path) -> Any:
        if path not in finished:
            folder = tmp_path_factory.mktemp(path.stem)
            notebook = nbformat.read(path, as_version=4)
            client = NotebookClient(
                notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
            )
            finished[path] = client.execute()
            assert list(folder.iterdir()) == []
        return finished[path]

    return execute


def outputs(notebook: Any) -> dict[str, list[Any]]:
    return {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}


def shown(notebook: Any) -> dict[str, list[str]]:
    """Return what each cell shows, with the moments taken out."""
    return {
        cell: [
            re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "(when)", json.dumps(it, sort_keys=True)) for it in joined(found)
        ]
        for cell, found in outputs(notebook).items()
    }


def joined(found: list[Any]) -> list[Any]:
    """Return outputs with what was printed in one go as one: a busy machine delivers it in pieces."""
    whole: list[Any] = []
    for output in found:
        if whole and output.output_type == "stream" and whole[-1].get("name") == output.name:
            whole[-1] = {**whole[-1], "text": whole[-1]["text"] + output.text}
        else:
            whole.append(output)
    return whole


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_without_errors_or_warnings(run, path):
    kinds = {(output.output_type, output.get("name")) for found in outputs(run(path)).values() for output in found}
    assert kinds <= {("execute_result", None), ("display_data", None), ("stream", "stdout")}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_stored_outputs_are_what_it_shows(run, path):
    """After a wanted change: ``jupyter execute --inplace <notebook>``."""
    assert shown(nbformat.read(path, as_version=4)) == shown(run(path))


@pytest.mark.parametrize("cell", ["write", "diff", "merge"])
def test_results_have_a_table_and_a_text(run, cell):
    (output,) = outputs(run(FIRST))[cell]
    assert set(output.data) == {"text/html", "text/plain"}
    assert "<table>" in output.data["text/html"]
    assert "retry-pattern" in output.data["text/plain"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_names_no_place_on_the_authors_machine(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"/(tmp|home|root|Users|work)/|[A-Z]:\\\\", text)
