"""Scores of a pipe, as spaCy asks for them."""

from functools import partial
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence

from spacy.tokens import Doc, Span
from spacy.training import Example

from ..tagging import UNPLACED
from .matching import Mention, mention
from .scores import (
    SCORES,
    SEMEVAL,
    DocumentScores,
    Overlap,
    Rates,
    Table,
    Unit,
    kinds_table,
    measure,
    score,
    score_document,
    semeval,
    triples,
)

Scorer = Callable[..., Dict[str, Any]]
# What stands between the key and p, r or f: of entities found exactly nothing.
MEASURES = (
    "",
    "macro_",
    "weighted_",
    "overlap_",
    "overlap_macro_",
    "overlap_weighted_",
    "boundaries_",
    "tokens_",
    *(f"semeval_{name}_" for name in SEMEVAL),
)
PER_TYPE = ("per_type", "overlap_per_type")


def make_ner_scorer(overlap_unit: Unit = "characters", min_overlap: float = 0.5) -> Scorer:
    """Precision, recall and F1 of entities: exact, in part, by their borders, by tokens, and as SemEval counts them.

    overlap_unit (str): What entities found in part are compared by: "characters" or "tokens".
    min_overlap (float): Smallest Dice coefficient of an entity found in part; 0: anything in common is enough.
    RETURNS (Callable): See `ner_score`.
    RAISES (ValueError): A setting is out of its range.
    """
    return partial(ner_score, in_part=Overlap(overlap_unit, min_overlap))


def ner_score(
    examples: Iterable[Example],
    *,
    labels: Sequence[str] = (),
    labels_given: bool = False,
    target_spans: str = "ents",
    output_spans: str = "ents",
    in_part: Overlap = Overlap(),  # it is frozen; not `overlap`, which is a setting of the pipe
    **settings: Any,
) -> Dict[str, Any]:
    """Score predicted entities against gold by label and characters.

    Gold is `target_spans` of the reference, predictions are `output_spans` of the predicted Doc. White space at
    the ends of gold does not count. Documents without annotation are left out; where single tokens have none
    (missing values in `doc.ents`), predictions that touch them are neither right nor wrong. Entities that a
    reader could not place on tokens are gold that is missed.

    labels (Sequence[str]): The pipe's labels.
    labels_given (bool): They were given, not found: gold of other labels is left out. Otherwise it is missed.
    in_part (Overlap): When an entity counts as found in part.
    RETURNS (Dict[str, Any]): `{key}_p`, `_r`, `_f`, `_per_type` as in spaCy; the same with a word between for
        averages over labels ("macro", "weighted"), entities found in part ("overlap", "overlap_macro",
        "overlap_weighted"), "boundaries", "tokens" and "semeval_strict", "_exact", "_partial", "_type"; and
        `{key}_overlap_per_type`. The key is "ents", or "spans_" and the name of the group. All None where no document
        is annotated.
    """
    key = "ents" if output_spans == "ents" else f"spans_{output_spans}"
    scored = []
    for example in examples:
        reference, predicted = example.reference, example.predicted
        if not (reference.has_annotation("ENT_IOB") if target_spans == "ents" else target_spans in reference.spans):
            continue
        gold = [item for item in gold_mentions(reference, target_spans) if item.label in labels or not labels_given]
        found = [
            trimmed(span)
            for span in spans_of(predicted, output_spans)
            if span.label_ in labels or not labels or output_spans != "ents"
        ]
        if target_spans == "ents":
            found = [item for item in found if not touches_missing(reference, item)]
        scored.append(score_document(gold, found, solid_tokens(predicted), in_part))
    return {f"{key}_{name}": value for name, value in _scores(scored)}


def _scores(documents: List[DocumentScores]) -> Iterator["tuple[str, Any]"]:
    """Every score with its name; None where there is no document."""
    if not documents:
        yield from ((f"{name}{part}", None) for name in MEASURES for part in SCORES)
        yield from ((name, None) for name in PER_TYPE)
        return
    exact, overlap = (measure(Table.of([getattr(d, name) for d in documents])) for name in ("exact", "overlap"))
    tokens = Table.of([document.tokens for document in documents]).counts.sum(1)
    kinds = semeval(kinds_table(documents).counts.sum(1))
    found: List[Rates] = [
        *(exact.micro, exact.macro, exact.weighted, overlap.micro, overlap.macro, overlap.weighted),
        *(score(triples([document.boundaries for document in documents])), score(tokens)),
        *kinds.values(),
    ]
    for name, rates in zip(MEASURES, found):
        yield from ((f"{name}{part}", getattr(rates, part)) for part in SCORES)
    for name, each in zip(PER_TYPE, (exact, overlap)):
        yield name, {label: {part: getattr(own, part) for part in SCORES} for label, own in each.per_label.items()}


def solid_tokens(doc: Doc) -> List["tuple[int, int]"]:
    """First character and last + 1 of each token that is not white space."""
    return [(token.idx, token.idx + len(token)) for token in doc if not token.is_space]


def spans_of(doc: Doc, where: str) -> List[Span]:
    """The spans of `doc.ents` ("ents") or of a group; none where there is no such group."""
    if where == "ents":
        return list(doc.ents)
    return list(doc.spans[where]) if where in doc.spans else []


def gold_mentions(reference: Doc, target: str) -> List[Mention]:
    """Gold of a Doc without white space at its ends, with what a reader could not place on tokens."""
    gold = [trimmed(span) for span in spans_of(reference, target)]
    # our readers write all entities to this group beside doc.ents
    group = "entities" if target == "ents" else target
    unplaced = reference.spans[group].attrs.get(UNPLACED, []) if group in reference.spans else []
    return gold + [mention(label, [(start, end)]) for start, end, label in unplaced]


def trimmed(span: Span) -> Mention:
    """A span by characters, without white space at its ends."""
    text = span.text
    start = span.start_char + len(text) - len(text.lstrip())
    return mention(span.label_, [(start, max(start, span.end_char - len(text) + len(text.rstrip())))])


def touches_missing(reference: Doc, found: Mention) -> bool:
    """Whether it is not known of a token of an entity if it is in one."""
    span: Optional[Span] = reference.char_span(found.start, found.end, alignment_mode="expand")
    return span is not None and any(token.ent_iob == 0 for token in span)
