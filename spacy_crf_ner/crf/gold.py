"""What an Example says of the entities in its text, as tags on the tokens of its predicted Doc."""

from typing import Dict, Iterable, List, NamedTuple, Optional, Tuple

import numpy as np
from spacy.attrs import IS_SPACE
from spacy.tokens import Doc, Span
from spacy.training import Example

from .. import tagging
from ..tagging import UNPLACED, TagSpan

OTHER_LABEL = "its label is not one of the pipe's"


class Gold(NamedTuple):
    """Gold tags of one document.

    tags (np.ndarray): int64, (chains, tokens), UNKNOWN (-1) where nothing is known.
    left_out (List[Tuple[str, str]]): Entities that cannot be tagged: label and why.
    """

    tags: np.ndarray
    left_out: List[Tuple[str, str]]


def target_spans(doc: Doc, target: str) -> List[Span]:
    """The entities that a reference Doc holds: `doc.ents` where target is "ents", else a span group."""
    if target == "ents":
        return list(doc.ents)
    return list(doc.spans[target]) if target in doc.spans else []


def is_annotated(doc: Doc, target: str) -> bool:
    """Whether a reference Doc says anything of the target: an absent group says nothing, an empty one says none."""
    return doc.has_annotation("ENT_IOB") if target == "ents" else target in doc.spans


def space_mask(doc: Doc) -> np.ndarray:
    """Which tokens are white space only, bool, (tokens,)."""
    return doc.to_array([IS_SPACE]).reshape(-1).astype(bool)


def gold_tags(
    example: Example, target: str, labels: Dict[str, int], overlap: bool, unmarked_is_unknown: bool
) -> Optional[Gold]:
    """Read the gold of an example.

    target (str): "ents" or the name of a span group, in `example.reference`.
    labels (Dict[str, int]): Ids by label; entities of other labels are left out.
    overlap (bool): One row of tags a label, over its own five tags, rather than one row for all.
    unmarked_is_unknown (bool): Tokens outside entities are unknown rather than O. A document that tells the
        two apart itself, by missing values in `doc.ents`, is taken at its word.
    RETURNS (Optional[Gold]): None where the reference is not annotated, or all its tokens are missing values.
    """
    reference, n_tokens = example.reference, len(example.predicted)
    if not is_annotated(reference, target) or n_tokens == 0:
        return None
    unknown, spans, left_out = _place(example, target, labels, overlap)
    if unmarked_is_unknown and not _has_missing(reference, target):
        unknown[:] = True
    rows = []
    for chain in range(len(labels) if overlap else 1):
        own = [TagSpan(s.start, s.end, 0) for s in spans if s.label == chain] if overlap else spans
        tags, crowded = tagging.spans_to_tags(own, n_tokens, unknown[chain if overlap else 0])
        rows.append(tags)
        names = list(labels)
        left_out += [(names[chain if overlap else s.label], "overlaps with a longer one") for s in crowded]
    tags = np.stack(rows) if rows else np.zeros((0, n_tokens), dtype=np.int64)
    if not unmarked_is_unknown and (tags == tagging.UNKNOWN).all():
        return None
    return Gold(tags, left_out)


def _has_missing(reference: Doc, target: str) -> bool:
    return target == "ents" and bool((reference.to_array("ENT_IOB") == 0).any())


def _place(
    example: Example, target: str, labels: Dict[str, int], overlap: bool
) -> Tuple[np.ndarray, List[TagSpan], List[Tuple[str, str]]]:
    """Move gold onto the predicted tokens.

    RETURNS: Unknown tokens, bool, (labels with `overlap`, else 1, tokens); spans; what is left out.
    """
    reference, predicted = example.reference, example.predicted
    same = len(reference) == len(predicted) and all(a.orth == b.orth for a, b in zip(reference, predicted))
    is_space = space_mask(predicted)
    unknown = np.zeros((len(labels) if overlap else 1, len(predicted)), dtype=bool)
    spans, left_out = [], []

    def tokens_of(start: int, end: int) -> np.ndarray:
        return np.arange(start, end) if same else np.unique(example.alignment.y2x[start:end])

    def row_of(label: str) -> int:
        return labels[label] if overlap else 0

    if target == "ents":
        iob = reference.to_array("ENT_IOB").astype(np.int64)
        blocked = (iob == 3) & (reference.to_array("ENT_TYPE") == 0)
        for i in np.flatnonzero((iob == 0) | blocked).tolist():
            unknown[:, tokens_of(i, i + 1)] = True
    for span in target_spans(reference, target):
        if span.label_ not in labels:
            left_out.append((span.label_, OTHER_LABEL))
            continue
        tokens = tokens_of(span.start, span.end)
        back = tokens if same else np.unique([i for t in tokens for i in example.alignment.x2y[int(t)]])
        # placed where the tokens make one run, which comes from this entity alone
        run = len(tokens) > 0 and int(tokens[-1]) - int(tokens[0]) + 1 == len(tokens)
        if not run or (not same and (back.min() < span.start or back.max() >= span.end)):
            unknown[row_of(span.label_), tokens] = True
            left_out.append((span.label_, "its ends lie inside tokens"))
            continue
        trimmed = tagging.trim_spaces(int(tokens[0]), int(tokens[-1]) + 1, is_space)
        if trimmed is None:
            left_out.append((span.label_, "it holds white space only"))
            continue
        spans.append(TagSpan(*trimmed, labels[span.label_]))
    for start, end, label in _unplaced(reference, target):
        if label in labels:
            unknown[row_of(label), _touched(predicted, start, end)] = True
            left_out.append((label, "the reader could not place it on tokens"))
    return unknown, spans, left_out


def _unplaced(reference: Doc, target: str) -> Iterable[Tuple[int, int, str]]:
    """Entities that a reader could not put on tokens: (first character, last + 1, label)."""
    if target == "ents" or target not in reference.spans:
        return []
    return reference.spans[target].attrs.get(UNPLACED, [])


def _touched(doc: Doc, start: int, end: int) -> List[int]:
    return [token.i for token in doc if token.idx < end and token.idx + len(token) > start]
