"""Which annotation formats there are, how to tell them apart, and how to read each."""

from pathlib import Path
from typing import Callable, Dict, Iterator, NamedTuple

from .document import Document
from .standoff import CorpusError, is_standoff, read_standoff


class Format(NamedTuple):
    """detect (Callable): Whether a path holds it. read (Callable): Its documents. hint (str): What it looks like."""

    detect: Callable[[Path], bool]
    read: Callable[[Path], Iterator[Document]]
    hint: str


FORMATS: Dict[str, Format] = {
    "standoff": Format(is_standoff, read_standoff, "brat: a folder of .txt and .ann files"),
}


def detect(path: Path) -> str:
    """Name of the format of a path.

    RAISES (CorpusError): There is no such path, or no format fits it.
    """
    if not path.exists():
        raise CorpusError(f"{path}: there is no such file or folder.")
    for name, form in FORMATS.items():
        if form.detect(path):
            return name
    known = "; ".join(f"{name} ({form.hint})" for name, form in FORMATS.items())
    raise CorpusError(f"{path}: its format is not known. Formats: {known}.")
