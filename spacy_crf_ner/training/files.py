"""Files that are whole or not there."""

import os
from pathlib import Path


def put(path: Path, content: bytes) -> None:
    """Write a file beside its place and rename it, so that a crash leaves the old one."""
    beside = path.with_name(f".{path.name}.new")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
