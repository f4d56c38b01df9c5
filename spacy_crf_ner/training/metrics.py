"""What a training says of itself: metrics.jsonl, which depends on nothing but its inputs, and timings.jsonl."""

import json
import os
from pathlib import Path
from typing import Any, Dict, List, Optional

from spacy.util import logger

METRICS, TIMINGS = "metrics.jsonl", "timings.jsonl"


def of_optimizer(optimizer: Any) -> Dict[str, Any]:
    """What an optimizer says of the step it has just taken.

    RETURNS (Dict[str, Any]): `learn_rate`, and of ours `learn_rates` by group, where it has groups with parameters, all
        of the next step; `gradient_norm`; and `spike`, what was done about it, where it was a spike or not finite.
    """
    found = {"learn_rate": optimizer.learn_rate}
    if getattr(optimizer, "learn_rates", None):
        found["learn_rates"] = optimizer.learn_rates
    if hasattr(optimizer, "gradient_norm"):
        found["gradient_norm"] = optimizer.gradient_norm
    if getattr(optimizer, "spike", None):
        found["spike"] = optimizer.spike
    return found


class LineFile:
    """A file to which lines of JSON are added, and which can be cut back to where it was at a checkpoint.

    path (Optional[Path]): None: nothing is written.
    """

    def __init__(self, path: Optional[Path]) -> None:
        self.path = path

    def begin(self, size: int = 0) -> None:
        """Start with the first `size` bytes of what is there."""
        if self.path is None:
            return
        there = self.path.stat().st_size if self.path.exists() else 0
        if there < size:
            logger.warning(
                "%s: lines that were there at the checkpoint are gone; it goes on from what is left.", self.path
            )
        with self.path.open("ab") as file:
            file.truncate(min(size, there))

    def add(self, line: Dict[str, Any]) -> None:
        if self.path is None:
            return
        with self.path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(line, default=float) + "\n")

    def size(self) -> int:
        """Bytes, all of them on the disk."""
        if self.path is None:
            return 0
        with self.path.open("ab") as file:
            os.fsync(file.fileno())
            return file.tell()

    def read(self) -> List[Dict[str, Any]]:
        if self.path is None:
            return []
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]
