"""Our commands, run as one would in a shell."""

from pathlib import Path
from typing import Any, List, Optional

import spacy
from spacy.cli._util import app
from spacy.tokens import Doc, DocBin
from typer.testing import CliRunner

import spacy_crf_ner.cli.app  # noqa: F401  (hangs the commands on spaCy's, as its entry point does)


def run(*arguments: Any, ok: bool = True, input: Optional[str] = None) -> Any:
    """`python -m spacy crf-ner …`. ok: whether it must go well; if not, it ends with a message, not a traceback."""
    result = CliRunner().invoke(app, ["crf-ner", *map(str, arguments)], input=input)
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert (result.exit_code == 0) == ok, result.output
    return result


def said(result: Any) -> str:
    """All that it printed, on one line."""
    return " ".join(result.output.split())


def read(path: Path) -> List[Doc]:
    """The documents of a .spacy file."""
    return list(DocBin().from_disk(path).get_docs(spacy.blank("en").vocab))
