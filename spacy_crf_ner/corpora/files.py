"""Files as formats read them: plain, .gz, all that is in a .zip or a folder, or standard input."""

import gzip
import io
import sys
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Iterator, List, NamedTuple, Sequence, TextIO


class CorpusError(ValueError):
    """Annotations that cannot be read or written at all."""


STANDARD = Path("-")


class TextFile(NamedTuple):
    """name (str): What messages call it. text (TextIO): What is in it, line ends as they are."""

    name: str
    text: TextIO

    @property
    def stem(self) -> str:
        """The name without folders and endings, from which documents get ids."""
        return Path(self.name.removesuffix(".gz")).stem.replace(" ", "_")


def endings(name: str) -> List[str]:
    """Endings of a file's name without that of its compression: [".tar"] of "x.tar.gz"."""
    return [ending.lower() for ending in Path(name).suffixes if ending.lower() not in (".gz", ".zip")]


def text_files(path: Path, wanted: Sequence[str] = (), encoding: str = "utf-8") -> Iterator[TextFile]:
    """All text files of a path, one after another; each is closed when the next is asked for.

    path (Path): A file, a .gz, a .zip, a folder, or "-" for standard input.
    wanted (Sequence[str]): In a folder or a .zip only files with these endings; none: all.
    RAISES (CorpusError): There is no such path, nothing in it, or a file is not of that encoding.
    """
    count = 0
    for name, file in _opened(path, wanted):
        count += 1
        with readable(name, encoding):
            # signs that only some editors write before the first line mean nothing
            text = io.TextIOWrapper(file, encoding="utf-8-sig" if encoding == "utf-8" else encoding, newline="")
            yield TextFile(name, text)
    if not count:
        kinds = f" with the ending {' or '.join(wanted)}" if wanted else ""
        raise CorpusError(f"{path}: there is no file{kinds} in it.")


@contextmanager
def readable(name: str, encoding: str = "utf-8") -> Iterator[None]:
    """Say clearly why a file cannot be read."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{name}: byte {error.start} is not {encoding.upper()}. Convert the file, for instance with: "
            "iconv -f latin1 -t utf-8; columns and JSON can be read with --encoding latin-1."
        ) from error
    except UnicodeError as error:  # UTF-16 without the mark that says which bytes come first, say
        raise CorpusError(f"{name}: it is not {encoding.upper()}: {error}. Name another --encoding.") from error
    except LookupError as error:
        raise CorpusError(f'--encoding {encoding}: there is no such encoding ("utf-8", "latin-1", …).') from error
    except (gzip.BadGzipFile, zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise CorpusError(f"{name}: the compressed file is damaged ({error}).") from error
    except OSError as error:
        raise CorpusError(f"{name}: it cannot be read ({error.strerror or error}).") from error


def _opened(path: Path, wanted: Sequence[str]) -> Iterator["tuple[str, BinaryIO]"]:
    if path == STANDARD:
        yield "standard input", sys.stdin.buffer
    elif path.is_dir():
        for found in sorted(path.rglob("*")):
            if found.is_file() and not found.name.startswith(".") and _fits(found.name, wanted):
                yield from _opened(found, wanted)
    elif not path.exists():
        raise CorpusError(f"{path}: there is no such file or folder.")
    elif path.suffix.lower() == ".zip":
        with readable(str(path)), zipfile.ZipFile(path) as archive:
            for member in sorted(archive.namelist()):
                if not member.endswith("/") and _fits(member, wanted):
                    with archive.open(member) as file:
                        yield f"{path}/{member}", file  # type: ignore[misc]
    else:
        with readable(str(path)), gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            yield str(path), file  # type: ignore[misc]


def _fits(name: str, wanted: Sequence[str]) -> bool:
    return not wanted or bool(set(endings(name)) & set(wanted))
