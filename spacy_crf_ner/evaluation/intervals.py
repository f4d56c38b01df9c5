"""How sure a score is, and whether one model is better than another: by drawing documents."""

from dataclasses import dataclass
from typing import Callable, Iterator, List, Optional, Tuple

import numpy as np

Interval = Tuple[float, float]
# Numbers that are held at once.
BLOCK = 4_000_000
# What rounding may take from a difference that is as large as the one seen.
ROUNDING = 1e-12


class Bootstrap:
    """Samples of documents, with replacement, as many as there are (Efron 1979).

    documents (int): How many there are. samples (int): How many times they are drawn.
    seed (int): The same seed gives the same samples. level (float): Share of the samples inside an interval.
    RAISES (ValueError): samples or level is out of its range.

    Documents are drawn whole, since entities of one document are not independent. All scores of a corpus, and of two
    models on it, are computed from the same samples.
    """

    def __init__(self, documents: int, samples: int = 1000, seed: int = 0, level: float = 0.95) -> None:
        if samples < 1:
            raise ValueError(f"samples = {samples}: at least 1 is needed.")
        if not 0 < level < 1:
            raise ValueError(f"level = {level}: it is a share between 0 and 1.")
        self.documents = documents
        self.level = level
        generator = np.random.default_rng(seed)
        # how often each document is in each sample; one corpus of a size has the same samples as another
        self._times = np.zeros((samples, documents), dtype=np.uint16)
        rows = _rows_at_once(documents)
        for start in range(0, samples, rows):
            here = self._times[start : start + rows]
            drawn = generator.integers(0, max(documents, 1), size=here.shape)
            drawn += np.arange(len(here))[:, None] * documents
            here[:] = np.bincount(drawn.ravel(), minlength=here.size).reshape(here.shape)

    def totals(self, counts: np.ndarray) -> np.ndarray:
        """Sums of each sample. counts: (documents, ...). RETURNS: float64, (samples, ...)."""
        flat = counts.reshape(len(counts), int(np.prod(counts.shape[1:]))).astype(np.float64)
        rows = _rows_at_once(self.documents)
        parts = [self._times[i : i + rows].astype(np.float64) @ flat for i in range(0, len(self._times), rows)]
        return np.concatenate(parts).reshape(len(self._times), *counts.shape[1:])

    def intervals(self, scores: np.ndarray) -> Optional[List[Optional[Interval]]]:
        """Percentile intervals. scores: Of each sample, (samples, scores); nan: the sample says nothing of it.

        RETURNS (Optional[List[Optional[Interval]]]): Lower and upper end of each score, None where no sample says
            anything of it; None for all where fewer than two documents were drawn from.
        """
        if self.documents < 2:
            return None
        tail = (1 - self.level) / 2
        found: List[Optional[Interval]] = []
        for column in scores.T:
            known = column[~np.isnan(column)]
            ends = np.quantile(known, [tail, 1 - tail]) if len(known) else None
            found.append(None if ends is None else (float(ends[0]), float(ends[1])))
        return found


def _rows_at_once(columns: int) -> int:
    return max(1, BLOCK // max(columns, 1))


@dataclass
class Difference:
    """How much better the first of two models is.

    difference (float): Its score less that of the other. interval (Optional[Interval]): By paired bootstrap.
    p_value (float): Probability of a difference at least as large, in either direction, if it did not matter which
        model has made the predictions for a document. exchanges (int): How many ways of exchanging them were tried.
    exact (bool): These are all there are.
    """

    difference: float
    interval: Optional[Interval]
    p_value: float
    exchanges: int
    exact: bool


def compare(
    first: np.ndarray,
    second: np.ndarray,
    function: Callable[[np.ndarray], np.ndarray],
    bootstrap: Bootstrap,
    exchanges: int = 10_000,
    seed: int = 0,
) -> Difference:
    """Test whether two models differ on the same documents.

    first, second (np.ndarray): Counts of each document, (documents, ...).
    function (Callable): From summed counts, (samples, ...), to a score, (samples,).
    exchanges (int): How many ways of exchanging the models' documents are drawn; where there are no more, all are
        tried.

    The test is approximate randomisation (Noreen 1989; Yeh 2000): for each document it is drawn which model's
    predictions count for which. It supposes nothing of how F1 is distributed, and is exact where all exchanges are
    tried. The share of bootstrap samples on the other side of 0 is no such test: it is computed where the models
    differ as they do, not where they are alike. What the bootstrap gives is how large the difference may be.
    """
    seen = float(function(first.sum(0)[None])[0] - function(second.sum(0)[None])[0])
    drawn = function(bootstrap.totals(first)) - function(bootstrap.totals(second))
    found = bootstrap.intervals(drawn[:, None])
    # documents on which both have the same counts make no difference
    differs = (first != second).reshape(len(first), int(np.prod(first.shape[1:]))).any(1)
    n = int(differs.sum())
    exact = n < 63 and 2**n <= exchanges
    apart = (first - second)[differs].astype(np.float64)
    flat = apart.reshape(n, int(np.prod(apart.shape[1:])))
    as_large = tried = 0
    for swapped in _all_exchanges(n) if exact else _some_exchanges(n, exchanges, seed):
        moved = (swapped.astype(np.float64) @ flat).reshape(len(swapped), *first.shape[1:])
        apart_now = function(first.sum(0) - moved) - function(second.sum(0) + moved)
        as_large += int((np.abs(apart_now) >= abs(seen) - ROUNDING).sum())
        tried += len(swapped)
    # of drawn exchanges the one that was seen is one more (Phipson & Smyth 2010): a p-value is never 0
    p_value = as_large / tried if exact else (as_large + 1) / (tried + 1)
    return Difference(seen, None if found is None else found[0], p_value, tried, exact)


def _all_exchanges(n: int) -> Iterator[np.ndarray]:
    yield (np.arange(2**n)[:, None] >> np.arange(n)) & 1


def _some_exchanges(n: int, exchanges: int, seed: int) -> Iterator[np.ndarray]:
    generator = np.random.default_rng(seed)
    rows = _rows_at_once(n)
    for start in range(0, exchanges, rows):
        yield generator.integers(0, 2, size=(min(rows, exchanges - start), n), dtype=np.int8)
