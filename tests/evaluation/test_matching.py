import random
from collections import Counter
from typing import Any, List, Optional, Tuple

import pytest

from spacy_crf_ner.evaluation.assignment import heaviest_matching
from spacy_crf_ner.evaluation.matching import (
    Mention,
    align,
    mention,
    on_tokens,
    overlap_matches,
    overlaps,
    shared,
)
from spacy_crf_ner.evaluation.scores import score_document

from .brute import best_matching, characters


def span(label: str, start: int, end: int) -> Mention:
    return mention(label, [(start, end)])


def random_side(rng: random.Random) -> List[Mention]:
    """Up to five entities: nested, adjacent, repeated, in several parts, or none."""
    found: List[Mention] = []
    for _ in range(rng.choice([0, 1, 2, 3, 4, 5])):
        kind = rng.random()
        if found and kind < 0.15:
            found.append(rng.choice(found))
        elif found and kind < 0.3:
            found.append(span(rng.choice("XY"), found[-1].end, found[-1].end + rng.randint(1, 3)))
        elif found and kind < 0.4 and found[-1].length > 1:
            found.append(span(rng.choice("XY"), found[-1].start, found[-1].start + 1))
        else:
            start = rng.randint(0, 8)
            pieces = [(start, start + rng.randint(1, 4))]
            if kind > 0.9:
                pieces.append((pieces[0][1] + rng.randint(0, 2), pieces[0][1] + 3))
            found.append(mention(rng.choice("XY"), pieces))
    return found


def worth(a: Mention, b: Mention) -> Optional[Tuple[int, ...]]:
    """What `align` looks at, written out."""
    common, lengths = len(characters(a) & characters(b)), len(characters(a)) + len(characters(b))
    if not common:
        return None
    same_span, same_label = characters(a) == characters(b), a.label == b.label
    return (
        same_span and same_label,
        same_span and not same_label,
        same_label and not same_span,
        1,
        (2 * common << 32) // lengths,
    )


def test_ten_thousand_pairs_against_all_matchings() -> None:
    rng = random.Random(0)
    kinds: Counter = Counter()
    for _ in range(10_000):
        gold, predicted = random_side(rng), random_side(rng)
        scored = score_document(gold, predicted, [(i, i + 1) for i in range(20)])
        wanted, found = list(dict.fromkeys(gold)), list(dict.fromkeys(predicted))
        n = Counter(pair.kind for pair in scored.pairs)
        # every entity once
        assert sorted(pair.gold for pair in scored.pairs if pair.gold is not None) == list(range(len(wanted)))
        assert sorted(pair.predicted for pair in scored.pairs if pair.predicted is not None) == list(range(len(found)))
        exact, label, borders, pairs, dice = (*best_matching(wanted, found, worth), 0, 0, 0, 0)[:5]
        assert (n["exact"], n["label"], n["borders"]) == (exact, label, borders), (gold, predicted)
        assert pairs == sum(n.values()) - n["missed"] - n["spurious"]
        assert dice == sum(
            worth(scored.gold[pair.gold], scored.predicted[pair.predicted])[4]  # type: ignore[index]
            for pair in scored.pairs
            if pair.gold is not None and pair.predicted is not None
        )
        assert sum(counts[0] for counts in scored.exact.values()) == exact == len(set(gold) & set(predicted))
        # found in part, by characters
        part = best_matching(wanted, found, lambda a, b: (1,) if enough(a, b) else None)
        assert sum(counts[0] for counts in scored.overlap.values()) == part[0]
        labelled = [{(m.label, i) for m in side for i in characters(m)} for side in (gold, predicted)]
        assert sum(counts[0] for counts in scored.tokens.values()) == len(labelled[0] & labelled[1])
        bare = [{m.pieces for m in side} for side in (gold, predicted)]
        assert scored.boundaries == (len(bare[0] & bare[1]), len(bare[1]), len(bare[0]))
        kinds += n
    assert min(kinds[kind] for kind in ("exact", "label", "borders", "overlap", "missed", "spurious")) > 300


def enough(a: Mention, b: Mention) -> bool:
    common, lengths = len(characters(a) & characters(b)), len(characters(a)) + len(characters(b))
    return a.label == b.label and 4 * common >= lengths


def test_matching_does_not_depend_on_sides_or_order() -> None:
    rng = random.Random(1)
    turned = {"missed": "spurious", "spurious": "missed"}
    for _ in range(2_000):
        gold, predicted = (list(dict.fromkeys(random_side(rng))) for _ in range(2))
        there = Counter(pair.kind for pair in align(gold, predicted))
        back = Counter(turned.get(pair.kind, pair.kind) for pair in align(predicted, gold))
        assert there == back
        for least in (0, 0.4, 1):
            assert overlap_matches(gold, predicted, least) == overlap_matches(predicted, gold, least)
        rng.shuffle(gold)
        rng.shuffle(predicted)
        assert Counter(pair.kind for pair in align(gold, predicted)) == there


def test_the_heaviest_matching_against_all_matchings_and_in_large_chains() -> None:
    rng = random.Random(2)
    for _ in range(3_000):
        rows = [{c: rng.randint(1, 9) for c in range(5) if rng.random() < 0.5} for _ in range(rng.randint(0, 5))]
        columns = heaviest_matching(rows)
        taken = [c for c in columns if c is not None]
        assert len(taken) == len(set(taken))
        weight = sum(rows[r][c] for r, c in enumerate(columns) if c is not None)

        def most(row: int, used: frozenset, rows: Any = rows) -> int:
            if row == len(rows):
                return 0
            with_it = [w + most(row + 1, used | {c}) for c, w in rows[row].items() if c not in used]
            return max([most(row + 1, used), *with_it])

        assert weight == most(0, frozenset())
    shifted = [[span("X", 10 * i + by, 10 * i + by + 10) for i in range(5_000)] for by in (0, 5)]
    assert Counter(pair.kind for pair in align(*shifted)) == {"borders": 5_000}


def test_numbers_of_a_pair_by_hand() -> None:
    gold, predicted = [span("X", 0, 4), span("Y", 5, 9)], [span("X", 0, 4), span("X", 5, 9), span("Y", 8, 11)]
    # the same characters come before the same label
    assert {(p.gold, p.predicted, p.kind) for p in align(gold, predicted)} == {
        (0, 0, "exact"),
        (1, 1, "label"),
        (None, 2, "spurious"),
    }
    (edge,) = overlaps([span("X", 0, 4)], [span("X", 2, 8)])
    assert edge.dice == pytest.approx(0.4)
    assert overlap_matches([span("X", 0, 4)], [span("X", 2, 8)], 0.4) == {"X": 1}
    assert overlap_matches([span("X", 0, 4)], [span("X", 2, 8)], 0.41) == {}
    assert overlap_matches([span("X", 0, 4)], [span("X", 4, 8)], 0) == {}


def test_one_prediction_is_not_found_twice() -> None:
    gold, predicted = [span("X", 0, 3), span("X", 4, 7)], [span("X", 0, 7)]
    assert overlap_matches(gold, predicted, 0) == {"X": 1}
    assert Counter(p.kind for p in align(gold, predicted)) == {"borders": 1, "missed": 1}


def test_one_that_is_found_is_not_taken_by_one_that_comes_before_it() -> None:
    """A greedy pass gives gold to the first prediction that touches it."""
    gold, predicted = [span("X", 2, 6)], [span("X", 0, 3), span("X", 2, 6)]
    assert {(p.gold, p.predicted, p.kind) for p in align(gold, predicted)} == {(0, 1, "exact"), (None, 0, "spurious")}


def test_parts_and_tokens() -> None:
    parts = mention("X", [(8, 10), (0, 3), (3, 4)])
    assert parts.pieces == ((0, 4), (8, 10))
    assert (parts.start, parts.end, parts.length) == (0, 10, 6)
    assert shared(parts, span("X", 3, 9)) == 2
    tokens = [(0, 4), (5, 7), (8, 11)]
    laid = on_tokens([parts, span("X", 6, 8), span("X", 4, 5), span("X", 2, 2), span("X", 0, 11)], tokens)
    assert [item and item.pieces for item in laid] == [((0, 1), (2, 3)), ((1, 2),), None, None, ((0, 3),)]


@pytest.mark.parametrize(("unit", "found"), [("characters", 0), ("tokens", 1)])
def test_the_unit_of_overlap(unit: Any, found: int) -> None:
    from spacy_crf_ner.evaluation.scores import Overlap

    # one of two tokens, and two of fourteen characters
    tokens = [(0, 2), (3, 15)]
    scored = score_document([span("X", 0, 15)], [span("X", 0, 2)], tokens, Overlap(unit, 0.6))
    assert scored.overlap["X"] == (found, 1, 1)
