"""JSON: a record a line (JSONL), an array of records, or one object. What a record is, `records` knows.

Files are read as a stream, however large: of JSONL a line is in memory, of an array a record.
"""

import io
import itertools
import json
from pathlib import Path
from typing import Any, Iterable, Iterator, List, Mapping, Tuple

from .document import Document, Problem
from .files import CorpusError, readable, text_files
from .json_stream import NOT_KEPT, Value, json_values
from .record_writer import to_record
from .records import Naming, Record, RecordReader, around, kind_of

ENDINGS = (".jsonl", ".json", ".ndjson", ".jsonlines")


# Reading


def is_jsonl(path: Path) -> bool:
    """Whether the first record of a path's first file is one that can be read here."""
    try:
        for file in itertools.islice(text_files(path, ENDINGS if _holds_files(path) else ()), 1):
            if isinstance(file.text, io.TextIOWrapper):
                file.text.reconfigure(errors="replace")  # of which encoding it is may be said later
            for found in json_values(file.text, file.name):
                return bool(kind_of(found.value)) or around(found.value) is not None
    except (CorpusError, OSError):
        pass
    return False


def _holds_files(path: Path) -> bool:
    return path.is_dir() or path.suffix.lower() == ".zip"


def read_jsonl(path: Path, encoding: str = "utf-8", naming: Naming = Naming()) -> Iterator[Document]:  # it is frozen
    """Read files of JSON.

    path (Path): A file, a .gz, a .zip or a folder of files that end in .jsonl, .json, .ndjson, or "-".
    encoding (str): Of the files. naming (Naming): What keys are called.
    YIELDS (Document): With what else its record says in `data`.
    RAISES (CorpusError): A file is not JSON, or a record is of no kind that is known or of another than those before.
    """
    reader = RecordReader(naming)
    for file in text_files(path, ENDINGS if _holds_files(path) else (), encoding):
        with readable(file.name, encoding):
            mended: List[int] = []
            values = _records(json_values(file.text, file.name), mended)
            first = next(values, None)
            if first is None:
                continue
            line, value = first
            rows, names = around(value), []
            records: Iterable[Tuple[int, Record]]
            if rows is None:
                records = itertools.chain([first], values)
            else:
                records = ((line, row) for row in rows)
                names = tag_names(value.get("features"))
            yield from _with_problems(reader.read(records, file.name, file.stem, names), mended, file.name)


def _records(values: Iterable[Value], mended: List[int]) -> Iterator[Tuple[int, Record]]:
    """Line and record of values. mended (List[int]): Gets the lines of those that are not what the file says."""
    for value in values:
        mended += [value.line] * value.mended
        yield value.line, value.value


def tag_names(features: Any) -> List[str]:
    """Names of tags in the description of a Hugging Face data set: those of the first ClassLabel with O among them."""
    waiting = [features]
    while waiting:
        item = waiting.pop(0)
        if isinstance(item, dict):
            names = item.get("names")
            if isinstance(names, list) and "O" in names and all(isinstance(name, str) for name in names):
                return names
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
    return []


def _with_problems(documents: Iterable[Document], mended: List[int], name: str) -> Iterator[Document]:
    """Documents, told of the lines whose values could not be kept."""
    for document in documents:
        while mended:
            where = f"{name}:{mended.pop(0)}"
            document.problems.append(Problem(where, "values that cannot be kept", NOT_KEPT, False))
        yield document


# Writing


def write_jsonl(documents: Iterable[Document], path: Path) -> Iterator[Document]:
    """Write a record a line, from which `read_jsonl` makes the same Documents.

    YIELDS (Document): Each of them when it is written.
    """
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for document in documents:
            file.write(f"{dumped(to_record(document))}\n")
            yield document


def dumped(record: Mapping[str, Any]) -> str:
    """A record as a line of JSON."""
    return json.dumps(record, ensure_ascii=False, default=str)
