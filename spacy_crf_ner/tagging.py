"""Labels and BILUO tag ids: legal moves, spans to tags, tags to spans.

A chain over n labels has 1 + 4n tags. Tag 0 is O; label k owns the ids 1 + 4k ... 4 + 4k for
B (first token), I (inside), L (last token) and U (the only token). A chain for one label alone is
the same with n = 1, so that nothing here knows whether labels may overlap.
"""

from typing import Iterable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

OUTSIDE = 0
UNKNOWN = -1
BEGIN, INSIDE, LAST, UNIT = range(4)
PREFIXES = "BILU"

# Under this name a span group keeps, in its attrs, the gold that a reader could not put on tokens:
# a list of (first character, last + 1, label).
UNPLACED = "unplaced"


class TagSpan(NamedTuple):
    """A labelled run of tokens: `start` inclusive, `end` exclusive, `label` an index."""

    start: int
    end: int
    label: int


def count_tags(n_labels: int) -> int:
    """Number of BILUO tags in a chain over `n_labels` labels."""
    return 1 + 4 * n_labels


def tag_id(label: int, position: int) -> int:
    """Id of the tag for a label index at a position (BEGIN, INSIDE, LAST or UNIT)."""
    return 1 + 4 * label + position


def tag_names(labels: Sequence[str]) -> List[str]:
    """Human-readable tags in the order of their ids: O, B-first, I-first, ..."""
    return ["O"] + [f"{prefix}-{label}" for label in labels for prefix in PREFIXES]


def legal_starts(n_labels: int) -> np.ndarray:
    """Tags that may stand on the first token: O, B and U. RETURNS: bool, (tags,)."""
    legal = np.zeros(count_tags(n_labels), dtype=bool)
    legal[OUTSIDE] = True
    legal[1 + BEGIN :: 4] = True
    legal[1 + UNIT :: 4] = True
    return legal


def legal_ends(n_labels: int) -> np.ndarray:
    """Tags that may stand on the last token: O, L and U. RETURNS: bool, (tags,)."""
    legal = np.zeros(count_tags(n_labels), dtype=bool)
    legal[OUTSIDE] = True
    legal[1 + LAST :: 4] = True
    legal[1 + UNIT :: 4] = True
    return legal


def legal_moves(n_labels: int) -> np.ndarray:
    """Moves from row tag to column tag that keep a BILUO sequence legal.

    After O, L and U an entity is closed, so that O, B or U may follow; after B-x and I-x it is open,
    so that only I-x or L-x may.

    RETURNS: bool, (tags, tags).
    """
    moves = np.outer(legal_ends(n_labels), legal_starts(n_labels))
    for label in range(n_labels):
        opened = [tag_id(label, BEGIN), tag_id(label, INSIDE)]
        follows = [tag_id(label, INSIDE), tag_id(label, LAST)]
        moves[np.ix_(opened, follows)] = True
    return moves


def span_tags(span: TagSpan) -> np.ndarray:
    """The BILUO tag ids of one span. RETURNS: int64, (end - start,)."""
    tags = np.full(span.end - span.start, tag_id(span.label, INSIDE), dtype=np.int64)
    tags[0] = tag_id(span.label, BEGIN)
    tags[-1] = tag_id(span.label, LAST)
    if len(tags) == 1:
        tags[0] = tag_id(span.label, UNIT)
    return tags


def spans_to_tags(
    spans: Iterable[TagSpan], n_tokens: int, unknown: Optional[np.ndarray] = None
) -> Tuple[np.ndarray, List[TagSpan]]:
    """Tags of one chain from labelled spans.

    spans (Iterable[TagSpan]): In any order. Where two overlap, the longer stays, then the earlier.
    n_tokens (int): Length of the sequence.
    unknown (Optional[np.ndarray]): Tokens whose tag is not known, bool, (n_tokens,). A span wins over it.
    RETURNS: Tags, int64, (n_tokens,), UNKNOWN (-1) where nothing is known; and the spans that had no room.
    """
    tags = np.full(n_tokens, OUTSIDE, dtype=np.int64)
    taken = np.zeros(n_tokens, dtype=bool)
    left_out = []
    for span in sorted(set(spans), key=lambda s: (s.start - s.end, s.start, s.label)):
        if taken[span.start : span.end].any():
            left_out.append(span)
            continue
        taken[span.start : span.end] = True
        tags[span.start : span.end] = span_tags(span)
    if unknown is not None:
        tags[unknown & ~taken] = UNKNOWN
    return tags, left_out


def tags_to_spans(tags: Iterable[int]) -> List[TagSpan]:
    """Spans of a legal BILUO sequence, in order of their start.

    RAISES (ValueError): The sequence is not legal.
    """
    spans = []
    opened: Optional[Tuple[int, int]] = None
    for i, tag in enumerate(tags):
        label, position = divmod(int(tag) - 1, 4)
        closes = tag != OUTSIDE and position in (INSIDE, LAST)
        if closes != (opened is not None) or (opened is not None and opened[1] != label):
            raise ValueError(f"Tag {int(tag)} cannot stand at token {i}: the BILUO sequence is not legal.")
        if tag == OUTSIDE:
            continue
        if position == BEGIN:
            opened = (i, label)
        elif position == UNIT:
            spans.append(TagSpan(i, i + 1, label))
        elif position == LAST and opened is not None:
            spans.append(TagSpan(opened[0], i + 1, label))
            opened = None
    if opened is not None:
        raise ValueError(f"The entity that begins at token {opened[0]} is never closed.")
    return spans


def paths_to_spans(tags: np.ndarray) -> np.ndarray:
    """Spans of many legal BILUO sequences at once.

    tags (np.ndarray): int64, (sequences, tokens), O where padded.
    RETURNS: int64, (spans, 4): sequence, first token, last + 1, label; in order of sequence and start.
    RAISES (ValueError): A sequence is not legal.
    """
    position = np.where(tags == OUTSIDE, -1, (tags - 1) % 4)
    sequence, start = np.nonzero((position == BEGIN) | (position == UNIT))
    _, last = np.nonzero((position == LAST) | (position == UNIT))
    if len(start) == len(last) and (start <= last).all():
        label = (tags[sequence, start] - 1) // 4
        spans = np.column_stack([sequence, start, last + 1, label])
        # legal are the sequences that these spans make
        if np.array_equal(_fill(spans, tags.shape), tags):
            return spans
    for row in tags:
        tags_to_spans(row)
    raise AssertionError("tags_to_spans and paths_to_spans disagree on what is legal.")


def _fill(spans: np.ndarray, shape: Tuple[int, ...]) -> np.ndarray:
    """Tags of many sequences from spans as of `paths_to_spans`."""
    sequence, start, end, label = spans.T
    sizes = end - start
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    to_go = np.repeat(sizes, sizes) - 1 - within
    position = np.where(within == 0, np.where(to_go == 0, UNIT, BEGIN), np.where(to_go == 0, LAST, INSIDE))
    tags = np.full(shape, OUTSIDE, dtype=np.int64)
    tags[np.repeat(sequence, sizes), np.repeat(start, sizes) + within] = 1 + 4 * np.repeat(label, sizes) + position
    return tags


def trim_spaces(start: int, end: int, is_space: np.ndarray) -> Optional[Tuple[int, int]]:
    """Take white-space tokens off both ends of a span.

    is_space (np.ndarray): Which tokens are white space only, bool, (tokens,).
    RETURNS: The trimmed (start, end), or None where nothing but white space was in it.
    """
    solid = np.flatnonzero(~is_space[start:end])
    if len(solid) == 0:
        return None
    return start + int(solid[0]), start + int(solid[-1]) + 1


def possible_tags(n_labels: int, is_space: np.ndarray) -> np.ndarray:
    """Tags that a token may have at all: an entity neither begins nor ends on white space.

    is_space (np.ndarray): Which tokens are white space only, bool, (tokens,).
    RETURNS: bool, (tokens, tags).
    """
    possible = np.ones((len(is_space), count_tags(n_labels)), dtype=bool)
    for position in (BEGIN, LAST, UNIT):
        possible[is_space, 1 + position :: 4] = False
    return possible
