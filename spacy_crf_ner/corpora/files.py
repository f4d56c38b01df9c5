"""Files as formats read them: plain, .gz, all that is in a .zip or a folder, or standard input."""

import gzip
import io
import sys
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Callable, Iterator, List, NamedTuple, Optional, Sequence, TextIO


class CorpusError(ValueError):
    """Annotations that cannot be read or written at all."""


STANDARD = Path("-")
# What `split` tells of itself, beside the parts that it writes.
MANIFEST = "manifest.json"
# Bytes of a file from which it is found out whether it may be data.
SAMPLE = 20_000


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


def text_files(
    path: Path,
    wanted: Sequence[str] = (),
    encoding: str = "utf-8",
    is_data: Optional[Callable[[str], bool]] = None,
) -> Iterator[TextFile]:
    """All text files of a path, one after another; each is closed when the next is asked for.

    path (Path): A file, a .gz, a .zip, a folder, or "-" for standard input.
    wanted (Sequence[str]): In a folder or a .zip only files with these endings; none: all.
    is_data (Optional[Callable[[str], bool]]): Whether a file that begins so may be data; in a folder or a .zip others
        are passed over. `passed_over` names them.
    RAISES (CorpusError): There is no such path, nothing in it, or a file is not of that encoding.
    """
    count = 0
    for name, file in _opened(path, wanted):
        if is_data is not None and holds_files(path) and not _may_be_data(name, file, is_data):
            continue
        count += 1
        with readable(name, encoding):
            # signs that only some editors write before the first line mean nothing
            text = io.TextIOWrapper(file, encoding="utf-8-sig" if encoding == "utf-8" else encoding, newline="")
            yield TextFile(name, text)
    if not count:
        kinds = f" with the ending {' or '.join(wanted)}" if wanted else ""
        raise CorpusError(f"{path}: there is no file{kinds} in it.")


def holds_files(path: Path) -> bool:
    """Whether a path is a folder or an archive, in which files may stand that are no data."""
    return path.is_dir() or path.suffix.lower() == ".zip"


def passed_over(
    path: Path, wanted: Sequence[str] = (), is_data: Optional[Callable[[str], bool]] = None
) -> Iterator[str]:
    """Names of the files of a folder or an archive that `text_files` passes over; hidden ones are not among them."""
    if not holds_files(path):
        return
    if path.is_dir():
        yield from (str(found) for found in _files(path) if not _fits(found.name, wanted))
    else:
        with readable(str(path)), zipfile.ZipFile(path) as archive:
            names = [member for member in sorted(archive.namelist()) if not member.endswith("/")]
        yield from (f"{path}/{name}" for name in names if not _fits(name, wanted))
    if is_data is not None:
        yield from (name for name, file in _opened(path, wanted) if not _may_be_data(name, file, is_data))


def _may_be_data(name: str, file: BinaryIO, is_data: Callable[[str], bool]) -> bool:
    with readable(name):
        begin = file.read(SAMPLE)
        file.seek(0)
    whole = begin if len(begin) < SAMPLE or b"\n" not in begin else begin[: begin.rfind(b"\n") + 1]
    return whole.startswith((b"\xff\xfe", b"\xfe\xff")) or is_data(whole.decode("utf-8-sig", "replace"))


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
        for found in _files(path):
            if _fits(found.name, wanted):
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


def _files(folder: Path) -> Iterator[Path]:
    """Files in a folder and those in it, but for hidden ones and what a split has written of itself."""
    for found in sorted(folder.rglob("*")):
        if found.is_file() and not found.name.startswith(".") and not _is_manifest(found):
            yield found


def _is_manifest(path: Path) -> bool:
    if path.name != MANIFEST:
        return False
    with readable(str(path)), path.open("rb") as file:
        return file.read(100).split()[:2] == [b"{", b'"spacy_crf_ner":']


def _fits(name: str, wanted: Sequence[str]) -> bool:
    return not wanted or bool(set(endings(name)) & set(wanted))
