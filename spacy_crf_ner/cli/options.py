"""Options that several commands share: how a corpus is read, and what is written."""

from pathlib import Path
from typing import List, Optional

import typer

from ..corpora.files import CorpusError
from ..corpora.formats import FORMATS, Options, detect
from ..corpora.placing import ALIGNMENTS, DISCONTINUOUS

INPUT = typer.Argument(..., help="Annotations of any format: a file, a folder, a .gz or .zip, or - for standard input.")
SOURCE = typer.Option(None, "--from", help=f"Format of INPUT: {', '.join(FORMATS)}. Default: found out.")
WRITTEN = [name for name, form in FORMATS.items() if form.is_written]
TARGET = typer.Option(None, "--to", help=f"Format of OUTPUT: {', '.join(WRITTEN)}. Default: spacy.")
LANG = typer.Option("en", "--lang", "-l", help="Language whose tokenizer cuts the texts: en, fr, xx, …")
ALIGN = typer.Option(
    "expand", "--align", help=f"For .spacy: entities that begin or end inside a token: {', '.join(ALIGNMENTS)}."
)
DISCONTINUOUS_ENTITIES = typer.Option(
    "skip", "--discontinuous", help=f"For .spacy: entities in several parts: {', '.join(DISCONTINUOUS)}."
)
ENCODING = typer.Option("utf-8", "--encoding", help="Of columns that are read.")
COLUMNS = typer.Option(
    None, "--columns", help="Column of the tokens, then those of tags, from 0: 0,3. Default: found out."
)
SENTENCES = typer.Option(
    1, "--sentences", help="Of columns that mark no documents: sentences that make one; 0: all of a file."
)
SPANS = typer.Option(
    "", "--spans", help='Of a .spacy file: ents, or a span group. Default: "entities", where there is one.'
)
SEED = typer.Option(0, "--seed", help="The same seed gives the same documents.")


def read_options(encoding: str, columns: Optional[str], sentences: int, spans: str) -> Options:
    """RAISES (CorpusError): A value is out of its range."""
    return Options(encoding, numbers(columns), sentences, spans)


def numbers(columns: Optional[str]) -> List[int]:
    """Columns as they are written: 0,3."""
    try:
        return [int(column) for column in columns.split(",")] if columns else []
    except ValueError as error:
        raise CorpusError(f"--columns {columns}: give numbers, as in 0,3.") from error


def check_format(option: str, name: Optional[str]) -> None:
    """RAISES (CorpusError): There is no such format, or with "--to" none that is written."""
    known = WRITTEN if option == "--to" else FORMATS
    if name is not None and name not in known:
        raise CorpusError(f"{option} {name}: the format is not one of {', '.join(known)}.")


def format_of(path: Path, source: Optional[str]) -> str:
    """The format that a path is read in. RAISES (CorpusError): It is not known."""
    check_format("--from", source)
    return source or detect(path)
