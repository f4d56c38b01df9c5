"""JSON files one value at a time, so that a large file needs no more memory than its largest part."""

import json
import math
from typing import Any, Iterator, Optional, Protocol, Tuple

from .files import CorpusError

CHUNK = 1 << 18
SPACE = " \t\r\n"
# msgpack, which .spacy files are made of, has no larger integers
LARGEST = 2**63


class Readable(Protocol):
    """What text can be read from, in pieces."""

    def read(self, size: int = ..., /) -> str: ...


def json_values(file: Readable, name: str, most: Optional[int] = None) -> Iterator[Tuple[int, Any]]:
    """Elements of the list that a file is, or else its values, of which there is one or, in JSON Lines, many.

    file (Readable): Read in pieces. name (str): What messages call it.
    most (Optional[int]): Most characters that a value may have; null: any number.
    YIELDS (Tuple[int, Any]): Its number in the file, from 1, and the value.
    RAISES (CorpusError): It is not JSON, or a value is too long.
    """
    text = _Text(file, name, most)
    listed = text.peek() == "["
    if listed:
        text.position += 1
    number = 0
    while text.peek():
        if listed and text.peek() == "]":
            text.position += 1
            if text.peek():
                raise text.wrong("there is more behind its end")
            return
        if number and listed:
            if text.peek() != ",":
                raise text.wrong("a comma is missing")
            text.position += 1
        number += 1
        yield number, text.value()
    if listed:
        raise text.wrong("its list has no end; the file may have been cut")


class _Text:
    """A file of which only what is being read is in memory. position (int): In the part that is."""

    def __init__(self, file: Readable, name: str, most: Optional[int]) -> None:
        self._file = file
        self._name = name
        self._most = most
        self._part = ""
        self._before = 0
        self._ended = False
        self._decode = json.JSONDecoder().raw_decode
        self.position = 0

    def _more(self) -> bool:
        """Read on: at least as much as there is, so that the time is linear. RETURNS: There was more."""
        if self._ended:
            return False
        self._before += self.position
        self._part = self._part[self.position :]
        self.position = 0
        read = self._file.read(max(CHUNK, len(self._part)))
        self._part += read
        self._ended = not read
        return not self._ended

    def peek(self) -> str:
        """The next character that is not white space, or "" at the end."""
        while True:
            while self.position < len(self._part) and self._part[self.position] in SPACE:
                self.position += 1
            if self.position < len(self._part):
                return self._part[self.position]
            if not self._more():
                return ""

    def value(self) -> Any:
        self.peek()
        while True:
            try:
                found, end = self._decode(self._part, self.position)
            except RecursionError as error:
                raise self.wrong("it is nested too deeply") from error
            except ValueError as error:  # also numbers with more digits than Python reads
                if self._most is not None and len(self._part) - self.position > self._most:
                    raise self.wrong("a value is too long") from error
                if not self._more():
                    raise self.wrong(getattr(error, "msg", str(error)), getattr(error, "pos", None)) from error
                continue
            # a number may go on in what is not read yet
            if end < len(self._part) or not self._more():
                self.position = end
                return found

    def wrong(self, why: str, position: Optional[int] = None) -> CorpusError:
        where = self._before + (self.position if position is None else position) + 1
        return CorpusError(f"{self._name}: it is not whole JSON: {why} (character {where:,}).")


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
