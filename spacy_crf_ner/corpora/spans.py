"""Spans of records, and relations between them, in whatever form, as entities and links."""

import itertools
from typing import Any, List, Mapping, Optional, Sequence

from .document import Document, Entity, Link, Problem
from .tokens import Place

START = ("start", "start_offset", "start_char", "begin")
END = ("end", "end_offset", "end_char")
LABEL = ("label", "type", "tag", "entity_group", "entity")
SAID = ("text", "value")


def is_offset(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def are_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def utf16(text: str) -> List[int]:
    """The character that each unit of a text's UTF-16 belongs to, as JavaScript and Java count, and its length."""
    units = [i for i, character in enumerate(text) for _ in range(1 + (character > "\uffff"))]
    return [*units, len(text)]


def needs_utf16(text: str, spans: Sequence[Any]) -> bool:
    """Whether spans that say their text say it only if their offsets count units of UTF-16."""
    places = [(ends(given), _text_said(given)) for given in map(_as_mapping, spans)]
    said = [(place, words) for place, words in places if place is not None and words is not None]
    if all(text[start:end].split() == words.split() for (start, end), words in said):
        return False
    at = utf16(text)
    inside = all(0 <= start <= end < len(at) for (start, end), _ in said)
    return inside and all(text[at[start] : at[end]].split() == words.split() for (start, end), words in said)


def take_span(
    document: Document,
    span: Any,
    where: str,
    line: int,
    names: Sequence[str] = (),
    units: Optional[Sequence[int]] = None,
) -> None:
    """Make an entity of a span, or report a problem.

    where (str): What messages call its place. names (Sequence[str]): Of labels that are numbers.
    units (Optional[Sequence[int]]): See `utf16`; None: offsets count characters.
    """

    def wrong(kind: str, message: str) -> None:
        document.problems.append(Problem(where, kind, f"{message}: left out."))
        document.unread += 1

    given = _as_mapping(span)
    fragments = _fragments(given)
    label = _label(given, names)
    said = f"the span {str(span)[:80]}"
    if fragments is None or label is None:
        wrong("malformed span", f"{said} has no label, or not the numbers of its first character and its end")
        return
    if units is not None and all(0 <= at < len(units) for fragment in fragments for at in fragment):
        fragments = [(units[start], units[end]) for start, end in fragments]
    text = _text_said(given)
    (start, end), *more = fragments
    if text and not more and 0 <= start <= end and document.text[start:end] != text == document.text[start : end + 1]:
        fragments = [(start, end + 1)]
        message = f'"{text[:60]}": its end is that of its last character; it was taken to be the one after.'
        document.problems.append(Problem(where, "end that is inclusive", message, False))
    for start, end in fragments:
        if start >= end:
            wrong("empty or reversed", f"{said} goes from character {start} to {end}")
            return
        if start < 0 or end > len(document.text):
            wrong(
                "offsets out of range", f"{said} does not lie in the text, which has {len(document.text):,} characters"
            )
            return
    covered = " ".join(document.text[start:end] for start, end in fragments)
    if text is not None and covered.split() != text.split():
        wrong("text that differs", f'{said} says "{text[:60]}", but its characters are "{covered[:60]}"')
        return
    document.entities.append(_entity(given, label, fragments, line))


def _as_mapping(span: Any) -> Mapping[str, Any]:
    if isinstance(span, list):
        more = span[3:]
        kb_id = {"kb_id": more[0] if len(more) == 1 else more} if more else {}
        return dict(zip(("start", "end", "label"), span), **kb_id)
    return span if isinstance(span, dict) else {}


def _text_said(given: Mapping[str, Any]) -> Optional[str]:
    return next((given[key] for key in SAID if isinstance(given.get(key), str)), None)


def _first(given: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((given[name] for name in names if name in given), None)


def ends(given: Mapping[str, Any]) -> Optional[Place]:
    """First character and last + 1 of a span or a token; None: it does not say them."""
    inner = given.get("span")
    given = inner if isinstance(inner, dict) else given
    start, end = _first(given, START), _first(given, END)
    return (start, end) if is_offset(start) and is_offset(end) else None


def _fragments(given: Mapping[str, Any]) -> Optional[List[Place]]:
    fragments = given.get("fragments")
    if fragments is None:
        whole = ends(given)
        return [whole] if whole else None
    if not isinstance(fragments, list) or not fragments:
        return None
    if not all(isinstance(part, list) and len(part) == 2 and all(map(is_offset, part)) for part in fragments):
        return None
    return [(start, end) for start, end in fragments]


def _label(given: Mapping[str, Any], names: Sequence[str]) -> Optional[str]:
    label = _first(given, LABEL)
    if is_offset(label) and 0 <= label < len(names):
        return names[label]
    return label if isinstance(label, str) and label.strip() else None


def _entity(given: Mapping[str, Any], label: str, fragments: List[Place], line: int) -> Entity:
    entity = Entity(label, fragments, line=line)
    rest = {key: value for key, value in given.items() if key not in ("token_start", "token_end", "fragments")}
    inner = rest.pop("span") if isinstance(rest.get("span"), dict) else None
    used = [next((key for key in names if key in rest), None) for names in (LABEL, SAID)]
    if inner is None:
        used += [next((key for key in names if key in rest), None) for names in (START, END)]
    for key in used:
        if key is not None and (key not in SAID or isinstance(rest[key], str)):
            del rest[key]
    if is_offset(rest.get("id")) or isinstance(rest.get("id"), str):
        entity.id = str(rest.pop("id"))
    score = rest.get("score")
    if isinstance(score, (int, float)) and not isinstance(score, bool):
        entity.score = float(rest.pop("score"))
    for key in ("origin", "source"):
        if isinstance(rest.get(key), str) and not entity.origin:
            entity.origin = rest.pop(key)
    if are_words(rest.get("notes")):
        entity.notes = list(rest.pop("notes"))
    attributes = rest.pop("attributes") if isinstance(rest.get("attributes"), dict) else {}
    entity.attributes = {**{key: value for key, value in rest.items() if value not in ("", None)}, **attributes}
    return entity


def is_link(value: Any) -> bool:
    """Whether something is a link as our own form has it."""
    return (
        isinstance(value, dict)
        and all(isinstance(value.get(key, ""), str) for key in ("kind", "label", "id", "text"))
        and bool(value.get("kind"))
        and isinstance(value.get("arguments"), list)
        and all(are_words(pair) and len(pair) == 2 for pair in value["arguments"])
        and isinstance(value.get("attributes", {}), dict)
        and are_words(value.get("notes", []))
        and set(value) <= {"kind", "label", "arguments", "id", "text", "attributes", "notes"}
    )


def to_link(value: Mapping[str, Any]) -> Link:
    """A link as our own form has it, for which `is_link` holds."""
    arguments = [(role, name) for role, name in value["arguments"]]
    return Link(**{"label": "", **value, "arguments": arguments})


def take_relation(document: Document, relation: Any) -> bool:
    """A relation of doccano's or Prodigy's as a link. RETURNS (bool): It joins two entities of the document."""
    if not isinstance(relation, dict):
        return False
    label = _first(relation, ("type", "label"))
    joined: List[Entity] = []
    for name, span in (("from_id", "head_span"), ("to_id", "child_span")):
        if name in relation:
            found = [entity for entity in document.entities if entity.id == str(relation[name])]
        else:
            place = _as_mapping(relation.get(span))
            found = [entity for entity in document.entities if entity.fragments == [ends(place)]]
            found.sort(key=lambda entity, place=place: entity.label != place.get("label"))  # type: ignore[misc]
        joined += found[:1]
    if len(joined) < 2 or not isinstance(label, str) or not label.strip():
        return False
    taken = {entity.id for entity in document.entities}
    for entity in joined:
        if not entity.id:
            entity.id = next(name for name in (f"T{i}" for i in itertools.count(1)) if name not in taken)
            taken.add(entity.id)
    id = relation.get("id")
    name = f"R{id}" if is_offset(id) or isinstance(id, str) else ""
    known = {"type", "label", "id", "from_id", "to_id", "head_span", "child_span", "head", "child", "color"}
    attributes = {key: value for key, value in relation.items() if key not in known}
    arguments = [("Arg1", joined[0].id), ("Arg2", joined[1].id)]
    document.links.append(Link("relation", label, arguments, name, attributes=attributes))
    return True
