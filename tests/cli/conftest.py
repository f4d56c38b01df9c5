"""Fixtures of the tests of commands."""

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def notes(tmp_path: Path, demo_writer: Any) -> Path:
    demo_writer(tmp_path / "notes", 12, 3)
    return tmp_path / "notes"
