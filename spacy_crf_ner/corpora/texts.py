"""Plain texts, which nobody has annotated."""

from pathlib import Path
from typing import Iterator

from .document import Document
from .files import STANDARD, TextFile, endings, readable, text_files

ENDING = ".txt"


def is_texts(path: Path) -> bool:
    """Whether a path is a .txt file, or a folder that has some in it."""
    return any(path.rglob("*" + ENDING)) if path.is_dir() else path.is_file() and endings(path.name)[-1:] == [ENDING]


def read_texts(path: Path, encoding: str = "utf-8") -> Iterator[Document]:
    """Read plain texts.

    path (Path): A folder or .zip of .txt files, each a document; or one file, a .gz or "-", in which each line is one.
    YIELDS (Document): Not annotated. Its id is the path in the folder without ending, or the name of the file and the
        line. Lines without text are passed over; line ends are no part of a document of one line.
    RAISES (CorpusError): There is no such path, no text in it, or it is not of that encoding.
    """
    many = path.is_dir() or path.suffix.lower() == ".zip"
    for file in text_files(path, (ENDING,) if many else (), encoding):
        with readable(file.name, encoding):
            if many:
                name = Path(file.name).relative_to(path).with_suffix("").as_posix()
                yield Document(name.replace(" ", "_"), file.text.read(), source=file.name, annotated=False)
            else:
                yield from _lines(file, "text" if path == STANDARD else file.stem)


def _lines(file: TextFile, name: str) -> Iterator[Document]:
    for number, line in enumerate(file.text, start=1):
        text = line.rstrip("\r\n")
        if text.strip():
            yield Document(f"{name}-{number:06}", text, source=file.name, annotated=False)
