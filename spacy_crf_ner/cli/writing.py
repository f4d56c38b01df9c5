"""Corpora as commands write them: whole or not at all, in any format, to a file, a folder or standard output."""

import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Optional, Sequence

import spacy
import typer
from spacy.language import Language

from ..corpora.document import Document, Report
from ..corpora.files import STANDARD, CorpusError
from ..corpora.formats import FORMATS, Format, Options
from ..corpora.items import Item, as_docs
from ..corpora.placing import Placing
from .errors import refuse_compressed, umask, written_whole
from .options import check_format

# Endings of files of other formats are their names.
ENDINGS = {"columns": ".conll", "label_studio": ".json"}


@contextmanager
def written(output: Path) -> Iterator[Path]:
    """A path to write to, whose file then takes its name, or goes to standard output.

    What is written beside it goes beside OUTPUT, but for files that are there already.
    """
    if output.is_dir() and output != STANDARD:
        raise CorpusError(f"{output}: it is a folder, and a file is to be written there.")
    refuse_compressed(output)
    target = Path("output") if output == STANDARD else output
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=None if output == STANDARD else target.parent, prefix=".") as folder:
        beside = Path(folder) / target.name
        yield beside
        if output == STANDARD:
            with beside.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            return
        for made in sorted(Path(folder).iterdir()):
            place = target.parent / made.name
            if made != beside and place.exists():
                typer.echo(f"{place} is there already, and stays as it is.", err=True)
                continue
            made.chmod(0o666 & ~umask())
            made.replace(place)


@contextmanager
def written_folder(output: Path) -> Iterator[Path]:
    """A new folder to write to, which takes its name when it is whole."""
    if output == STANDARD or output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise CorpusError(f"{output}: OUTPUT must be a folder that is new or empty.")
    output.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}."))
    try:
        yield beside
        beside.chmod(0o777 & ~umask())
        if output.is_dir():
            output.rmdir()
        beside.replace(output)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def count(document: Document, counts: Report) -> None:
    """Count what became of a Document that was written as it is."""
    counts.documents += 1
    if document.annotated:
        counts.annotated += len(document.entities) + document.unread
        counts.kept += len(document.entities)
    counts.note(document.problems)


def write_documents(form: Format, documents: Iterable[Document], output: Path, options: Options = Options()) -> Report:
    """Write Documents in a format that takes them as they are. RETURNS (Report): What became of them."""
    assert form.write_documents is not None
    counts = Report()
    with written_folder(output) if form.to_folder else written(output) as beside:
        for document in form.write_documents(documents, beside, options):
            count(document, counts)
    return counts


def blank(lang: str) -> Language:
    """An empty pipeline that takes texts of any length. RAISES (CorpusError): spaCy has no such language."""
    try:
        nlp = spacy.blank(lang)
    except ImportError as error:
        raise CorpusError(
            f"--lang {lang}: spaCy has no such language. Use its two-letter code, or xx for none."
        ) from error
    nlp.max_length = 10**9
    return nlp


class CorpusWriter:
    """Writes corpora in one format.

    target (Optional[str]): The format; None: .spacy.
    lang (str): Whose tokenizer cuts texts that have no tokens. align, discontinuous (str): See `Placing`.
    options (Options): `spans` of Docs that are written as columns.
    RAISES (ValueError): There is no such format or language, or no such way to place entities.
    """

    def __init__(self, target: Optional[str], lang: str, align: str, discontinuous: str, options: Options) -> None:
        check_format("--to", target)
        self.format = target or "spacy"
        self._form = FORMATS[self.format]
        self._nlp = blank(lang)
        self._placing = Placing(alignment=align, discontinuous=discontinuous)  # type: ignore[arg-type]
        self._options = options

    @property
    def ending(self) -> str:
        """What names of files of this format end in; a folder's in nothing."""
        return "" if self._form.to_folder else ENDINGS.get(self.format, f".{self.format}")

    def check(self, output: Path) -> None:
        """RAISES (CorpusError): OUTPUT cannot be written in this format."""
        if self.format == "spacy" and output.suffix != ".spacy":
            raise CorpusError(f"{output}: OUTPUT must end in .spacy, or another format be named with --to.")
        if self._form.to_folder and output.exists() and (output.is_file() or any(output.iterdir())):
            raise CorpusError(f"{output}: OUTPUT must be a folder that is new or empty.")

    def write(self, items: Iterable[Item], output: Path) -> Report:
        """Write documents. RETURNS: What became of their annotations."""
        if self._form.write is None:
            return write_documents(self._form, (item.document for item in items), output, self._options)
        counts = Report()
        if self._form.lost is not None:
            items = list(items)
            counts.note(problem for item in items for problem in self._form.lost(item.document))
        docs = list(as_docs(items, self._nlp.make_doc, self._placing, counts))
        with written_whole(output) as beside:
            self._form.write(docs, beside, self._options)
        return counts


def summarize(counts: Sequence[Report]) -> None:
    """Say what was wrong with annotations on their way into the output."""
    whole = Report()
    for count in counts:
        whole.documents += count.documents
        whole.annotated += count.annotated
        whole.kept += count.kept
        whole.note(count.problems)
    for line in whole.summary() if whole.problems else []:
        typer.echo(line, err=True)


def write_parts(
    writer: CorpusWriter, parts: Dict[str, List[Item]], folder: Path, before: Sequence[str]
) -> List[Report]:
    """Write the parts of a corpus into a folder, each under its name; all of them, or none.

    before (Sequence[str]): Files and folders that an earlier run has left there, which are removed: they would overlap
        with the new parts.
    RAISES (CorpusError): Something else stands in the way.
    """
    names = {name: f"{name}{writer.ending}" for name, items in parts.items() if items}
    for name in names.values():
        if (folder / name).is_dir() and name not in before:
            raise CorpusError(f"{folder / name}: it is there already, and no earlier split has made it.")
    folder.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=folder, prefix=".split."))
    try:
        reports = [writer.write(parts[part], beside / name) for part, name in names.items()]
        for name in before:
            _remove(folder / name)
        for name in names.values():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (beside / name).replace(folder / name)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    for old in {(folder / name).parent for name in before} - {folder}:
        if old.is_dir() and not any(old.iterdir()):
            old.rmdir()
    return reports


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
