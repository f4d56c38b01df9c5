"""What counts as found. Works on plain tuples; knows nothing of torch or pipelines.

An entity that is given twice, with the same label and the same characters, counts once.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from typing import Dict, Iterable, Iterator, List, Literal, NamedTuple, Optional, Sequence, Tuple

from .assignment import heaviest_matching

Kind = Literal["exact", "label", "borders", "overlap", "missed", "spurious"]
KINDS: Tuple[Kind, ...] = ("exact", "label", "borders", "overlap", "missed", "spurious")
# A Dice coefficient as a whole number.
DICE_BITS = 32


class Mention(NamedTuple):
    """An entity by its characters or its tokens.

    label (str): Its label.
    pieces (Tuple[Tuple[int, int], ...]): First and last + 1 of each part, in order and apart; one for most.
    """

    label: str
    pieces: Tuple[Tuple[int, int], ...]

    @property
    def start(self) -> int:
        return self.pieces[0][0]

    @property
    def end(self) -> int:
        return self.pieces[-1][1]

    @property
    def length(self) -> int:
        return sum(end - start for start, end in self.pieces)


def mention(label: str, pieces: Iterable[Tuple[int, int]]) -> Mention:
    """A Mention of parts in any order; those that touch or overlap become one."""
    joined: List[Tuple[int, int]] = []
    for start, end in sorted(pieces):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return Mention(label, tuple(joined))


def on_tokens(found: Sequence[Mention], tokens: Sequence[Tuple[int, int]]) -> List[Optional[Mention]]:
    """Mentions by characters as Mentions by the tokens that they touch.

    tokens (Sequence[Tuple[int, int]]): First character and last + 1 of each token, in order.
    RETURNS (List[Optional[Mention]]): None for one that touches no token.
    """
    if not found:
        return []
    starts, ends = [start for start, _ in tokens], [end for _, end in tokens]
    laid: List[Optional[Mention]] = []
    for item in found:
        touched = [(bisect_right(ends, start), bisect_left(starts, end)) for start, end in item.pieces if start < end]
        touched = [(start, end) for start, end in touched if start < end]
        laid.append(mention(item.label, touched) if touched else None)
    return laid


def shared(a: Mention, b: Mention) -> int:
    """How many characters or tokens two have in common."""
    return sum(
        max(0, min(a_end, b_end) - max(a_start, b_start)) for a_start, a_end in a.pieces for b_start, b_end in b.pieces
    )


class Edge(NamedTuple):
    """A gold and a predicted entity, by their numbers, that overlap: how much is common, and their lengths together."""

    gold: int
    predicted: int
    shared: int
    lengths: int

    @property
    def dice(self) -> float:
        """2 · shared / (length of one + length of the other); 1 where they cover the same."""
        return 2 * self.shared / self.lengths


def overlaps(gold: Sequence[Mention], predicted: Sequence[Mention]) -> Iterator[Edge]:
    """All pairs that have something in common."""
    order = sorted(range(len(predicted)), key=lambda p: predicted[p].start)
    starts = [predicted[p].start for p in order]
    longest = max((found.end - found.start for found in predicted), default=0)
    for g, wanted in enumerate(gold):
        # what starts earlier than this ends before it
        first, last = bisect_right(starts, wanted.start - longest), bisect_left(starts, wanted.end)
        for p in order[first:last]:
            common = shared(wanted, predicted[p])
            if common:
                yield Edge(g, p, common, wanted.length + predicted[p].length)


class Pair(NamedTuple):
    """A gold entity and the predicted one that is taken for it, by their numbers; None: there is none."""

    gold: Optional[int]
    predicted: Optional[int]
    kind: Kind


def align(gold: Sequence[Mention], predicted: Sequence[Mention]) -> List[Pair]:
    """Say for each entity which one of the other side it was taken for, one to one.

    gold, predicted (Sequence[Mention]): Without repeats, by characters.
    RETURNS (List[Pair]): Every entity once. Kinds: "exact": same characters and label; "label": same characters,
        other label; "borders": same label, other characters in part; "overlap": neither is the same, but they share
        characters; "missed": gold alone; "spurious": predicted alone.

    Of all one-to-one matchings of entities that share characters, the one with the most exact pairs; of these the one
    with the most pairs of the same characters; then of the same label; then of pairs; then with the largest sum of Dice
    coefficients. How many there are of each kind does not depend on which side is called gold, apart from the names of
    "missed" and "spurious", nor on any order.
    """
    place = {found: p for p, found in enumerate(predicted)}
    pairs = [Pair(g, place[wanted], "exact") for g, wanted in enumerate(gold) if wanted in place]
    # each has at most one that is the same, so that all these pairs can stand together, and come first
    gold_left = sorted(set(range(len(gold))) - {pair.gold for pair in pairs}, key=lambda g: _canonical(gold[g]))
    predicted_left = sorted(
        set(range(len(predicted))) - {pair.predicted for pair in pairs}, key=lambda p: _canonical(predicted[p])
    )
    wanted_left, found_left = [gold[g] for g in gold_left], [predicted[p] for p in predicted_left]
    columns = heaviest_matching(_weights(wanted_left, found_left))
    for row, column in enumerate(columns):
        if column is None:
            pairs.append(Pair(gold_left[row], None, "missed"))
        else:
            kind = _kind(wanted_left[row], found_left[column])
            pairs.append(Pair(gold_left[row], predicted_left[column], kind))
    taken = set(columns)
    pairs += [Pair(None, p, "spurious") for column, p in enumerate(predicted_left) if column not in taken]
    return pairs


def _canonical(found: Mention) -> Tuple[Tuple[Tuple[int, int], ...], str]:
    return found.pieces, found.label


def _kind(wanted: Mention, found: Mention) -> Kind:
    if wanted.pieces == found.pieces:
        return "label"
    return "borders" if wanted.label == found.label else "overlap"


def _weights(gold: Sequence[Mention], predicted: Sequence[Mention]) -> List[Dict[int, int]]:
    """The criteria of `align` as one number, each worth more than all pairs can have of those after it."""
    weights: List[Dict[int, int]] = [{} for _ in gold]
    base = 1 + min(len(gold), len(predicted))
    for edge in overlaps(gold, predicted):
        kind = _kind(gold[edge.gold], predicted[edge.predicted])
        counted = (kind == "label") * base**2 + (kind == "borders") * base + 1
        dice = (2 * edge.shared << DICE_BITS) // edge.lengths
        weights[edge.gold][edge.predicted] = (counted * base << DICE_BITS) + dice
    return weights


def overlap_matches(gold: Sequence[Mention], predicted: Sequence[Mention], least: float) -> Dict[str, int]:
    """How many entities of each label were found in part: the most pairs, one to one, of the same label.

    gold, predicted (Sequence[Mention]): Without repeats, by characters or by tokens.
    least (float): Smallest Dice coefficient of a pair; 0: anything in common is enough.
    """
    weights: List[Dict[int, int]] = [{} for _ in gold]
    for edge in overlaps(gold, predicted):
        # lengths are whole: what is exactly the least must not be lost to rounding
        same = gold[edge.gold].label == predicted[edge.predicted].label
        if same and edge.dice >= least - 1e-12:
            weights[edge.gold][edge.predicted] = 1
    matched = heaviest_matching(weights)
    return dict(Counter(wanted.label for wanted, column in zip(gold, matched) if column is not None))
