"""The one form between annotation files and spaCy: text, entities by characters, and what went wrong.

A reader of any format makes Documents; `to_doc` puts their entities on tokens, in one place for all formats.
Nothing is dropped in silence: what cannot be kept becomes a Problem with file and line.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
from spacy.tokens import Doc, Span, SpanGroup
from spacy.util import filter_spans

from ..tagging import UNPLACED, trim_spaces

ALL_ENTITIES = "entities"
SpanSetter = Union[Sequence[str], Mapping[str, Union[bool, Sequence[str]]]]


@dataclass
class Entity:
    """A labelled piece of text.

    label (str): Its label.
    fragments (List[Tuple[int, int]]): First character and last + 1 of each part, in order; one for most.
    id (str): Its name in the file.
    line (int): Where it stands in the file, from 1; 0 where lines mean nothing.
    attributes (Dict[str, Any]): Attributes by name: a value, or True for a flag.
    notes (List[str]): Annotators' notes.
    """

    label: str
    fragments: List[Tuple[int, int]]
    id: str = ""
    line: int = 0
    attributes: Dict[str, Any] = field(default_factory=dict)
    notes: List[str] = field(default_factory=list)

    @property
    def start(self) -> int:
        return min(start for start, _ in self.fragments)

    @property
    def end(self) -> int:
        return max(end for _, end in self.fragments)


@dataclass
class Problem:
    """Something in the annotations that could not be kept as it stands.

    where (str): File and line. kind (str): A few words, the same for all of a kind. message (str): What is
    wrong and what to do. lost (bool): An entity was left out of training, rather than changed.
    """

    where: str
    kind: str
    message: str
    lost: bool = True

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


@dataclass
class Document:
    """One annotated text.

    id (str): Unique within a corpus. text (str): As it stands in the file. entities (List[Entity]): As annotated.
    source (str): The annotation file. annotated (bool): False where nobody has looked at the text yet.
    other (Counter): Annotations of other kinds, which are counted only. unread (int): Entities that could not even
    be read. problems (List[Problem]): What was wrong with it so far.
    """

    id: str
    text: str
    entities: List[Entity] = field(default_factory=list)
    source: str = ""
    annotated: bool = True
    unread: int = 0
    other: Counter = field(default_factory=Counter)
    problems: List[Problem] = field(default_factory=list)

    def report(self, entity: Entity, kind: str, message: str, lost: bool = True) -> None:
        where = f"{self.source}:{entity.line}" if entity.line else self.source
        self.problems.append(Problem(where, kind, message, lost))


@dataclass
class Report:
    """What became of the annotations of a corpus."""

    documents: int = 0
    annotated: int = 0
    kept: int = 0
    other: Counter = field(default_factory=Counter)
    problems: List[Problem] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Entities that are not in the corpus."""
        return sum(problem.lost for problem in self.problems)

    def summary(self) -> List[str]:
        """What to tell a person, a line each."""
        lines = [f"{self.documents:,} documents, {self.annotated:,} entities annotated, {self.kept:,} kept."]
        for kind, n in Counter(p.kind for p in self.problems).most_common():
            first = next(p for p in self.problems if p.kind == kind)
            lines.append(f"{n:,} × {kind}. First: {first}")
        if self.other:
            kinds = ", ".join(f"{n:,} {kind}" for kind, n in sorted(self.other.items()))
            lines.append(f"Not needed for entities, and not carried over: {kinds}.")
        return lines


def check_setter(setter: SpanSetter) -> Dict[str, Union[bool, Sequence[str]]]:
    """Where entities go: names ("ents" or span groups), or names with True or the labels that go there.

    RAISES (ValueError): No place is given.
    """
    places: Dict[str, Union[bool, Sequence[str]]] = (
        dict(setter) if isinstance(setter, Mapping) else dict.fromkeys(setter, True)
    )
    if not places:
        raise ValueError('span_setter is empty: name "ents", a span group, or both.')
    return places


def to_doc(
    document: Document,
    make_doc: Callable[[str], Doc],
    setter: SpanSetter = ("ents", ALL_ENTITIES),
    report: Optional[Report] = None,
) -> Doc:
    """Put a Document's entities on tokens.

    make_doc (Callable): From text to an empty Doc: `nlp.make_doc`, or `nlp` itself.
    setter (SpanSetter): Where entities go. `doc.ents` takes the longest of those that overlap.
    report (Optional[Report]): Is brought up to date.
    RETURNS (Doc): An entity that begins or ends inside a token is widened to whole tokens. The parts of one that
        cannot be placed (it is discontinuous) are missing values in `doc.ents`, and in
        `doc.spans[group].attrs["unplaced"]` as (first character, last + 1, label): unknown to training, and
        missed gold to the scorer.
    """
    doc = make_doc(document.text)
    if not document.annotated:
        if report is not None:
            report.documents += 1
            report.problems += document.problems
        return doc
    is_space = np.fromiter((token.is_space for token in doc), dtype=bool, count=len(doc))
    spans: List[Span] = []
    unplaced: List[Tuple[int, int, str]] = []
    by_place: Dict[Tuple[int, int, str], Entity] = {}
    for entity in document.entities:
        span = _place(document, entity, doc, is_space)
        if span is None:
            unplaced += [(start, end, entity.label) for start, end in entity.fragments]
        elif (key := (span.start, span.end, entity.label)) in by_place:
            document.report(entity, "the same entity twice", f"entity {entity.id} repeats another one.", lost=False)
        else:
            by_place[key] = entity
            spans.append(span)
    spans.sort(key=lambda s: (s.start, -s.end, s.label_))
    for place, labels in check_setter(setter).items():
        here = [s for s in spans if labels is True or (labels and s.label_ in labels)]
        gone = [u for u in unplaced if labels is True or (labels and u[2] in labels)]
        if place == "ents":
            flat = filter_spans(here)
            for span in sorted(set(here) - set(flat)):
                entity = by_place[span.start, span.end, span.label_]
                message = f'entity {entity.id} ({entity.label}), "{span.text}", is in the span groups, not in doc.ents.'
                document.report(entity, "overlap with a longer entity", message, lost=False)
            taken = {token.i for span in flat for token in span}
            touched = {t.i for a, b, _ in gone for t in doc if t.idx < b and t.idx + len(t) > a} - taken
            doc.set_ents(flat, missing=[doc[i : i + 1] for i in sorted(touched)], default="outside")
        else:
            attrs = {UNPLACED: [list(u) for u in gone]} if gone else {}
            doc.spans[place] = SpanGroup(doc, name=place, attrs=attrs, spans=here)
    if report is not None:
        report.documents += 1
        report.annotated += len(document.entities) + document.unread
        report.kept += len(spans)
        report.other.update(document.other)
        report.problems += document.problems
    return doc


def _place(document: Document, entity: Entity, doc: Doc, is_space: np.ndarray) -> Optional[Span]:
    """The tokens of an entity, or None with a problem reported."""
    name = f"entity {entity.id} ({entity.label})"
    if len(entity.fragments) > 1:
        parts = " … ".join(document.text[a:b] for a, b in entity.fragments)
        document.report(
            entity, "discontinuous entity", f'{name}, "{parts}", has {len(entity.fragments)} parts: left out.'
        )
        return None
    # by hand rather than char_span, since white space at the ends may be inside a token
    text = document.text[entity.start : entity.end]
    start = entity.start + len(text) - len(text.lstrip())
    end = entity.end - len(text) + len(text.rstrip())
    if start >= end:
        document.report(entity, "only white space", f"{name} covers white space only: left out.")
        return None
    span = doc.char_span(start, end)
    widened = span is None
    if span is None:
        span = doc.char_span(start, end, alignment_mode="expand")
    trimmed = trim_spaces(span.start, span.end, is_space) if span is not None else None
    if trimmed is None:
        document.report(entity, "only white space", f"{name} covers white space only: left out.")
        return None
    if widened:
        document.report(
            entity,
            "widened to whole tokens",
            f'{name}, "{text}", begins or ends inside a token: it became "{doc[trimmed[0] : trimmed[1]].text}".',
            lost=False,
        )
    elif (start, end) != (entity.start, entity.end):
        document.report(
            entity,
            "white space at the ends",
            f'{name}, "{text}": the white space at its ends was taken off.',
            lost=False,
        )
    return Span(doc, *trimmed, label=entity.label)


def to_docs(
    documents: Iterable[Document], make_doc: Callable[[str], Doc], setter: SpanSetter, report: Report
) -> Iterable[Doc]:
    """`to_doc` for many. The id of each goes to `doc.user_data["id"]`."""
    for document in documents:
        doc = to_doc(document, make_doc, setter, report)
        doc.user_data["id"] = document.id
        yield doc
