"""JSON: a record a line (JSONL), an array of records, or one object. What a record is, `records` knows.

Files are read as a stream, however large: of JSONL a line is in memory, of an array a record.
"""

import io
import itertools
import json
import re
from pathlib import Path
from typing import Any, Iterable, Iterator, List, Mapping, Tuple

from .document import Document
from .files import CorpusError, TextFile, readable, text_files
from .record_writer import to_record
from .records import Naming, Record, RecordReader, around, kind_of

ENDINGS = (".jsonl", ".json", ".ndjson", ".jsonlines")
CHUNK = 1 << 16
# A syntax error so close to the end of what was read may come from what was not read yet.
CUT = 16
LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")


# Reading


def is_jsonl(path: Path) -> bool:
    """Whether the first record of a path's first file is one that can be read here."""
    try:
        for file in itertools.islice(text_files(path, ENDINGS if _holds_files(path) else ()), 1):
            if isinstance(file.text, io.TextIOWrapper):
                file.text.reconfigure(errors="replace")  # of which encoding it is may be said later
            for _, value in json_values(file):
                return bool(kind_of(value)) or around(value) is not None
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
            values = json_values(file)
            first = next(values, None)
            if first is None:
                continue
            line, value = first
            rows = around(value)
            if rows is None:
                yield from reader.read(itertools.chain([first], values), file.name, file.stem)
            else:
                names = tag_names(value.get("features"))
                yield from reader.read(((line, row) for row in rows), file.name, file.stem, names)


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


def json_values(file: TextFile) -> Iterator[Tuple[int, Record]]:
    """The records of a file, and in which line each begins.

    An array of objects or arrays is taken apart; any other value is a record, as in JSONL.
    RAISES (CorpusError): The file is not JSON.
    """
    begin = file.text.read(CHUNK)
    # the line that is cut, and where it is cut between them the second half of a line end
    begin += file.text.read(1) if begin.endswith("\r") else ""
    source = _Source(file, begin)
    if source.begins() not in ("[", "{", ""):
        raise CorpusError(f"{file.name}:1: it is not JSON: records begin with {{ or [.")
    if source.opens_array():
        yield from source.elements()
        return
    begin = source.to_line_end()
    whole = False
    for number, line in enumerate(itertools.chain(io.StringIO(begin, newline=""), file.text), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            if not whole:
                # not a line each: one after another
                yield from source.values()
                return
            raise _no_json(file.name, number, error) from error
        whole = True
        yield number, _whole(value, line)


def _no_json(name: str, line: int, error: Exception) -> CorpusError:
    why = error.msg if isinstance(error, json.JSONDecodeError) else "it is nested too deeply"
    if not isinstance(error, (json.JSONDecodeError, RecursionError)):
        why = str(error)
    return CorpusError(f"{name}:{line}: it is not JSON ({why}). Is the file complete?")


def _whole(value: Any, raw: str) -> Any:
    """A value without halves of characters, which JSON can have and texts cannot: they become U+FFFD."""
    if "\\ud" in raw or "\\uD" in raw:
        return _mended(value)
    return value


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return LONE_SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_mended(item) for item in value]
    if isinstance(value, dict):
        return {_mended(key): _mended(item) for key, item in value.items()}
    return value


class _Source:
    """A text file of which some characters are in memory, and where decoding goes on in them.

    begin (str): What was read of it.
    """

    def __init__(self, file: TextFile, begin: str) -> None:
        self._file = file
        self._buffer = begin
        self._at = 0
        self._line = 1
        self._decoder = json.JSONDecoder()

    def to_line_end(self) -> str:
        """What was read, with the line that it ends in."""
        self._buffer += self._file.text.readline()
        return self._buffer

    def begins(self) -> str:
        """The first sign that is no white space; "" where there is none so far."""
        return self._buffer.lstrip()[:1]

    def opens_array(self) -> bool:
        """Whether an array of objects or arrays begins here."""
        while True:
            match = re.match(r"\s*\[\s*(\S)", self._buffer)
            if match is not None or not re.fullmatch(r"\s*\[?\s*", self._buffer) or not self._more(CHUNK):
                return match is not None and match.group(1) in "[{]"

    def elements(self) -> Iterator[Tuple[int, Record]]:
        self._skip("[")
        while self._peek() not in ("]", ""):
            yield self._value()
            following = self._peek()
            if following == ",":
                self._skip(",")
            elif following != "]":
                break
        if self._peek() != "]":
            raise CorpusError(f"{self._file.name}:{self._line}: the array does not go on or end. Is the file complete?")
        self._skip("]")
        if self._peek():
            raise CorpusError(f"{self._file.name}:{self._line}: something stands after the end of the array.")

    def values(self) -> Iterator[Tuple[int, Record]]:
        while self._peek():
            yield self._value()

    def _peek(self) -> str:
        """The next sign that is no white space, at which decoding goes on; "" at the end."""
        while True:
            match = re.compile(r"[ \t\r\n]*").match(self._buffer, self._at)
            assert match is not None
            self._pass(match.end())
            if self._at < len(self._buffer) or not self._more(CHUNK):
                return self._buffer[self._at : self._at + 1]

    def _skip(self, sign: str) -> None:
        assert self._peek() == sign
        self._pass(self._at + 1)

    def _pass(self, end: int) -> None:
        self._line += self._lines(end)
        self._at = end

    def _lines(self, end: int) -> int:
        """Line ends between here and there."""
        count = self._buffer.count
        return count("\n", self._at, end) + count("\r", self._at, end) - count("\r\n", self._at, end)

    def _more(self, count: int) -> bool:
        piece = self._file.text.read(count)
        self._buffer = self._buffer[self._at :] + piece
        self._at = 0
        return bool(piece)

    def _value(self) -> Tuple[int, Record]:
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string") or error.pos >= len(self._buffer) - CUT
                # twice as much each time, so that the time is linear
                if not cut or not self._more(max(CHUNK, len(self._buffer) - self._at)):
                    raise _no_json(self._file.name, self._line + self._lines(error.pos), error) from error
            except (ValueError, RecursionError) as error:
                raise _no_json(self._file.name, self._line, error) from error
            else:
                line = self._line
                found = _whole(value, self._buffer[self._at : end])
                self._pass(end)
                return line, found


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
