"""`crf-ner convert`: annotations from one format to another."""

import itertools
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, Optional

import typer
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from tqdm import tqdm

from ..corpora.document import Document, Problem, Report
from ..corpora.files import STANDARD, CorpusError
from ..corpora.formats import FORMATS, Format, Options, add_doc, detect
from ..corpora.label_studio.settings import ANNOTATORS, OFFSETS, PREDICTIONS, LabelStudio
from ..corpora.placing import ALIGNMENTS, DISCONTINUOUS, Placing, to_doc
from ..corpora.records import KEYS, Naming
from .errors import clear_errors, fail, good, written_whole
from .options import WRITTEN, numbers
from .writing import blank, count, written, written_folder

# Documents after which words that they brought along are forgotten.
FORGET = 1000


@clear_errors
def convert(
    input: Path = typer.Argument(..., help="Annotations: a file, a folder, a .gz or .zip, or - for standard input."),
    output: Path = typer.Argument(..., help="The file, or for standoff the folder, to write; - for standard output."),
    source: Optional[str] = typer.Option(
        None, "--from", help=f"Format of INPUT: {', '.join(FORMATS)}. Default: found out."
    ),
    target: Optional[str] = typer.Option(
        None, "--to", help=f"Format of OUTPUT: {', '.join(WRITTEN)}. Default: spacy or jsonl where OUTPUT ends so."
    ),
    lang: str = typer.Option("en", "--lang", "-l", help="Language whose tokenizer cuts the texts: en, fr, xx, …"),
    align: str = typer.Option(
        "expand", "--align", help=f"Entities that begin or end inside a token: {', '.join(ALIGNMENTS)}."
    ),
    discontinuous: str = typer.Option(
        "skip", "--discontinuous", help=f"Entities in several parts: {', '.join(DISCONTINUOUS)}."
    ),
    encoding: str = typer.Option("utf-8", "--encoding", help="Of columns, texts, JSON, CSV."),
    columns: Optional[str] = typer.Option(
        None, "--columns", help="Column of the tokens, then those of tags, from 0: 0,3. Default: found out."
    ),
    sentences: int = typer.Option(
        1, "--sentences", help="Of columns that mark no documents: sentences that make one; 0: all of a file."
    ),
    keys: Optional[str] = typer.Option(
        None,
        "--keys",
        help=f"Of JSON and tables: text=body,spans=marks: keys of {', '.join(KEYS)}. Default: found out.",
    ),
    tag_names: Optional[str] = typer.Option(
        None, "--tag-names", help="Of JSON and tables whose tags are numbers: their names in order: O,B-PER,I-PER."
    ),
    scheme: str = typer.Option("iob2", "--scheme", help="Of columns that are written: iob2, iob1, bioes, bilou."),
    spans: str = typer.Option(
        "",
        "--spans",
        help='Of .spacy, or JSON of Docs: ents, or a span group. Default: "entities", where there is one.',
    ),
    shard: Optional[int] = typer.Option(
        None, "--shard", help="Write a folder of .spacy files of so many documents each, in bounded memory."
    ),
    annotators: str = typer.Option(
        "first", "--annotators", help=f"Of several annotations of a Label Studio task: {', '.join(ANNOTATORS)}."
    ),
    predictions: str = typer.Option(
        "none", "--predictions", help=f"Models' predictions in Label Studio tasks: {', '.join(PREDICTIONS)}."
    ),
    offsets: str = typer.Option(
        "auto", "--offsets", help=f"How Label Studio's offsets count characters: {', '.join(OFFSETS)}."
    ),
    text_key: str = typer.Option(
        "",
        "--text-key",
        help="Of Label Studio tasks: key of the data that holds the text. Default: all annotated ones.",
    ),
    labelling_config: Optional[Path] = typer.Option(
        None, "--labelling-config", help="The Label Studio project's labelling configuration, an XML file."
    ),
    from_name: str = typer.Option(
        "", "--from-name", help="Of Label Studio tasks that are written: name of the tag that labels."
    ),
    to_name: str = typer.Option(
        "", "--to-name", help="Of Label Studio tasks that are written: name of the tag that shows the text."
    ),
    model_version: str = typer.Option(
        "",
        "--model-version",
        help="Of predictions in Label Studio tasks that are written. Default: where they are from.",
    ),
    as_annotations: bool = typer.Option(
        False, "--as-annotations", help="Write entities to Label Studio tasks as annotations, not as predictions."
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
    target = _target(target, output, shard)
    if source is not None and source not in FORMATS:
        raise CorpusError(f"--from {source}: the format is not one of {', '.join(FORMATS)}.")
    naming = Naming(_keys(keys), tag_names.split(",") if tag_names else (), spans)
    tasks = LabelStudio(
        annotators, predictions, offsets, text_key, labelling_config, from_name, to_name, model_version, as_annotations
    )
    options = Options(encoding, numbers(columns), sentences, spans, scheme, naming, tasks)  # type: ignore[arg-type]
    placing = Placing(alignment=align, discontinuous=discontinuous)  # type: ignore[arg-type]
    nlp = blank(lang)
    found = source or detect(input)
    if found == target == "spacy":
        raise CorpusError(f"{input}: it is .spacy already.")
    form = FORMATS[target]
    documents = tqdm(FORMATS[found].read(input, options), desc=f"Reading {input}", unit=" documents", disable=None)
    with _listing(report) as listing:
        counts = Report(listing=listing)
        with written_folder(output) if form.to_folder or shard else written(output) as beside:
            if form.write_documents is not None:
                for document in form.write_documents(documents, beside, options):
                    count(document, counts)
            elif shard:
                _write_shards(_placed(documents, nlp, placing, counts), beside, shard)
            else:
                assert form.write is not None
                # --spans says what is read; what is written has all of it in one group
                docs = _placed(_remarked(documents, form), nlp, placing, counts)
                form.write(docs, beside, replace(options, spans=""))
                if form.lost is not None:
                    counts.links.clear()
            _summarize(counts)
    if report is not None:
        _say(f"All {counts.kinds.total():,} remarks are in {report}.")
    elif counts.kinds:
        _say("List them all with --report FILE.")
    if output != STANDARD:
        good(f"Wrote {output}")
    if strict and counts.lost:
        fail(f"--strict: {counts.lost:,} of {counts.annotated:,} entities were left out. {output} holds the others.")


def _target(target: Optional[str], output: Path, shard: Optional[int]) -> str:
    """Format of OUTPUT. RAISES (CorpusError): It is not said, or the name of OUTPUT does not fit it."""
    if shard is not None:
        if shard < 1 or target not in (None, "spacy") or output.suffix == ".spacy" or output == STANDARD:
            raise CorpusError(
                f"--shard {shard}: give the documents of a file, 1 or more, and an OUTPUT that is a folder for .spacy "
                "files."
            )
        return "spacy"
    target = target or {".spacy": "spacy", ".jsonl": "jsonl"}.get(output.suffix)
    written = [name for name, form in FORMATS.items() if form.is_written]
    if target is None:
        raise CorpusError(f"{output}: say with --to which format it is to have: {', '.join(written)}.")
    if target in FORMATS and target not in written:
        raise CorpusError(f"--to {target}: it is read, but not written. Formats that are: {', '.join(written)}.")
    if target not in FORMATS:
        raise CorpusError(f"--to {target}: the format is not one of {', '.join(written)}.")
    if target == "spacy" and output.suffix != ".spacy":
        raise CorpusError(f"{output}: OUTPUT must end in .spacy; with --shard it is a folder.")
    return target


def _keys(keys: Optional[str]) -> Dict[str, str]:
    pairs = [pair.partition("=") for pair in keys.split(",")] if keys else []
    if not all(name.strip() and sign and key for name, sign, key in pairs):
        raise CorpusError(f"--keys {keys}: give pairs, as in text=body,spans=marks.")
    return {name.strip(): key for name, _, key in pairs}


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
def _listing(report: Optional[Path]) -> Iterator[Callable[[Problem], None]]:
    """What takes each problem, as there may be more of them than memory holds."""
    if report is None:
        yield lambda problem: None
        return
    with written_whole(report) as beside, beside.open("w", encoding="utf-8") as file:
        yield lambda problem: print(problem, file=file)


def _placed(documents: Iterable[Document], nlp: Language, placing: Placing, counts: Report) -> Iterator[Doc]:
    """Docs, of which none must be used when the next is asked for: their words are forgotten from time to time."""
    rest = iter(documents)
    more = True
    while more:
        with nlp.memory_zone():
            more = False
            for document in itertools.islice(rest, FORGET):
                more = True
                yield to_doc(document, nlp.make_doc, placing, counts)


def _remarked(documents: Iterable[Document], form: Format) -> Iterator[Document]:
    """Documents, with what of them the format has no place for among their problems."""
    for document in documents:
        if form.lost is not None:
            document.problems.extend(form.lost(document))
        yield document


def _write_shards(docs: Iterable[Doc], folder: Path, size: int) -> None:
    """Files of `size` Docs; the last may have fewer."""
    binary = DocBin(store_user_data=True)
    number = 1
    for doc in docs:
        if len(binary) == size:
            binary.to_disk(folder / f"{number:06}.spacy")
            binary, number = DocBin(store_user_data=True), number + 1
        add_doc(binary, doc)
    binary.to_disk(folder / f"{number:06}.spacy")
