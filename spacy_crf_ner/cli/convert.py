"""`crf-ner convert`: annotations to .spacy."""

from pathlib import Path
from typing import Iterable, Optional

import spacy
import typer
from spacy.tokens import Doc, DocBin
from tqdm import tqdm
from wasabi import msg

from ..corpora.document import ALL_ENTITIES, Report, to_docs
from ..corpora.formats import FORMATS, detect
from ..corpora.standoff import CorpusError
from .errors import clear_errors, fail, written_whole


@clear_errors
def convert(
    input: Path = typer.Argument(..., help="Annotations: a brat folder."),
    output: Path = typer.Argument(..., help="The .spacy file to write."),
    source: Optional[str] = typer.Option(
        None, "--from", help=f"Format of INPUT: {', '.join(FORMATS)}. Default: found out."
    ),
    target: str = typer.Option("spacy", "--to", help="Format of OUTPUT: spacy."),
    lang: str = typer.Option("en", "--lang", "-l", help="Language whose tokenizer cuts the texts: en, fr, xx, …"),
    strict: bool = typer.Option(False, "--strict", help="Exit with 1 if anything was left out."),
    report: Optional[Path] = typer.Option(
        None, "--report", help="Write everything that was wrong to this file, a line each."
    ),
) -> None:
    """Convert annotations to spaCy's .spacy.

    Entities go to doc.spans["entities"], and to doc.ents those that can stand there: of entities that overlap
    the longest. What cannot be put on tokens is left out, counted, and listed with --report.
    """
    if target != "spacy":
        raise CorpusError(f"--to {target}: only spacy can be written.")
    if source is not None and source not in FORMATS:
        raise CorpusError(f"--from {source}: the format is not one of {', '.join(FORMATS)}.")
    if output.suffix != ".spacy":
        raise CorpusError(f"{output}: OUTPUT must end in .spacy.")
    nlp = blank(lang)
    counts = Report()
    documents = FORMATS[source or detect(input)].read(input)
    docs = to_docs(documents, nlp.make_doc, ("ents", ALL_ENTITIES), counts)
    converted = list(tqdm(docs, desc=f"Reading {input}", unit=" documents", disable=None))
    for line in counts.summary():
        msg.text(line)
    if counts.annotated and not counts.kept:
        fail(f"None of {counts.annotated:,} entities could be kept, so nothing was written.")
    write_docs(converted, output)
    if report is not None:
        with written_whole(report) as beside:
            beside.write_text("".join(f"{problem}\n" for problem in counts.problems), encoding="utf-8")
        msg.text(f"All {len(counts.problems):,} remarks are in {report}.")
    elif counts.problems:
        msg.text("List them all with --report FILE.")
    msg.good(f"Wrote {output}")
    if strict and counts.lost:
        fail(f"--strict: {counts.lost:,} of {counts.annotated:,} entities were left out. {output} holds the others.")


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


def write_docs(docs: Iterable[Doc], path: Path) -> int:
    """Write a .spacy file, whole or not at all. RETURNS (int): Documents in it."""
    binary = DocBin(store_user_data=True)
    for doc in docs:
        binary.add(doc)
    with written_whole(path) as beside:
        binary.to_disk(beside)
    return len(binary)


def read_docs(path: Path, nlp: "spacy.language.Language") -> Iterable[Doc]:
    """Read a .spacy file. RAISES (CorpusError): It is not there, or not such a file."""
    if path.is_dir():
        raise CorpusError(f"{path}: it is a folder, not a .spacy file. Convert it first: crf-ner convert.")
    if not path.is_file():
        raise CorpusError(f"{path}: there is no such file.")
    try:
        return list(DocBin().from_disk(path).get_docs(nlp.vocab))
    except Exception as error:  # DocBin raises whatever zlib and msgpack do
        raise CorpusError(f"{path}: it is not a .spacy file ({error}).") from error
