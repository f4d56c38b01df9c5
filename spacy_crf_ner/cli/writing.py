"""Corpora as commands write them: whole or not at all, in any format."""

import shutil
import tempfile
from pathlib import Path
from typing import Dict, Iterable, List, Optional, Sequence

import typer

from ..corpora.document import Report
from ..corpora.files import CorpusError
from ..corpora.formats import FORMATS, Options
from ..corpora.items import Item, as_docs
from ..corpora.placing import Placing
from .convert import blank, write_documents
from .errors import written_whole
from .options import check_format

# Endings of files of other formats are their names.
ENDINGS = {"columns": ".conll", "label_studio": ".json"}


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
