"""Which annotation formats there are, how to tell them apart, and how to read and write each."""

import io
import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

import spacy
from spacy.tokens import Doc, DocBin

from . import jsonl, tables, texts
from .columns import SCHEMES, Scheme, looks_like_columns, may_be_columns, read_columns, write_columns
from .document import Document, Problem
from .files import STANDARD, CorpusError, passed_over, text_files
from .jsonl import is_jsonl, read_jsonl, write_jsonl
from .label_studio import LabelStudio, is_label_studio, may_be_export, read_label_studio, write_label_studio
from .losses import lost_in_columns, lost_of_doc
from .placing import ID, from_doc
from .records import Naming
from .standoff import is_standoff, read_standoff
from .standoff_writer import write_standoff
from .tables import is_csv, is_dataset, is_parquet, read_csv, read_dataset, read_parquet
from .texts import is_texts, read_texts

# Characters of a file from which its format is found out.
SAMPLE = 20_000
# Files of a folder, at most, that are looked at for this.
LOOKED_AT = 20


@dataclass(frozen=True)
class Options:
    """What a user can say of files that do not say it themselves.

    encoding (str): Of text files. columns (Sequence[int]): Of columns: that of the tokens, then those of the tags; none
        given: found out. sentences (int): Of columns: how many make a document where the file marks none; 0: all.
    spans (str): Of Docs: where the entities are; "": the group "entities" where there is one, otherwise `doc.ents`.
    scheme (str): Of columns that are written. naming (Naming): What things are called in JSON and tables.
    label_studio (LabelStudio): Of Label Studio's files.
    labels (Sequence[str]): Of brat and Label Studio: what annotators are to choose from, besides what documents have.
    """

    encoding: str = "utf-8"
    columns: Sequence[int] = ()
    sentences: int = 1
    spans: str = ""
    scheme: Scheme = "iob2"
    naming: Naming = field(default_factory=Naming)
    label_studio: LabelStudio = field(default_factory=LabelStudio)
    labels: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise CorpusError(f"--scheme {self.scheme}: it is not one of {', '.join(SCHEMES)}.")
        if self.sentences < 0:
            raise CorpusError(f"--sentences {self.sentences}: it must not be negative.")


class Format(NamedTuple):
    """An annotation format.

    detect (Callable): Whether a path holds it. read (Callable): Its documents. hint (str): What it looks like.
    write (Optional[Callable]): Writes Docs to a path; None: it is `write_documents` that writes.
    write_documents (Optional[Callable]): Writes Documents, which know more than Docs.
    to_folder (bool): Whether that is to a folder; otherwise to a file, beside which it may write others.
    lost (Optional[Callable]): Of `write`: what a document says that the format has no place for.
    Both are None of what is read only.
    """

    detect: Callable[[Path], bool]
    read: Callable[[Path, Options], Iterator[Document]]
    hint: str
    write: Optional[Callable[[Iterable[Doc], Path, Options], None]] = None
    write_documents: Optional[Callable[[Iterable[Document], Path, Options], Iterator[Document]]] = None
    to_folder: bool = False
    lost: Optional[Callable[[Document], Iterable[Problem]]] = None

    @property
    def is_written(self) -> bool:
        return self.write is not None or self.write_documents is not None


def detect(path: Path) -> str:
    """Name of the format of a path.

    RAISES (CorpusError): There is no such path, or no format fits it.
    """
    if path == STANDARD:
        raise CorpusError("Standard input can be read once only: name its format with --from.")
    if not path.exists():
        raise CorpusError(f"{path}: there is no such file or folder.")
    for name, form in FORMATS.items():
        if form.detect(path):
            return name
    if path.is_dir() and not any(path.iterdir()):
        raise CorpusError(f"{path}: the folder is empty.")
    known = "; ".join(f"{name} ({form.hint})" for name, form in FORMATS.items())
    raise CorpusError(f"{path}: its format is not known. Name it with --from, if it is one of {known}.")


def read(path: Path, name: str = "", options: Options = Options()) -> Iterator[Document]:  # it is frozen
    """Documents of a path. name (str): Its format; "": found out. RAISES (CorpusError): It cannot be read."""
    return FORMATS[name or detect(path)].read(path, options)


def read_table(path: Path, options: Options = Options()) -> Iterator[Document]:  # it is frozen
    """Documents of a table: Parquet and saved data sets are told by what they are, all else is CSV."""
    name = next((name for name in ("parquet", "datasets") if FORMATS[name].detect(path)), "csv")
    return FORMATS[name].read(path, options)


def samples(path: Path, is_data: Callable[[str], bool]) -> Iterator[str]:
    """Whole lines at the beginning of the first files of a path, in a folder of those that may be data."""
    try:
        for file in itertools.islice(text_files(path, is_data=is_data), LOOKED_AT):
            if isinstance(file.text, io.TextIOWrapper):
                file.text.reconfigure(errors="replace")  # of which encoding it is may be said later
            found = file.text.read(SAMPLE)
            yield found if len(found) < SAMPLE else found[: found.rfind("\n") + 1]
    except CorpusError:
        pass


def with_others(
    documents: Iterator[Document],
    path: Path,
    wanted: Sequence[str] = (),
    is_data: Optional[Callable[[str], bool]] = None,
) -> Iterator[Document]:
    """Documents of a path; the first of them says which files of the folder were passed over."""
    for first in documents:
        for name in passed_over(path, wanted, is_data):
            message = "it is not of the format that is read here: passed over."
            first.problems.append(Problem(name, "file that was not read", message, lost=False))
        yield first
        break
    yield from documents


def _is_columns(path: Path) -> bool:
    if not path.exists() or path.suffix == ".spacy":
        return False
    return any("\0" not in found and looks_like_columns(found) for found in samples(path, may_be_columns))


def _read_columns(path: Path, options: Options) -> Iterator[Document]:
    word, *tags = options.columns or (None,)
    documents = read_columns(path, options.encoding, word, tags, options.sentences)  # type: ignore[arg-type]
    return with_others(documents, path, is_data=may_be_columns)


def _write_columns(docs: Iterable[Doc], path: Path, options: Options) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(write_columns(docs, options.spans, options.scheme))


def _is_spacy(path: Path) -> bool:
    return bool(_spacy_files(path)) if path.is_dir() else path.is_file() and path.suffix == ".spacy"


def _spacy_files(path: Path) -> List[Path]:
    """A .spacy file, or all of a folder."""
    return sorted(path.rglob("*.spacy")) if path.is_dir() else [path]


def read_docs(path: Path, vocab: spacy.vocab.Vocab) -> Iterator[Doc]:
    """Docs of a .spacy file. RAISES (CorpusError): It is not there, or not such a file."""
    if path.is_dir():
        raise CorpusError(f"{path}: it is a folder, not a .spacy file. Convert it first: crf-ner convert.")
    if not path.is_file():
        raise CorpusError(f"{path}: there is no such file.")
    try:
        yield from DocBin(store_user_data=True).from_disk(path).get_docs(vocab)
    except Exception as error:  # DocBin raises whatever zlib and msgpack do
        raise CorpusError(f"{path}: it is not a .spacy file ({error}).") from error


def read_spacy(path: Path, spans: str = "") -> Iterator[Tuple[Document, Doc]]:
    """Documents of a .spacy file or a folder of them, and the Docs that they were.

    spans (str): See `from_doc`. RAISES (CorpusError): A file is none; at the end: no Doc has this span group.
    """
    there: Set[str] = {"", "ents"}
    for file in _spacy_files(path):
        for number, doc in enumerate(read_docs(file, spacy.blank("xx").vocab), start=1):
            there.update(doc.spans)
            yield from_doc(doc, spans, f"{file.stem}-{number:06}"), doc
    if spans not in there:
        known = ", ".join(sorted(there - {""}))
        raise CorpusError(f"{path}: no document has the span group that --spans asks for, {spans}. There are {known}.")


def _without_docs(path: Path, spans: str) -> Iterator[Document]:
    """Documents alone, told of what their Docs have beside what was read."""
    for document, doc in read_spacy(path, spans):
        document.problems += lost_of_doc(doc, spans)
        yield document


def _write_spacy(docs: Iterable[Doc], path: Path, options: Options) -> None:
    binary = DocBin(store_user_data=True)
    for doc in docs:
        add_doc(binary, doc)
    binary.to_disk(path)


def add_doc(binary: DocBin, doc: Doc) -> None:
    """Add a Doc to those of a .spacy file. RAISES (CorpusError): It holds something that cannot stand there."""
    try:
        binary.add(doc)
    except (OverflowError, ValueError, TypeError) as error:  # those of msgpack
        raise CorpusError(
            f"{doc.user_data.get(ID)}: what is said beside its entities cannot stand in a .spacy file ({error})."
        ) from error


FORMATS: Dict[str, Format] = {
    "standoff": Format(
        is_standoff,
        lambda path, options: read_standoff(path),
        "brat: a folder of .txt and .ann files",
        write_documents=lambda documents, path, options: write_standoff(documents, path, options.labels),
        to_folder=True,
    ),
    "spacy": Format(
        _is_spacy,
        lambda path, options: _without_docs(path, options.spans),
        "spaCy's .spacy",
        _write_spacy,
    ),
    "label_studio": Format(
        is_label_studio,
        lambda path, options: with_others(
            read_label_studio(path, options.encoding, options.label_studio), path, is_data=may_be_export
        ),
        "exports of Label Studio: JSON, JSON_MIN, CSV, TSV",
        write_documents=lambda documents, path, options: write_label_studio(
            documents, path, options.label_studio, options.labels
        ),
    ),
    "jsonl": Format(
        is_jsonl,
        lambda path, options: with_others(read_jsonl(path, options.encoding, options.naming), path, jsonl.ENDINGS),
        "JSON lines or JSON: text and spans, or tokens and tags",
        write_documents=lambda documents, path, options: write_jsonl(documents, path),
    ),
    "csv": Format(
        is_csv,
        lambda path, options: with_others(read_csv(path, options.encoding, options.naming), path, tables.ENDINGS),
        "CSV or TSV with names of columns",
    ),
    "parquet": Format(is_parquet, lambda path, options: read_parquet(path, options.naming), "Parquet"),
    "datasets": Format(
        is_dataset, lambda path, options: read_dataset(path, options.naming), "save_to_disk of Hugging Face's datasets"
    ),
    "columns": Format(
        _is_columns, _read_columns, "CoNLL: a token and its tags a line", _write_columns, lost=lost_in_columns
    ),
    "text": Format(
        is_texts,
        lambda path, options: with_others(read_texts(path, options.encoding), path, (texts.ENDING,)),
        "plain text: a folder of .txt files, or a document a line",
    ),
}
