"""How commands end when something is wrong."""

import errno
import functools
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator, NoReturn

import typer
from wasabi import Printer

SAID = Printer(no_print=True)


def good(message: str) -> None:
    """Say what was done, beside what is written to standard output."""
    typer.echo(SAID.good(message), err=True)


def fail(message: str) -> NoReturn:
    """Say what is wrong and exit with 1."""
    typer.echo(SAID.fail(message), err=True)
    raise typer.Exit(1)


def clear_errors(command: Callable) -> Callable:
    """Turn the errors that our own code raises for bad input into one message and exit code 1."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except ValueError as error:
            fail(str(error))
        except OSError as error:
            fail(f"{error.filename}: {error.strerror}." if error.filename else str(error))

    return run


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path to write to, which takes its real name only when all went well."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder, and a file is to be written there", str(path))
    refuse_compressed(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        beside.chmod(0o666 & ~umask())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def refuse_compressed(path: Path) -> None:
    """RAISES (ValueError): A file of this name would be taken for a compressed one, and nothing here compresses."""
    if path.suffix.lower() in (".gz", ".zip"):
        raise ValueError(f"{path}: files are not compressed here. Write {path.with_suffix('').name}, and compress it.")


def umask() -> int:
    """What the user takes away from the rights of new files."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
