"""Where characters meet tokens: from a Document to a Doc and back, in one place for all formats."""

from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Callable, Dict, FrozenSet, Iterator, List, Literal, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
from spacy.tokens import Doc, Span, SpanGroup
from spacy.vocab import Vocab

from ..tagging import UNPLACED, trim_spaces
from .document import Document, Entity, Link, Report, fields_of

ALL_ENTITIES = "entities"
# Keys of doc.user_data: what a document is called, what it belongs to, and what tokens cannot say of its annotations.
ID, GROUP, DATA, ANNOTATIONS = "id", "group", "data", "annotations"
# The extension of spans that holds annotators' notes; attributes have their own names.
NOTES = "notes"

SpanSetter = Union[str, Sequence[str], Mapping[str, Union[bool, str, Sequence[str]]]]
Alignment = Literal["expand", "contract", "strict"]
Discontinuous = Literal["skip", "merge", "split", "first"]
ALIGNMENTS = ("expand", "contract", "strict")
DISCONTINUOUS = ("skip", "merge", "split", "first")
LEFT_OUT = "left out"
Place = Tuple[int, int, str]


@dataclass(frozen=True)
class Placing:
    """How entities are put on tokens.

    setter (SpanSetter): Where they go: "ents" or a span group; a list of them; or such names with True or a list of
        the labels that go there, and labels with the one name where they go. `doc.ents` takes the longest of those
        that overlap.
    alignment (str): What becomes of an entity that begins or ends inside a token: "expand": it is widened to whole
        tokens; "contract": it shrinks to those that it covers; "strict": it is left out.
    discontinuous (str): What becomes of one in several parts: "skip": it is left out; "merge": one entity from the
        first character to the last; "split": an entity for each part; "first": its first part alone.
    RAISES (ValueError): A setting is none of these, or no place is given.
    """

    setter: SpanSetter = ("ents", ALL_ENTITIES)
    alignment: Alignment = "expand"
    discontinuous: Discontinuous = "skip"

    def __post_init__(self) -> None:
        if self.alignment not in ALIGNMENTS:
            raise ValueError(f'alignment = "{self.alignment}" is not one of {", ".join(ALIGNMENTS)}.')
        if self.discontinuous not in DISCONTINUOUS:
            raise ValueError(f'discontinuous = "{self.discontinuous}" is not one of {", ".join(DISCONTINUOUS)}.')
        if not self.setter:
            raise ValueError('span_setter is empty: name "ents", a span group, or both.')
        for key, value in self._by_key().items():
            if (
                not isinstance(value, (bool, str, Sequence))
                or value == ""
                or (key == "ents" and isinstance(value, str))
            ):
                raise ValueError(
                    f"span_setter.{key} = {value!r}: a place has true or a list of the labels that go there, and a "
                    'label has the name of the place where it goes, as in {"ents": true, "drugs": ["DRUG"], '
                    '"PERSON": "people"}.'
                )

    def _by_key(self) -> Mapping[str, Union[bool, str, Sequence[str]]]:
        setter = (self.setter,) if isinstance(self.setter, str) else self.setter
        return setter if isinstance(setter, Mapping) else dict.fromkeys(setter, True)

    def names(self) -> List[str]:
        """All places, each once."""
        return list(dict.fromkeys(value if isinstance(value, str) else key for key, value in self._by_key().items()))

    def of(self, label: str) -> FrozenSet[str]:
        """The places where entities of a label go."""
        found = set()
        for key, value in self._by_key().items():
            if isinstance(value, str):
                found.update([value] if key == label else [])
            elif value is True or (value and label in value):
                found.add(key)
        return frozenset(found)


def to_doc(
    document: Document,
    make_doc: Callable[[str], Doc],
    placing: Placing = Placing(),  # it is frozen
    report: Optional[Report] = None,
) -> Doc:
    """Put a Document's entities on tokens.

    make_doc (Callable): From text to an empty Doc: `nlp.make_doc`, or `nlp` itself.
    report (Optional[Report]): Is brought up to date.
    RETURNS (Doc): Its tokens are those of the file, where it has any. Attributes are in `span._` under their own
        names, notes in `span._.notes`, and all else that tokens cannot say in `doc.user_data`, for `from_doc`. The
        parts of an entity that cannot be placed are missing values in `doc.ents`, and in
        `doc.spans[group].attrs["unplaced"]` as (first character, last + 1, label): unknown to training, and missed
        gold to the scorer.
    """
    doc = make_doc(document.text) if document.tokens is None else _with_tokens(document, make_doc("").vocab)
    doc.user_data.update({ID: document.id, **({GROUP: document.group} if document.group else {})})
    if document.data:
        doc.user_data[DATA] = document.data
    if report is not None:
        report.documents += 1
        report.links.update(link.kind for link in document.links)
        report.annotated += document.unread + (len(document.entities) if document.annotated else 0)
    if document.annotated:
        kept = _set_entities(document, doc, placing)
        if report is not None:
            report.kept += kept
    if report is not None:
        report.note(document.problems)
    return doc


def _with_tokens(document: Document, vocab: Vocab) -> Doc:
    """A Doc of the tokens that the file has, which are separated by at most one space."""
    tokens = document.tokens or []
    words = [document.text[start:end] for start, end in tokens]
    follows = [start for start, _ in tokens[1:]] + [len(document.text)]
    spaces = [end < after for (_, end), after in zip(tokens, follows)]
    begins = set(document.sentences)
    sent_starts = [i in begins for i in range(len(words))] if begins else None
    return Doc(vocab, words=words, spaces=spaces, sent_starts=sent_starts)  # type: ignore[arg-type]


class Tokens:
    """Where the tokens of a Doc are in its text; much faster than asking each of them.

    starts, ends (List[int]): First character and last + 1 of each. is_space (np.ndarray): Which are white space, bool.
    """

    def __init__(self, doc: Doc) -> None:
        starts, lengths, is_space = doc.to_array(["IDX", "LENGTH", "IS_SPACE"]).astype(np.int64).T
        self.starts: List[int] = starts.tolist()
        self.ends: List[int] = (starts + lengths).tolist()
        self.is_space = is_space.astype(bool)
        self._first = {start: i for i, start in enumerate(self.starts)}
        self._last = {end: i for i, end in enumerate(self.ends, start=1)}

    def span(self, start: int, end: int) -> Optional[Tuple[int, int]]:
        """The tokens that are exactly these characters; None: there are none."""
        first, last = self._first.get(start), self._last.get(end)
        return None if first is None or last is None or first >= last else (first, last)

    def trimmed(self, start: int, end: int) -> Optional[Tuple[int, int]]:
        """Tokens without white space at both ends; None: there are none but white space."""
        if start < end and not self.is_space[start] and not self.is_space[end - 1]:
            return start, end
        return trim_spaces(start, end, self.is_space)

    def characters(self, place: Place) -> Tuple[int, int]:
        start, end, _ = place
        return self.starts[start], self.ends[end - 1]


def _set_entities(document: Document, doc: Doc, placing: Placing) -> int:
    """RETURNS (int): How many entities are on tokens now."""
    tokens = Tokens(doc)
    by_place: Dict[Place, Entity] = {}
    placed: List[Tuple[Entity, List[Place]]] = []
    unplaced: List[Tuple[int, int, str]] = []
    homes = {label: placing.of(label) for label in {entity.label for entity in document.entities}}
    for entity in document.entities:
        if not homes[entity.label]:
            message = f"{_name(entity)}: span_setter has no place for its label: {LEFT_OUT}."
            document.report(entity, "label without a place", message)
            continue
        parts = _parts(document, entity, placing.discontinuous)
        places: List[Place] = []
        repeats = False
        for part in parts:
            place = _place(document, entity, part, doc, tokens, placing.alignment)
            if place is None:
                unplaced.append((*part, entity.label))
            else:
                places.append(place)
                repeats |= by_place.setdefault(place, entity) is not entity
        if not parts:
            unplaced += [(start, end, entity.label) for start, end in entity.fragments]
        if repeats:
            message = f"{_name(entity)} repeats another one."
            document.report(entity, "the same entity twice", message, lost=False)
        placed.append((entity, places))
    spans = {place: Span(doc, place[0], place[1], label=place[2]) for place in sorted(by_place, key=_in_order)}
    for name in placing.names():
        here = {place: span for place, span in spans.items() if name in homes[place[2]]}
        gone_here = [part for part in unplaced if name in homes[part[2]]]
        if name == "ents":
            _set_ents(document, doc, here, gone_here, by_place, tokens)
        else:
            attrs = {UNPLACED: [list(part) for part in gone_here]} if gone_here else {}
            doc.spans[name] = SpanGroup(doc, name=name, attrs=attrs, spans=list(here.values()))
    _set_extensions(spans, by_place)
    _note(document, doc, placed, tokens)
    return len({id(entity) for entity in by_place.values()})


def _in_order(place: Place) -> Tuple[int, int, str]:
    start, end, label = place
    return start, -end, label


def _name(entity: Entity) -> str:
    return f"entity {entity.id} ({entity.label})" if entity.id else f"an entity ({entity.label})"


def _parts(document: Document, entity: Entity, discontinuous: Discontinuous) -> List[Tuple[int, int]]:
    """Which characters of an entity are to be put on tokens; none: it is left out."""
    if len(entity.fragments) == 1:
        return entity.fragments
    text = " … ".join(document.text[a:b] for a, b in entity.fragments)
    becomes: Dict[str, Tuple[str, List[Tuple[int, int]]]] = {
        "skip": (LEFT_OUT, []),
        "merge": ("it became one from its first character to its last", [(entity.start, entity.end)]),
        "split": ("each part became an entity", entity.fragments),
        "first": ("its first part alone was kept", entity.fragments[:1]),
    }
    fate, parts = becomes[discontinuous]
    document.report(
        entity,
        "discontinuous entity",
        f'{_name(entity)}, "{text}", has {len(entity.fragments)} parts: {fate}.',
        lost=not parts,
    )
    return parts


def _place(
    document: Document, entity: Entity, part: Tuple[int, int], doc: Doc, tokens: Tokens, alignment: Alignment
) -> Optional[Place]:
    """The tokens of a part of an entity, or None with a problem reported."""
    found = tokens.span(*part)
    if found is not None and not document.text[part[0]].isspace() and not document.text[part[1] - 1].isspace():
        return (*found, entity.label)  # as most are
    name, whole = _name(entity), len(entity.fragments) == 1
    # by hand rather than char_span, since white space at the ends may be inside a token
    text = document.text[part[0] : part[1]]
    start = part[0] + len(text) - len(text.lstrip())
    end = part[1] - len(text) + len(text.rstrip())
    if start >= end:
        document.report(entity, "only white space", f"{name} covers white space only: {LEFT_OUT}.", lost=whole)
        return None
    found = tokens.span(start, end)
    inside = found is None
    if inside and alignment != "strict":
        span = doc.char_span(start, end, alignment_mode=alignment)
        found = None if span is None else (span.start, span.end)
    trimmed = None if found is None else tokens.trimmed(*found)
    if trimmed is None and inside and alignment != "expand":
        message = f'{name}, "{text}", begins or ends inside a token: {LEFT_OUT}.'
        document.report(entity, "ends inside a token", message, lost=whole)
        return None
    if trimmed is None:
        document.report(entity, "only white space", f"{name} covers white space only: {LEFT_OUT}.", lost=whole)
        return None
    if inside:
        done = "widened to whole tokens" if alignment == "expand" else "shrunk to whole tokens"
        now = doc[trimmed[0] : trimmed[1]].text
        message = f'{name}, "{text}", begins or ends inside a token: it became "{now}".'
        document.report(entity, done, message, lost=False)
    elif (start, end) != part:
        message = f'{name}, "{text}": the white space at its ends was taken off.'
        document.report(entity, "white space at the ends", message, lost=False)
    return (*trimmed, entity.label)


def _set_ents(
    document: Document,
    doc: Doc,
    spans: Dict[Place, Span],
    unplaced: List[Tuple[int, int, str]],
    by_place: Dict[Place, Entity],
    tokens: Tokens,
) -> None:
    """Of entities that overlap the longest, of equal ones the first. spans: In the order of `_in_order`."""
    flat: List[Place] = []
    taken = bytearray(len(doc))
    for place in sorted(spans, key=lambda place: place[0] - place[1]):
        start, end, _ = place
        if not any(taken[start:end]):
            taken[start:end] = b"\1" * (end - start)
            flat.append(place)
    for place in sorted({*spans} - {*flat}, key=_in_order):
        entity = by_place[place]
        message = f'{_name(entity)}, "{spans[place].text}", is in the span groups, not in doc.ents.'
        document.report(entity, "overlap with a longer entity", message, lost=False)
    touched = set(document.unknown)
    for first, last, _ in unplaced:
        touched.update(range(bisect_right(tokens.ends, first), bisect_left(tokens.starts, last)))
    missing = [doc[i : i + 1] for i in sorted(touched) if not taken[i]]
    doc.set_ents([spans[place] for place in flat], missing=missing, default="outside")


def _set_extensions(spans: Dict[Place, Span], by_place: Dict[Place, Entity]) -> None:
    """Attributes and notes, as custom attributes of the spans."""
    for place, entity in by_place.items():
        values = {**entity.attributes, **({NOTES: entity.notes} if entity.notes else {})}
        for name, value in values.items():
            if not Span.has_extension(name):
                Span.set_extension(name, default=None)
            if Span.get_extension(name)[2] is None:  # one with a getter is somebody else's
                spans[place]._.set(name, value)


def _note(document: Document, doc: Doc, placed: Sequence[Tuple[Entity, List[Place]]], tokens: Tokens) -> None:
    """Write down what tokens cannot say: links, and of entities all but the characters and labels of whole tokens."""
    noted: List[Dict[str, Any]] = []
    named: List[Tuple[str, int, int, str]] = []
    for entity, places in placed:
        more: Dict[str, Any] = {"id": entity.id} if entity.id else {}
        if entity.attributes:
            more["attributes"] = dict(entity.attributes)
        if entity.notes:
            more["notes"] = list(entity.notes)
        if entity.score is not None:
            more["score"] = entity.score
        if entity.origin:
            more["origin"] = entity.origin
        if [tokens.characters(place) for place in places] != entity.fragments:
            more["fragments"] = [list(fragment) for fragment in entity.fragments]
        if len(more) == 1 and entity.id and len(places) == 1:
            named.append((entity.id, *places[0]))  # most: in short
        elif more:
            noted.append({"label": entity.label, "tokens": [[start, end] for start, end, _ in places], **more})
    if noted or named or document.links:
        links = [fields_of(link) for link in document.links]
        doc.user_data[ANNOTATIONS] = {"entities": noted, "named": named, "links": links}


def noted_entities(notes: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """What was written down of entities (`doc.user_data["annotations"]`), each with its "label" and "tokens"."""
    for name, start, end, label in notes.get("named", ()):
        yield {"label": label, "tokens": [[start, end]], "id": name}
    yield from notes.get("entities", ())


def from_doc(doc: Doc, spans: str = "", id: str = "") -> Document:
    """A Document of what a Doc has now, with what was written down of its annotations where that still holds.

    spans (str): Where its entities are: "ents" or a span group; not given: the group "entities" where there is one,
        otherwise `doc.ents`. A Doc without a group that is asked for is not annotated.
    id (str): What it is called where the Doc does not say it.
    RETURNS (Document): Entities that were read and are still there have their characters, ids, attributes and notes;
        so have those that had no place on tokens. Probabilities of the group become scores.
    """
    group = doc.spans.get(spans or ALL_ENTITIES) if spans != "ents" else None
    # a group that is asked for and not there says nothing of doc.ents
    by_ents = group is None and spans in ("", "ents")
    annotated = group is not None or (by_ents and doc.has_annotation("ENT_IOB"))
    here = list(group) if group is not None else list(doc.ents) if by_ents else []
    scores = list(group.attrs.get("scores", [])) if group is not None else []
    left: Dict[Place, Optional[float]] = {}
    for span, score in zip_longest(here, scores[: len(here)]):
        left[span.start, span.end, span.label_] = None if score is None else float(score)
    present = set(left)
    tokens = Tokens(doc)
    notes = doc.user_data.get(ANNOTATIONS, {})
    said = _extensions(doc)
    alone = Counter((span.start, span.end) for span in here)
    entities = []
    for noted in noted_entities(notes):
        entity = _entity(noted, tokens)
        places = [(start, end, entity.label) for start, end in noted["tokens"]]
        if all(place in present for place in places):
            entities.append(entity)
            if len(places) == 1 and alone[places[0][:2]] == 1:
                _read_extensions(entity, said.get(tokens.characters(places[0]), {}))
        for place in places:
            left.pop(place, None)  # two may have become the same
    for place, score in left.items():
        entity = Entity(place[2], [tokens.characters(place)], score=score)
        _read_extensions(entity, said.get(entity.fragments[0], {}))
        entities.append(entity)
    entities.sort(key=lambda entity: (entity.start, -entity.end, entity.label))
    unknown = [token.i for token in doc if token.ent_iob == 0] if doc.has_annotation("ENT_IOB") else []
    if unknown:
        # those of an entity that has no place on tokens are known by it
        touched = [part for entity in entities for part in entity.fragments]
        inside = (i for i in unknown if any(a < tokens.ends[i] and tokens.starts[i] < b for a, b in touched))
        unknown = sorted({*unknown} - {*inside})
    return Document(
        id=str(doc.user_data.get(ID) or id),
        text=doc.text,
        entities=entities,
        links=[_link(noted) for noted in notes.get("links", [])],
        group=str(doc.user_data.get(GROUP, "")),
        annotated=annotated,
        tokens=list(zip(tokens.starts, tokens.ends)),
        sentences=[token.i for token in doc if token.is_sent_start] if doc.has_annotation("SENT_START") else [],
        unknown=unknown,
        data=doc.user_data.get(DATA, {}),
    )


# What is read from a file has tuples in the place of lists.


def _entity(noted: Mapping[str, Any], tokens: Tokens) -> Entity:
    values = {key: value for key, value in noted.items() if key != "tokens"}
    label = noted["label"]
    fragments = noted.get("fragments") or [tokens.characters((start, end, label)) for start, end in noted["tokens"]]
    values.update(fragments=[(start, end) for start, end in fragments], notes=list(noted.get("notes", [])))
    return Entity(**values)


def _link(noted: Mapping[str, Any]) -> Link:
    arguments = [(role, name) for role, name in noted["arguments"]]
    return Link(**{**noted, "arguments": arguments, "notes": list(noted["notes"])})


def _extensions(doc: Doc) -> Dict[Tuple[int, int], Dict[str, Any]]:
    """Custom attributes that are set on spans, by their characters."""
    found: Dict[Tuple[int, int], Dict[str, Any]] = {}
    for key, value in doc.user_data.items():
        if isinstance(key, tuple) and key[0] == "._." and key[3] is not None and value is not None:
            found.setdefault((key[2], key[3]), {})[key[1]] = value
    return found


def _read_extensions(entity: Entity, said: Mapping[str, Any]) -> None:
    """What stands in custom attributes now, which somebody may have changed."""
    entity.attributes = {name: value for name, value in said.items() if name != NOTES}
    entity.notes = list(said.get(NOTES, []))
