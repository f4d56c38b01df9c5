"""Documents of a corpus on their way from one file to another, with nothing lost between two files of spaCy's."""

from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Set

from spacy.tokens import Doc

from .document import Document, Report
from .formats import FORMATS, Options, read_spacy
from .placing import Placing, to_doc


class Item(NamedTuple):
    """A document. doc (Optional[Doc]): As it stood in a .spacy file, with all that a Document does not say."""

    document: Document
    doc: Optional[Doc] = None


def read_items(path: Path, name: str, options: Options) -> Iterator[Item]:
    """Documents of a path. name (str): Its format. RAISES (CorpusError): It cannot be read."""
    if name != "spacy":
        for document in FORMATS[name].read(path, options):
            yield Item(document)
        return
    yield from (Item(*pair) for pair in read_spacy(path, options.spans))


def as_docs(
    items: Iterable[Item], make_doc: Callable[[str], Doc], placing: Placing, report: Optional[Report] = None
) -> Iterator[Doc]:
    """The Docs of documents; those that have none are put on tokens.

    make_doc, placing, report: See `placing.to_doc`.
    """
    for item in items:
        if item.doc is not None:
            if report is not None:
                report.documents += 1
                report.annotated += len(item.document.entities)
                report.kept += len(item.document.entities)
            yield item.doc
        else:
            yield to_doc(item.document, make_doc, placing, report)


def said_by(item: Item, key: str) -> Any:
    """What a document says under a key of its data, its `doc.user_data` or its extensions; None: nothing."""
    if key == "group" and item.document.group:
        return item.document.group
    if key in item.document.data:
        return item.document.data[key]
    if item.doc is None:
        return None
    user_data: Dict[Any, Any] = item.doc.user_data
    extension = user_data.get(("._.", key, None, None))
    return user_data.get(key) if extension is None else extension


def clashes(items: Sequence[Item]) -> List[str]:
    """Ids that more than one document has, each once."""
    seen: Set[str] = set()
    twice: Dict[str, None] = {}
    for item in items:
        if item.document.id in seen:
            twice[item.document.id] = None
        seen.add(item.document.id)
    return list(twice)
