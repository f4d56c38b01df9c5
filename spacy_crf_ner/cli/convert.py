"""`crf-ner convert`: annotations from one format to another."""

import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterable, Iterator, Optional

import spacy
import typer
from tqdm import tqdm

from ..corpora.document import Document, Report
from ..corpora.files import STANDARD, CorpusError
from ..corpora.formats import FORMATS, Format, Options, detect
from ..corpora.placing import ALIGNMENTS, DISCONTINUOUS, Placing, to_docs
from .errors import clear_errors, fail, good, umask, written_whole
from .options import numbers


@clear_errors
def convert(
    input: Path = typer.Argument(..., help="Annotations: a file, a folder, a .gz or .zip, or - for standard input."),
    output: Path = typer.Argument(..., help="The file, or for standoff the folder, to write; - for standard output."),
    source: Optional[str] = typer.Option(
        None, "--from", help=f"Format of INPUT: {', '.join(FORMATS)}. Default: found out."
    ),
    target: Optional[str] = typer.Option(
        None, "--to", help=f"Format of OUTPUT: {', '.join(FORMATS)}. Default: spacy where OUTPUT ends so."
    ),
    lang: str = typer.Option("en", "--lang", "-l", help="Language whose tokenizer cuts the texts: en, fr, xx, …"),
    align: str = typer.Option(
        "expand", "--align", help=f"Entities that begin or end inside a token: {', '.join(ALIGNMENTS)}."
    ),
    discontinuous: str = typer.Option(
        "skip", "--discontinuous", help=f"Entities in several parts: {', '.join(DISCONTINUOUS)}."
    ),
    encoding: str = typer.Option("utf-8", "--encoding", help="Of columns."),
    columns: Optional[str] = typer.Option(
        None, "--columns", help="Column of the tokens, then those of tags, from 0: 0,3. Default: found out."
    ),
    sentences: int = typer.Option(
        1, "--sentences", help="Of columns that mark no documents: sentences that make one; 0: all of a file."
    ),
    scheme: str = typer.Option("iob2", "--scheme", help="Of columns that are written: iob2, iob1, bioes, bilou."),
    spans: str = typer.Option(
        "", "--spans", help='Of a .spacy file: ents, or a span group. Default: "entities", where there is one.'
    ),
    strict: bool = typer.Option(False, "--strict", help="Exit with 1 if anything was left out."),
    report: Optional[Path] = typer.Option(
        None, "--report", help="Write everything that was wrong to this file, a line each."
    ),
) -> None:
    """Convert annotations from one format to another.

    In .spacy, entities go to doc.spans["entities"], and to doc.ents those that can stand there: of entities that
    overlap the longest. What cannot be put on tokens is left out, counted, and listed with --report.
    """
    target = target or ("spacy" if output.suffix == ".spacy" else None)
    if target is None:
        raise CorpusError(f"{output}: say with --to which format it is to have: {', '.join(FORMATS)}.")
    for option, name in (("--from", source), ("--to", target)):
        if name is not None and name not in FORMATS:
            raise CorpusError(f"{option} {name}: the format is not one of {', '.join(FORMATS)}.")
    if target == "spacy" and output.suffix != ".spacy":
        raise CorpusError(f"{output}: OUTPUT must end in .spacy.")
    options = Options(encoding, numbers(columns), sentences, spans, scheme)  # type: ignore[arg-type]
    placing = Placing(alignment=align, discontinuous=discontinuous)  # type: ignore[arg-type]
    nlp = blank(lang)
    found = source or detect(input)
    if found == target == "spacy":
        raise CorpusError(f"{input}: it is a .spacy file already.")
    counts = Report()
    form = FORMATS[target]
    documents = tqdm(FORMATS[found].read(input, options), desc=f"Reading {input}", unit=" documents", disable=None)
    if form.write is not None:
        docs = list(to_docs(documents, nlp.make_doc, placing, counts))
        _summarize(counts)
        with _written(output) as beside:
            form.write(docs, beside, options)
    else:
        write_folder(form, documents, output, counts, _summarize)
    if report is not None:
        with written_whole(report) as beside:
            beside.write_text("".join(f"{problem}\n" for problem in counts.problems), encoding="utf-8")
        _say(f"All {len(counts.problems):,} remarks are in {report}.")
    elif counts.problems:
        _say("List them all with --report FILE.")
    if output != STANDARD:
        good(f"Wrote {output}")
    if strict and counts.lost:
        fail(f"--strict: {counts.lost:,} of {counts.annotated:,} entities were left out. {output} holds the others.")


def _say(message: str) -> None:
    typer.echo(message, err=True)


def _summarize(counts: Report) -> None:
    if not counts.documents:
        fail("There is no document in it, so nothing was written.")
    for line in counts.summary():
        _say(line)
    if counts.annotated and not counts.kept:
        fail(f"None of {counts.annotated:,} entities could be kept, so nothing was written.")


@contextmanager
def _written(output: Path) -> Iterator[Path]:
    """A path to write to, whose file then takes its name, or goes to standard output."""
    if output != STANDARD:
        with written_whole(output) as beside:
            yield beside
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "output"
        with (Path(folder) / "output").open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)


def write_folder(
    form: Format,
    documents: Iterable[Document],
    output: Path,
    counts: Report,
    check: Callable[[Report], None] = lambda counts: None,
) -> None:
    """Write Documents into a new folder, which is there when it is whole.

    counts (Report): Is brought up to date. check (Callable): Is called with it before the folder takes its name.
    """
    if output == STANDARD or output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise CorpusError(f"{output}: OUTPUT must be a folder that is new or empty.")
    output.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}."))
    try:
        assert form.write_documents is not None
        for document in form.write_documents(documents, beside):
            counts.documents += 1
            counts.annotated += len(document.entities) + document.unread
            counts.kept += len(document.entities)
            counts.problems += document.problems
        check(counts)
        beside.chmod(0o777 & ~umask())
        if output.is_dir():
            output.rmdir()
        beside.replace(output)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def blank(lang: str) -> "spacy.language.Language":
    """An empty pipeline that takes texts of any length. RAISES (CorpusError): spaCy has no such language."""
    try:
        nlp = spacy.blank(lang)
    except ImportError as error:
        raise CorpusError(
            f"--lang {lang}: spaCy has no such language. Use its two-letter code, or xx for none."
        ) from error
    nlp.max_length = 10**9
    return nlp
