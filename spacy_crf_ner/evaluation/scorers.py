"""Scores of a pipe, as spaCy asks for them."""

from typing import Any, Callable, Dict, Iterable, List, Sequence

from spacy.tokens import Doc, Span
from spacy.training import Example

from ..tagging import UNPLACED
from .matching import Entity, ExactMatch

Scorer = Callable[..., Dict[str, Any]]


def make_ner_scorer() -> Scorer:
    """Exact precision, recall and F1 of entities: micro, macro and per label.

    RETURNS (Callable): See `ner_score`.
    """
    return ner_score


def ner_score(
    examples: Iterable[Example],
    *,
    labels: Sequence[str] = (),
    labels_given: bool = False,
    target_spans: str = "ents",
    output_spans: str = "ents",
    **settings: Any,
) -> Dict[str, Any]:
    """Score predicted entities against gold by label and characters.

    Gold is `target_spans` of the reference, predictions are `output_spans` of the predicted Doc. White space at
    the ends of gold does not count. Documents without annotation are left out; where single tokens have none
    (missing values in `doc.ents`), predictions that touch them are neither right nor wrong. Entities that a
    reader could not place on tokens are gold that is missed.

    labels (Sequence[str]): The pipe's labels.
    labels_given (bool): They were given, not found: gold of other labels is left out. Otherwise it is missed.
    RETURNS (Dict[str, Any]): `{key}_p`, `_r`, `_f`, `_per_type` as in spaCy, and `{key}_macro_p`, `_macro_r`,
        `_macro_f`; the key is "ents", or "spans_" and the name of the group. All None where no document is annotated.
    """
    key = "ents" if output_spans == "ents" else f"spans_{output_spans}"
    matches = ExactMatch()
    annotated = False
    for example in examples:
        reference, predicted = example.reference, example.predicted
        if not (reference.has_annotation("ENT_IOB") if target_spans == "ents" else target_spans in reference.spans):
            continue
        annotated = True
        gold = _gold(reference, target_spans)
        if labels_given:
            gold = [entity for entity in gold if entity[0] in labels]
        found = [
            _trimmed(span)
            for span in _spans(predicted, output_spans)
            if span.label_ in labels or not labels or output_spans != "ents"
        ]
        if target_spans == "ents":
            found = [entity for entity in found if not _touches_missing(reference, entity)]
        matches.add(gold, found)
    if not annotated:
        names = ("p", "r", "f", "per_type", "macro_p", "macro_r", "macro_f")
        return {f"{key}_{name}": None for name in names}
    scores: Dict[str, Any] = {f"{key}_{name}": value for name, value in matches.micro.as_dict().items()}
    scores[f"{key}_per_type"] = {label: c.as_dict() for label, c in sorted(matches.per_label.items())}
    scores.update({f"{key}_macro_{name}": value for name, value in matches.macro().items()})
    return scores


def _spans(doc: Doc, where: str) -> List[Span]:
    if where == "ents":
        return list(doc.ents)
    return list(doc.spans[where]) if where in doc.spans else []


def _gold(reference: Doc, target: str) -> List[Entity]:
    gold = [_trimmed(span) for span in _spans(reference, target)]
    # our readers write all entities to this group beside doc.ents
    group = "entities" if target == "ents" else target
    unplaced = reference.spans[group].attrs.get(UNPLACED, []) if group in reference.spans else []
    return gold + [(label, start, end) for start, end, label in unplaced]


def _trimmed(span: Span) -> Entity:
    """A span by characters, without white space at its ends."""
    text = span.text
    start = span.start_char + len(text) - len(text.lstrip())
    return span.label_, start, max(start, span.end_char - len(text) + len(text.rstrip()))


def _touches_missing(reference: Doc, entity: Entity) -> bool:
    span = reference.char_span(entity[1], entity[2], alignment_mode="expand")
    return span is not None and any(token.ent_iob == 0 for token in span)
