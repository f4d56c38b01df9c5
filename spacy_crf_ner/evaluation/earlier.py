"""What another evaluation has found in the same documents: its predictions.jsonl, read back."""

import math
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ..corpora.document import Document
from ..corpora.files import CorpusError, readable, text_files
from ..corpora.json_stream import json_values
from .matching import Mention, mention

Found = Dict[Mention, Optional[float]]


class EarlierPredictions:
    """Entities that were predicted before, by part and document.

    path (Path): A predictions.jsonl.
    RAISES (CorpusError): It cannot be read, or a line is none of such a file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._parts: Dict[str, List[Dict[str, Any]]] = {}
        for file in text_files(path):
            with readable(file.name):
                for line, row, _ in json_values(file.text, file.name):
                    self._add(line, row)

    def _add(self, line: int, row: Any) -> None:
        try:
            text, found = row["text"], _found(row["predicted"], len(row["text"]))
            kept = {"line": line, "id": row["id"], "text": text, "found": found}
            self._parts.setdefault(row["part"], []).append(kept)
        except (KeyError, TypeError, ValueError) as error:
            raise CorpusError(f"{self.path}:{line}: this is no line that crf-ner evaluate writes.") from error

    def of(self, part: str, documents: Sequence[Document]) -> List[Found]:
        """What was found in documents.

        part (str): The part that has them. documents (Sequence[Document]): All of its annotated ones, in order.
        RETURNS (List[Found]): Entities by characters, with their probabilities, of each document.
        RAISES (CorpusError): There is no such part, or it has other texts.
        """
        rows = self._parts.get(part)
        if rows is None:
            raise CorpusError(
                f"{self.path}: it has no part {part}, but {', '.join(self._parts) or 'nothing'}. Parts are compared by "
                "name: give them the names that they had, as in NAME=PATH."
            )
        for row, document in zip(rows, documents):
            if row["text"] != document.text:
                raise CorpusError(
                    f"{self.path}:{row['line']}: where part {part} has document {document.id} now, this has "
                    f"{row['id']}, or another text of it. Both must be evaluations of the same documents."
                )
        if len(rows) != len(documents):
            raise CorpusError(
                f"{self.path}: of part {part} it has {len(rows):,} documents, and {len(documents):,} are evaluated "
                "now. Both must be evaluations of the same documents."
            )
        return [row["found"] for row in rows]


def _found(entities: Sequence[Mapping[str, Any]], length: int) -> Found:
    """RAISES (ValueError): An entity is not inside a text of this length."""
    found: Found = {}
    for item in entities:
        pieces = [(int(a), int(b)) for a, b in item.get("fragments", [(item["start"], item["end"])])]
        if not pieces or not all(0 <= start <= end <= length for start, end in pieces):
            raise ValueError(f"{pieces} is not inside the text.")
        found[mention(item["label"], pieces)] = _probability(item["probability"])
    return found


def _probability(value: Any) -> Optional[float]:
    return None if value is None or not math.isfinite(value) else float(value)
