"""JSON files one value at a time, so that a large file needs no more memory than its largest value."""

import json
import math
import re
from typing import Any, Iterator, NamedTuple, Optional, Protocol

from .files import CorpusError

CHUNK = 1 << 16
# A syntax error so close to the end of what was read may come from what was not read yet.
CUT = 16
SPACE = re.compile(r"[ \t\r\n]*")
# What may stand in the JSON of values that text files and .spacy files cannot hold.
SUSPICIOUS = re.compile(r"\\u[dD][89a-fA-F]|NaN|Infinity|\d{19}|[eE]\+?\d{3}")
# msgpack, which .spacy files are made of, has no larger integers.
LARGEST = 2**63
NOT_KEPT = "halves of characters became U+FFFD, infinite numbers null, integers of more than 64 bits texts."


class Readable(Protocol):
    """What text can be read from, in pieces."""

    def read(self, size: int = ..., /) -> str: ...


class Value(NamedTuple):
    """line (int): Where it begins, from 1. value (Any): It. mended (bool): What cannot be kept was replaced in it."""

    line: int
    value: Any
    mended: bool


def json_values(file: Readable, name: str, most: Optional[int] = None) -> Iterator[Value]:
    """The values of a file: one, or many one after another (JSON Lines), or the items of an array.

    An array that begins with a string is a value, as spaCy 2's pairs of a text and its annotations are.
    file (Readable): Read in pieces. name (str): What messages call it.
    most (Optional[int]): Most characters that a value may have; None: any number.
    RAISES (CorpusError): It is not JSON, or a value is too long.
    """
    source = _Source(file, name, most)
    if source.peek() not in ("[", "{", ""):
        raise source.wrong("it is not JSON: records begin with { or [.")
    if not source.opens_array():
        while source.peek():
            yield source.value()
        return
    source.skip()
    while source.peek() not in ("]", ""):
        yield source.value()
        if source.peek() == ",":
            source.skip()
        elif source.peek() != "]":
            break
    if source.peek() != "]":
        raise source.wrong("the array does not go on or end. Is the file complete?")
    source.skip()
    if source.peek():
        raise source.wrong("something stands after the end of the array.")


class _Source:
    """A file of which some characters are in memory, and where decoding goes on in them. See `json_values`."""

    def __init__(self, file: Readable, name: str, most: Optional[int]) -> None:
        self._file = file
        self._name = name
        self._most = most
        self._buffer = ""
        self._at = 0
        self._line = 1
        self._decode = json.JSONDecoder().raw_decode

    def opens_array(self) -> bool:
        """Whether an array begins here that is to be taken apart."""
        while True:
            match = re.match(r"\s*\[\s*(\S)", self._buffer[self._at :])
            if match is not None or not re.fullmatch(r"\s*\[?\s*", self._buffer[self._at :]) or not self._more(CHUNK):
                return match is not None and match.group(1) != '"'

    def peek(self) -> str:
        """The next sign that is no white space, at which decoding goes on; "" at the end."""
        while True:
            match = SPACE.match(self._buffer, self._at)
            assert match is not None
            self._pass(match.end())
            if self._at < len(self._buffer) or not self._more(CHUNK):
                return self._buffer[self._at : self._at + 1]

    def skip(self) -> None:
        """Go past the sign that `peek` told."""
        self._pass(self._at + 1)

    def value(self) -> Value:
        self.peek()
        while True:
            try:
                value, end = self._decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                line = self._line + self._lines(error.pos)
                cut = error.msg.startswith("Unterminated string") or error.pos >= len(self._buffer) - CUT
                if self._most is not None and len(self._buffer) - self._at > self._most:
                    raise self.wrong("a value is too long.") from error
                # twice as much each time, so that the time is linear
                if not cut or not self._more(max(CHUNK, len(self._buffer) - self._at)):
                    raise self._no_json(error.msg, line) from error
            except (ValueError, RecursionError) as error:  # numbers with more digits than Python reads
                raise self._no_json(_why(error), self._line) from error
            else:
                # a number may go on in what is not read yet
                if end < len(self._buffer) or not self._more(CHUNK):
                    return self._found(value, end)

    def _found(self, value: Any, end: int) -> Value:
        line, storable_ = self._line, value
        if SUSPICIOUS.search(self._buffer, self._at, end):
            try:
                storable_ = storable(value)
            except RecursionError as error:
                raise self._no_json(_why(error), line) from error
        self._pass(end)
        return Value(line, storable_, storable_ != value)

    def wrong(self, why: str) -> CorpusError:
        return CorpusError(f"{self._name}:{self._line}: {why}")

    def _no_json(self, why: str, line: int) -> CorpusError:
        begins = f" in what begins in line {self._line}" if line > self._line else ""
        return CorpusError(f"{self._name}:{line}: it is not JSON ({why}){begins}. Is the file complete?")

    def _pass(self, end: int) -> None:
        self._line += self._lines(end)
        self._at = end

    def _lines(self, end: int) -> int:
        """Line ends between here and there."""
        count = self._buffer.count
        returns = count("\r", self._at, end) - count("\r\n", self._at, end)
        return count("\n", self._at, end) + returns

    def _more(self, count: int) -> bool:
        piece = self._file.read(count)
        # the two halves of a line end stay together
        piece += self._file.read(1) if piece.endswith("\r") else ""
        self._buffer = self._buffer[self._at :] + piece
        self._at = 0
        return bool(piece)


def _why(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


def storable(value: Any) -> Any:
    """A JSON value as text files and .spacy files can hold it.

    RETURNS (Any): The same, but for halves of characters, which are U+FFFD, numbers that are none, which are null, and
        integers of more than 64 bits, which are strings.
    RAISES (RecursionError): It is nested too deeply.
    """
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {storable(key): storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [storable(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int) and not -LARGEST <= value < LARGEST:
        return hex(value)  # decimal digits are limited
    return value
