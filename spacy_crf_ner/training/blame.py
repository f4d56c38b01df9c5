"""Errors in functions that a configuration names: said in a sentence, with where they come from."""

import contextlib
import os
import sysconfig
import traceback
from typing import Iterator, Tuple, Type

# Where Python's own modules and installed packages are.
LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


class CodeError(ValueError):
    """A function that the configuration names has failed; its own error is the cause."""


@contextlib.contextmanager
def blamed_on(place: str, passed: Tuple[Type[Exception], ...] = ()) -> Iterator[None]:
    """Have an error say what of the configuration has failed.

    place (str): How the message begins: a section in brackets, or what was done.
    passed (Tuple[Type[Exception], ...]): Errors that say enough themselves, and stay as they are.
    RAISES (CodeError): An error came; it is the cause.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, (CodeError, *passed)):
            raise
        raise CodeError(f"{place}: {in_words(error)}") from error


def in_words(error: BaseException) -> str:
    """Kind and message of an error, and the line of the user's own code that it comes from."""
    # spaCy's evaluation puts a message of its own, of the same kind, before each error of a component or a scorer
    if str(error.args[0] if error.args else "").startswith("[E900]") and error.__cause__ is not None:
        error = error.__cause__
    frames = traceback.extract_tb(error.__traceback__)
    # compiled modules name their sources by relative paths
    own = [f for f in frames if os.path.isabs(f.filename) and not f.filename.startswith(LIBRARIES)]
    frame = (own or [*frames])[-1]
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"{said} ({frame.filename}, line {frame.lineno}, in {frame.name})."
