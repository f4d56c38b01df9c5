"""From matches to scores: counts of each document, which add up, and precision, recall and F1 of their sums.

Without predictions precision is 0, without gold recall is 0, an F1 of nothing at all is 0; the counts that stand beside
them say which it was.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Literal, Mapping, Optional, Sequence, Tuple

import numpy as np

from .intervals import Bootstrap, Interval
from .matching import KINDS, Mention, Pair, align, on_tokens, overlap_matches

Unit = Literal["characters", "tokens"]
UNITS: Tuple[Unit, ...] = ("characters", "tokens")
SCORES = ("p", "r", "f")
AVERAGES = ("macro", "weighted")
# Of pairs of each of KINDS, what SemEval-2013 task 9.1 calls them: correct, incorrect or partial. The other two kinds
# are missing and spurious in all four.
CORRECT, INCORRECT, PARTIAL, MISSED, SPURIOUS = range(5)
SEMEVAL: Dict[str, Tuple[int, ...]] = {
    "strict": (CORRECT, INCORRECT, INCORRECT, INCORRECT, MISSED, SPURIOUS),
    "exact": (CORRECT, CORRECT, INCORRECT, INCORRECT, MISSED, SPURIOUS),
    "partial": (CORRECT, CORRECT, PARTIAL, PARTIAL, MISSED, SPURIOUS),
    "type": (CORRECT, INCORRECT, CORRECT, INCORRECT, MISSED, SPURIOUS),
}

# Correct, predicted, gold.
Triple = Tuple[int, int, int]


@dataclass(frozen=True)
class Overlap:
    """When an entity counts as found in part.

    unit (str): What is compared: "characters" or "tokens". least (float): Smallest Dice coefficient, 0 to 1; 0:
        anything in common is enough.
    RAISES (ValueError): A setting is none of these.
    """

    unit: Unit = "characters"
    least: float = 0.5

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ValueError(f'overlap_unit = "{self.unit}": it is one of {", ".join(UNITS)}.')
        if isinstance(self.least, bool) or not isinstance(self.least, (int, float)) or not 0 <= self.least <= 1:
            raise ValueError(f"min_overlap = {self.least!r}: it is a Dice coefficient, from 0 to 1.")


@dataclass
class DocumentScores:
    """Counts of one document, by label where there is one.

    gold, predicted (List[Mention]): Without repeats, in order. pairs (List[Pair]): What was taken for what.
    exact (Dict[str, Triple]): Same label and characters. overlap (Dict[str, Triple]): Same label, and enough in common.
    tokens (Dict[str, Triple]): Tokens, each once for each label that it has. boundaries (Triple): Characters alone,
        each span once, whatever labels it has.
    kinds (Dict[str, Counter]): Pairs by kind, under the label of gold, or where there is none of the prediction.
    """

    gold: List[Mention]
    predicted: List[Mention]
    pairs: List[Pair]
    exact: Dict[str, Triple]
    overlap: Dict[str, Triple]
    tokens: Dict[str, Triple]
    boundaries: Triple
    kinds: Dict[str, Counter]


def score_document(
    gold: Iterable[Mention],
    predicted: Iterable[Mention],
    tokens: Sequence[Tuple[int, int]],
    overlap: Overlap = Overlap(),  # it is frozen
) -> DocumentScores:
    """Compare the entities of one document.

    gold, predicted (Iterable[Mention]): By characters.
    tokens (Sequence[Tuple[int, int]]): First character and last + 1 of each token that counts (white space does not).
    """
    wanted, found = _distinct(gold), _distinct(predicted)
    wanted_tokens, found_tokens = (
        _distinct(item for item in on_tokens(side, tokens) if item) for side in (wanted, found)
    )
    sides = (wanted, found) if overlap.unit == "characters" else (wanted_tokens, found_tokens)
    n_wanted, n_found = (Counter(item.label for item in side) for side in sides)
    part = overlap_matches(*sides, overlap.least)
    pairs = align(wanted, found)
    kinds: Dict[str, Counter] = {}
    for pair in pairs:
        side, number = (wanted, pair.gold) if pair.gold is not None else (found, pair.predicted)
        kinds.setdefault(side[number].label, Counter())[pair.kind] += 1  # type: ignore[index]
    pieces = [{item.pieces for item in side} for side in (wanted, found)]
    return DocumentScores(
        gold=wanted,
        predicted=found,
        pairs=pairs,
        exact=_by_label(wanted, found),
        overlap={label: (part.get(label, 0), n_found[label], n_wanted[label]) for label in {*n_wanted, *n_found}},
        tokens=_by_label(_labelled_tokens(wanted_tokens), _labelled_tokens(found_tokens)),
        boundaries=(len(pieces[0] & pieces[1]), len(pieces[1]), len(pieces[0])),
        kinds=kinds,
    )


def _distinct(found: Iterable[Mention]) -> List[Mention]:
    return sorted(set(found), key=lambda item: (item.start, -item.end, item))


def _labelled_tokens(found: Iterable[Mention]) -> Iterable[Tuple[str, int]]:
    return ((item.label, token) for item in found for start, end in item.pieces for token in range(start, end))


def _by_label(gold: Iterable[Tuple[str, Any]], predicted: Iterable[Tuple[str, Any]]) -> Dict[str, Triple]:
    """Counts of things that have a label first, by label."""
    wanted, found = set(gold), set(predicted)
    right, n_found, n_wanted = (Counter(item[0] for item in items) for items in (wanted & found, found, wanted))
    return {label: (right[label], n_found[label], n_wanted[label]) for label in {*n_found, *n_wanted}}


# Scores of counts. All take arrays with anything before the axes that they name, so that they work on the documents
# themselves and on a thousand samples of them alike.


def precision_recall_f1(counts: np.ndarray) -> np.ndarray:
    """counts (np.ndarray): Correct, predicted, gold, (..., 3). RETURNS: p, r and f, float64, (..., 3)."""
    correct, predicted, gold = (counts[..., i].astype(np.float64) for i in range(3))
    return np.stack([_divide(correct, predicted), _divide(correct, gold), _divide(2 * correct, predicted + gold)], -1)


def macro_average(counts: np.ndarray) -> np.ndarray:
    """Mean of the labels' scores, over labels that gold has. counts: (..., labels, 3). RETURNS: (..., 3)."""
    return _average(counts, (counts[..., 2] > 0).astype(np.float64))


def weighted_average(counts: np.ndarray) -> np.ndarray:
    """Mean of the labels' scores, each as often as gold has the label. counts: (..., labels, 3). RETURNS: (..., 3)."""
    return _average(counts, counts[..., 2].astype(np.float64))


def _average(counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    scores = (precision_recall_f1(counts) * weights[..., None]).sum(-2)
    return _divide(scores, weights.sum(-1)[..., None])


def semeval_scores(counts: np.ndarray) -> np.ndarray:
    """counts: Correct, incorrect, partial, missed, spurious, (..., 5). RETURNS: p, r and f, (..., 3).

    A partial match is worth half a correct one.
    """
    right = counts[..., CORRECT] + 0.5 * counts[..., PARTIAL]
    paired = counts[..., : PARTIAL + 1].sum(-1)
    return precision_recall_f1(np.stack([right, paired + counts[..., SPURIOUS], paired + counts[..., MISSED]], -1))


def semeval_counts(kinds: np.ndarray, measure: str) -> np.ndarray:
    """Numbers of pairs of each of KINDS, (..., 6), as SemEval counts them, (..., 5)."""
    counts = np.zeros((*kinds.shape[:-1], 5), dtype=kinds.dtype)
    for kind, taken_for in enumerate(SEMEVAL[measure]):
        counts[..., taken_for] += kinds[..., kind]
    return counts


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b, and 0 where b is 0."""
    return np.divide(a, b, out=np.zeros(np.broadcast_shapes(a.shape, b.shape)), where=b > 0)


@dataclass
class Table:
    """Counts of documents under names: labels, lengths, or what else entities are told apart by.

    names (List[str]): What the rows are called. counts (np.ndarray): int64, (documents, names, columns).
    """

    names: List[str]
    counts: np.ndarray

    @classmethod
    def of(cls, documents: Sequence[Mapping[str, Sequence[int]]], columns: int = 3) -> "Table":
        """documents: The counts of each document by name."""
        names = sorted({name for document in documents for name in document})
        place = {name: i for i, name in enumerate(names)}
        counts = np.zeros((len(documents), len(names), columns), dtype=np.int64)
        for row, document in zip(counts, documents):
            for name, values in document.items():
                row[place[name]] = values
        return cls(names, counts)

    @property
    def total(self) -> np.ndarray:
        """Counts of all documents, (names, columns)."""
        return self.counts.sum(0)


def triples(documents: Sequence[Triple]) -> np.ndarray:
    """Counts without names, int64, (documents, 3)."""
    return np.array(documents, dtype=np.int64).reshape(len(documents), 3)


def kinds_table(documents: Sequence[DocumentScores]) -> Table:
    """Pairs of each of KINDS, by label."""
    return Table.of([{k: [n[kind] for kind in KINDS] for k, n in d.kinds.items()} for d in documents], len(KINDS))


# What a file of scores holds.


@dataclass
class Rates:
    """Precision, recall and F1; and of each the interval, where documents were drawn and say anything of it."""

    p: float
    r: float
    f: float
    intervals: Optional[Dict[str, Optional[Interval]]] = None


@dataclass
class Score(Rates):
    """Rates with the counts that they come from."""

    correct: int = 0
    predicted: int = 0
    gold: int = 0


@dataclass
class Measure:
    """All entities together (micro), averages over labels (macro, weighted), and each label."""

    micro: Score
    macro: Rates
    weighted: Rates
    per_label: Dict[str, Score]


@dataclass
class SemEval(Rates):
    """One of the four measures of SemEval-2013 task 9.1."""

    correct: int = 0
    incorrect: int = 0
    partial: int = 0
    missed: int = 0
    spurious: int = 0


def score(counts: np.ndarray, bootstrap: Optional[Bootstrap] = None) -> Score:
    """counts: Correct, predicted and gold of each document, (documents, 3)."""
    return _score(counts.sum(0), _drawn(counts, bootstrap), bootstrap)


def score_each(table: Table, bootstrap: Optional[Bootstrap] = None) -> Dict[str, Score]:
    """A score under each name."""
    return _score_each(table, _drawn(table.counts, bootstrap), bootstrap)


def measure(table: Table, bootstrap: Optional[Bootstrap] = None) -> Measure:
    """All scores of a table whose names are labels."""
    total, drawn = table.total, _drawn(table.counts, bootstrap)
    return Measure(
        micro=_score(total.sum(0), None if drawn is None else drawn.sum(1), bootstrap),
        macro=_rates(total, drawn, macro_average, bootstrap, _known_mean),
        weighted=_rates(total, drawn, weighted_average, bootstrap, _known_mean),
        per_label=_score_each(table, drawn, bootstrap),
    )


def semeval(kinds: np.ndarray, bootstrap: Optional[Bootstrap] = None) -> Dict[str, SemEval]:
    """The four measures. kinds: Pairs of each of KINDS of each document, (documents, 6)."""
    total, drawn = kinds.sum(0), _drawn(kinds, bootstrap)
    found = {}
    for name in SEMEVAL:
        counts = semeval_counts(total, name)
        samples = None if drawn is None else semeval_counts(drawn, name)
        rates = _rates(counts, samples, semeval_scores, bootstrap, _known_semeval)
        names = ("correct", "incorrect", "partial", "missed", "spurious")
        numbers: Dict[str, Any] = dict(zip(names, map(int, counts)))
        found[name] = SemEval(rates.p, rates.r, rates.f, rates.intervals, **numbers)
    return found


def _drawn(counts: np.ndarray, bootstrap: Optional[Bootstrap]) -> Optional[np.ndarray]:
    return None if bootstrap is None else bootstrap.totals(counts)


def _score_each(table: Table, drawn: Optional[np.ndarray], bootstrap: Optional[Bootstrap]) -> Dict[str, Score]:
    return {
        name: _score(table.total[i], None if drawn is None else drawn[:, i], bootstrap)
        for i, name in enumerate(table.names)
    }


def _score(total: np.ndarray, drawn: Optional[np.ndarray], bootstrap: Optional[Bootstrap]) -> Score:
    """total: (3,). drawn: Of each sample, (samples, 3)."""
    rates = _rates(total, drawn, precision_recall_f1, bootstrap, _known_rates)
    numbers: Dict[str, Any] = dict(zip(("correct", "predicted", "gold"), map(int, total)))
    return Score(rates.p, rates.r, rates.f, rates.intervals, **numbers)


def _rates(
    total: np.ndarray,
    drawn: Optional[np.ndarray],
    function: Callable[[np.ndarray], np.ndarray],
    bootstrap: Optional[Bootstrap],
    known: Callable[[np.ndarray], np.ndarray],
) -> Rates:
    """total: Counts of all documents. drawn: Of each sample. function: From counts to p, r and f.

    known (Callable): From counts to which of the three are defined; samples in which one is not say nothing of it.
    """
    found = None
    if drawn is not None and bootstrap is not None:
        found = bootstrap.intervals(np.where(known(drawn), function(drawn), np.nan))
    p, r, f = (float(value) for value in function(total))
    return Rates(p, r, f, None if found is None else dict(zip(SCORES, found)))


def _known_rates(counts: np.ndarray) -> np.ndarray:
    """Where nothing is divided by nothing. counts: (..., 3). RETURNS: Of p, r and f, bool, (..., 3)."""
    predicted, gold = counts[..., 1], counts[..., 2]
    return np.stack([predicted, gold, predicted + gold], -1) > 0


def _known_mean(counts: np.ndarray) -> np.ndarray:
    """Of averages over labels: where gold has any. counts: (..., labels, 3). RETURNS: bool, (..., 1)."""
    return counts[..., 2].sum(-1)[..., None] > 0


def _known_semeval(counts: np.ndarray) -> np.ndarray:
    """As `_known_rates`, of SemEval's counts, (..., 5)."""
    paired = counts[..., : PARTIAL + 1].sum(-1)
    return _known_rates(np.stack([paired, paired + counts[..., SPURIOUS], paired + counts[..., MISSED]], -1))
