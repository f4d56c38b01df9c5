"""What a document says that a format has no place for: told before it is written, so nothing is lost in silence."""

import re
from typing import Iterator, Optional

from spacy.tokens import Doc

from .document import Document, Entity, Problem
from .placing import ALL_ENTITIES, ID

WHITE = re.compile(r"\s")
LINE_OR_TAB = re.compile(r"[\r\n\t]")


def lost_of_doc(doc: Doc, spans: str = "") -> Iterator[Problem]:
    """What `placing.from_doc` does not read of a Doc's spans.

    spans (str): Which it reads: see there.
    """
    name = str(doc.user_data.get(ID, ""))
    taken = spans or (ALL_ENTITIES if ALL_ENTITIES in doc.spans else "ents")
    groups = {"ents": list(doc.ents), **{key: list(group) for key, group in doc.spans.items()}}
    read = groups.get(taken, [])
    known = {(span.start, span.end, span.label) for span in read}
    for key, group in groups.items():
        others = sum((span.start, span.end, span.label) not in known for span in group)
        if others:
            message = f"{key} has {others:,} spans that {taken} has not: not read. --spans {key} reads them."
            yield Problem(name, "spans that were not asked for", message, lost=False)
    if any(span.kb_id or span.id for span in read):
        yield Problem(name, "ids of spans, not read", "kb_id_ and id_ of spans are not read.", lost=False)


def lost_in_columns(document: Document) -> Iterator[Problem]:
    """What a token and its tags a line cannot say; the report has a line for each kind."""
    for entity in document.entities:
        names = [name for name in ("attributes", "notes", "origin") if getattr(entity, name)]
        names += ["score"] if entity.score is not None else []
        if names:
            message = f"entity {entity.id} ({entity.label}) has {', '.join(names)}: not written."
            yield _of(document, entity, "said of an entity, not written", message)
    if document.links:
        message = f"{len(document.links):,} relations and the like: not written."
        yield _of(document, None, "relations and the like, not written", message)
    if document.data or document.group:
        names = [*(["group"] if document.group else []), *document.data]
        message = f"what is said of {document.id} ({', '.join(names)[:80]}): not written."
        yield _of(document, None, "said of a document, not written", message)
    words = document.text.split() if document.tokens is None else [document.text[a:b] for a, b in document.tokens]
    if document.text != " ".join(words) or document.tokens is None:
        message = f"the text of {document.id} becomes words with a single space between them."
        yield _of(document, None, "white space that is not kept", message)


def lost_in_standoff(document: Document) -> Iterator[Problem]:
    """What brat's files cannot say, or not so."""
    if document.data or document.group:
        names = [*(["group"] if document.group else []), *document.data]
        message = f"what is said of {document.id} ({', '.join(names)[:80]}): not written."
        yield _of(document, None, "said of a document, not written", message)
    for entity in document.entities:
        name = f"entity {entity.id} ({entity.label})"
        if WHITE.search("".join([entity.label, *entity.attributes])):
            message = f"{name}: white space in names of labels and attributes became _."
            yield _of(document, entity, "name that brat cannot have", message)
        changed = [key for key, value in entity.attributes.items() if not isinstance(value, (str, bool))]
        changed = [key for key in changed if entity.attributes[key] is not None]
        if changed:
            message = f"{name}: values that are no text became text: {', '.join(changed)}."
            yield _of(document, entity, "value that became text", message)
        said = [*entity.notes, entity.origin, *map(str, entity.attributes.values())]
        if any(LINE_OR_TAB.search(text) for text in said):
            message = f"{name}: line ends and tabs in notes and values became spaces."
            yield _of(document, entity, "text that became one line", message)
    nameless = [link for link in document.links if not link.id and (link.attributes or link.notes)]
    if nameless:
        message = f"{len(nameless):,} relations and the like have no id, so what is said of them is not written."
        yield _of(document, None, "said of a relation, not written", message)


def _of(document: Document, entity: Optional[Entity], kind: str, message: str) -> Problem:
    where = document.place(entity) if entity is not None else document.source or document.id
    return Problem(where, kind, message, lost=False)
