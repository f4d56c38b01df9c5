"""Documents as records: our own form, from which `records` makes the same Documents."""

from typing import Any, Dict, List, Mapping, Sequence

from .document import Document, Entity, fields_of
from .records import REFUSED, TAKEN


def to_record(document: Document) -> Dict[str, Any]:
    """A Document as a record: our own form, from which `RecordReader` makes the same Document.

    RETURNS (Dict[str, Any]): `text` and `spans` as Prodigy and others have them, and beside them all else there is.
    """
    record: Dict[str, Any] = {"id": document.id, "text": document.text}
    if document.group:
        record["group"] = document.group
    if document.tokens is not None:
        record["tokens"] = _written_tokens(document)
        if document.sentences:
            record["sentences"] = document.sentences
        if document.unknown:
            record["unknown"] = document.unknown
    starts = {start: i for i, (start, _) in enumerate(document.tokens or [])}
    ends = {end: i for i, (_, end) in enumerate(document.tokens or [])}
    if document.annotated or document.entities:
        record["spans"] = [_written_span(entity, starts, ends) for entity in document.entities]
    if not document.annotated or document.data.get("answer") in REFUSED:
        record["annotated"] = document.annotated
    if document.links:
        record["links"] = [_written(fields_of(link), ("kind", "label", "arguments")) for link in document.links]
    free = {key: value for key, value in document.data.items() if key not in TAKEN}
    record.update(free)
    if len(free) < len(document.data):
        record["data"] = {key: value for key, value in document.data.items() if key in TAKEN}
    return record


def _written(values: Dict[str, Any], always: Sequence[str]) -> Dict[str, Any]:
    return {key: value for key, value in values.items() if key in always or value not in ("", None, [], {})}


def _written_tokens(document: Document) -> List[Dict[str, Any]]:
    tokens = document.tokens or []
    follows = [start for start, _ in tokens[1:]] + [len(document.text)]
    return [
        {"text": document.text[start:end], "start": start, "end": end, "id": i, "ws": end < after}
        for i, ((start, end), after) in enumerate(zip(tokens, follows))
    ]


def _written_span(entity: Entity, starts: Mapping[int, int], ends: Mapping[int, int]) -> Dict[str, Any]:
    span: Dict[str, Any] = {"start": entity.start, "end": entity.end, "label": entity.label}
    if entity.start in starts and entity.end in ends:
        span.update(token_start=starts[entity.start], token_end=ends[entity.end])
    if len(entity.fragments) > 1:
        span["fragments"] = [list(fragment) for fragment in entity.fragments]
    values = {name: getattr(entity, name) for name in ("id", "attributes", "notes", "score", "origin")}
    return {**span, **_written(values, ())}
