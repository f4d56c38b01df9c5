"""How far probabilities can be trusted: what they promise beside what came true, and thresholds with a guarantee.

Works on arrays alone: `p`, the probability that each entity was given, float, (entities,), and `right`, whether it was
so, bool or 0 and 1, (entities,). Nothing here depends on the order of entities, or on how ties between them fall.
"""

import math
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

BINS = 10
# A logarithm of a probability is never taken nearer to 0 or 1 than this.
EPSILON = 1e-12
# Standard deviation that log(exponent) of a label is believed to have before anything is seen of it.
EXPONENT_SPREAD = 0.35
THRESHOLDS = tuple(round(0.995 - 0.005 * i, 3) for i in range(140))


class Bins(NamedTuple):
    """Entities in bins of like probability, by rising probability; arrays, (bins,).

    n (np.ndarray): Entities. p (np.ndarray): Their mean probability. right (np.ndarray): Share that was right. variance
        (np.ndarray): That `right` would have if the probabilities were exact.
    """

    n: np.ndarray
    p: np.ndarray
    right: np.ndarray
    variance: np.ndarray


def reliability(p: np.ndarray, right: np.ndarray, bins: int = BINS) -> Bins:
    """Probabilities and outcomes in bins that hold, as nearly as ties allow, the same number of entities.

    With the entities ranked by probability, those whose ranks lie from a to b (b not included) because they are equal
    go together to the bin in which the middle of their ranks lies, ⌊bins · (a + b) / 2n⌋. Bins that stay empty are left
    out.
    """
    p, right = _arrays(p, right)
    _, group, size = np.unique(p, return_inverse=True, return_counts=True)
    ends = np.cumsum(size)
    place = (bins * (2 * ends - size) // (2 * max(len(p), 1)))[group.reshape(-1)]
    n = np.bincount(place, minlength=bins).astype(float)
    used = n > 0

    def mean(values: np.ndarray) -> np.ndarray:
        return np.bincount(place, values, bins)[used] / n[used]

    return Bins(n[used].astype(int), mean(p), mean(right), mean(p * (1 - p)) / n[used])


def ece(p: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error: mean over entities of |share right − mean probability| of their bin."""
    found = reliability(p, right, bins)
    return _mean(np.abs(found.right - found.p), found.n)


def ece_if_exact(p: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """What `ece` would be on average if each entity were right with exactly its probability: chance alone.

    Few entities in a bin differ from their mean by chance; the differences are taken as normal.
    """
    found = reliability(p, right, bins)
    return _mean(np.sqrt(found.variance * 2 / math.pi), found.n)


def calibration_error(p: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """Root of the mean squared difference between a bin's share right and mean probability, less what chance adds.

    The estimate of the square is free of the bias that small bins give (Kumar, Liang & Ma 2019); where it is below 0
    the error is 0. Bins of one entity say nothing, and are left out.
    """
    found = reliability(p, right, bins)
    many = found.n > 1
    chance = found.right[many] * (1 - found.right[many]) / np.maximum(found.n[many] - 1, 1)
    return math.sqrt(max(0.0, _mean((found.right[many] - found.p[many]) ** 2 - chance, found.n[many])))


def brier(p: np.ndarray, right: np.ndarray) -> float:
    """Mean squared difference between probability and outcome."""
    p, right = _arrays(p, right)
    return _mean((p - right) ** 2)


def log_loss(p: np.ndarray, right: np.ndarray) -> float:
    """Mean of −log P(what came true), in nats; probabilities are kept 1e-12 away from 0 and 1."""
    p, right = _arrays(p, right)
    return _mean(_losses(p, right))


def risk_coverage(p: np.ndarray, right: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Share of wrong entities among those that reach a threshold, for each threshold that makes a difference.

    RETURNS: Thresholds, falling; coverage, the share of entities that reach each; risk, the share of those that is
        wrong.
    """
    p, right = _arrays(p, right)
    values, group, size = np.unique(p, return_inverse=True, return_counts=True)
    wrong = np.bincount(group.reshape(-1), 1 - right, len(values))
    n = np.cumsum(size[::-1])
    return values[::-1], n / max(len(p), 1), np.cumsum(wrong[::-1]) / n


def area_under_risk_coverage(p: np.ndarray, right: np.ndarray) -> float:
    """Mean risk over all coverages 1/n, 2/n, …, 1; of equal entities each is taken to be as wrong as their mean."""
    p, right = _arrays(p, right)
    values, group = np.unique(p, return_inverse=True)
    group = group.reshape(-1)
    share = np.bincount(group, 1 - right, len(values)) / np.maximum(np.bincount(group, minlength=len(values)), 1)
    wrong = np.cumsum(share[np.sort(group)[::-1]])
    return _mean(wrong / np.arange(1, len(p) + 1))


def measures(p: np.ndarray, right: np.ndarray, bins: int = BINS) -> Dict[str, float]:
    """All of the above by name; NaN where there are no entities."""
    p, right = _arrays(p, right)
    return {
        "entities": len(p),
        "mean_probability": _mean(p),
        "precision": _mean(right),
        "ece": ece(p, right, bins),
        "ece_if_exact": ece_if_exact(p, right, bins),
        "calibration_error": calibration_error(p, right, bins),
        "brier": brier(p, right),
        "log_loss": log_loss(p, right),
        "risk_coverage_area": area_under_risk_coverage(p, right),
    }


# Fitting


def minimum(loss: Callable[[float], float], low: float, high: float, steps: int = 24, tolerance: float = 1e-4) -> float:
    """Where a function of one number is least: the best of a grid, refined by golden section between its neighbours.

    RETURNS (float): In [low, high], off by at most `tolerance` where there is one minimum between the neighbours.
    """
    grid = np.linspace(low, high, steps + 1)
    best = int(np.argmin([loss(float(x)) for x in grid]))
    a, b = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, steps)])
    golden = (math.sqrt(5) - 1) / 2
    c, d = b - golden * (b - a), a + golden * (b - a)
    at_c, at_d = loss(c), loss(d)
    while b - a > tolerance:
        if at_c <= at_d:
            b, d, at_d = d, c, at_c
            c = b - golden * (b - a)
            at_c = loss(c)
        else:
            a, c, at_c = c, d, at_d
            d = a + golden * (b - a)
            at_d = loss(d)
    return (a + b) / 2


def fit_exponent(p: np.ndarray, right: np.ndarray) -> float:
    """The power of their probabilities under which outcomes are likeliest.

    A label's exponent is believed to be near 1 until its entities say otherwise: to the log loss of
    p ** exponent, summed, comes log(exponent)² / (2 · 0.35²).
    """
    p, right = _arrays(p, right)
    weight = 1 / (2 * EXPONENT_SPREAD**2)
    return math.exp(minimum(lambda x: float(_losses(p ** math.exp(x), right).sum()) + weight * x * x, -1.4, 1.4))


def exponent_gain(p: np.ndarray, right: np.ndarray, folds: np.ndarray) -> float:
    """How much log loss an exponent saves on entities that it was not fitted to, summed over them, in nats.

    folds (np.ndarray): Which fold each entity is in, int, (entities,); each is scored with what the others say.
    """
    p, right = _arrays(p, right)
    gain = 0.0
    for fold in np.unique(folds):
        out = folds == fold
        exponent = fit_exponent(p[~out], right[~out])
        gain += float((_losses(p[out], right[out]) - _losses(p[out] ** exponent, right[out])).sum())
    return gain


# Thresholds


class Certificate(NamedTuple):
    """A threshold and what is known of it.

    threshold (float): Entities with at least this probability are kept. entities, right (int): Kept entities of the
        data that it was tested on, and how many of them were right. lower_bound (float): What precision is at least,
        with the confidence that was asked for, by Clopper and Pearson.
    """

    threshold: float
    entities: int
    right: int
    lower_bound: float


def binomial_tail(right: int, n: int, p: float) -> float:
    """P(at least `right` of n independent draws succeed), each with probability p."""
    if right <= 0:
        return 1.0
    if p <= 0 or right > n:
        return 0.0
    if p >= 1:
        return 1.0
    k = np.arange(right, n + 1)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    terms = log_factorial[n] - log_factorial[k] - log_factorial[n - k] + k * math.log(p) + (n - k) * math.log1p(-p)
    top = float(terms.max())
    return min(1.0, math.exp(top) * float(np.exp(terms - top).sum()))


def lower_bound(right: int, n: int, confidence: float) -> float:
    """What the share of right ones is at least, with a confidence, one-sided and exact (Clopper & Pearson 1934)."""
    low, high = 0.0, right / n if n else 0.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if binomial_tail(right, n, middle) <= 1 - confidence else (low, middle)
    return low


def fewest(precision: float, confidence: float) -> int:
    """How many entities, all of them right, it takes to show a precision with a confidence."""
    return math.ceil(math.log(1 - confidence) / math.log(precision))


def sequence_of_tests(p: np.ndarray, precision: float) -> List[float]:
    """Thresholds in the order in which they are to be tested: first those that seem the surest to keep the promise.

    p (np.ndarray): Calibrated probabilities of entities that the thresholds are not tested on.
    RETURNS (List[float]): Of the thresholds 0.995, 0.99, …, 0.3, the one first whose entities promise, by their mean
        probability and their number, the smallest p-value.
    """
    p = np.asarray(p, dtype=float)

    def surety(threshold: float) -> float:
        kept = p[p >= threshold]
        return float((kept.mean() - precision) * math.sqrt(len(kept))) if len(kept) else -math.inf

    return sorted(THRESHOLDS, key=lambda threshold: (-surety(threshold), -threshold))


def certified_threshold(
    p: np.ndarray, right: np.ndarray, order: Sequence[float], precision: float, confidence: float
) -> Optional[Certificate]:
    """The lowest threshold of which it is shown that what reaches it is right often enough.

    p, right (np.ndarray): Entities that neither the probabilities were fitted to nor the order comes from.
    order (Sequence[float]): Thresholds as they are tested, the first that fails being the last.
    precision (float): Share that is to be right, above 0 and below 1.
    confidence (float): With what probability the promise holds, above 0 and below 1.
    RETURNS (Optional[Certificate]): None where the first threshold fails already.

    Each threshold is a hypothesis, "fewer than `precision` are right", with its exact binomial p-value. In a fixed
    sequence all can be tested at level 1 − confidence: the chance that any threshold passes that should not is at
    most that (Angelopoulos, Bates, Candès, Jordan & Lei 2021, "Learn then test").
    """
    p, right = _arrays(p, right)
    passed: Optional[Tuple[float, int, int]] = None
    for threshold in order:
        kept = right[p >= threshold]
        n, good = len(kept), round(float(kept.sum()))
        if n == 0 or binomial_tail(good, n, precision) > 1 - confidence:
            break
        if passed is None or threshold < passed[0]:
            passed = (threshold, n, good)
    return None if passed is None else Certificate(*passed, lower_bound(passed[2], passed[1], confidence))


def _arrays(p: np.ndarray, right: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """RAISES (ValueError): They are not of one length, or a probability is not in [0, 1]."""
    p, right = np.asarray(p, dtype=float), np.asarray(right, dtype=float)
    if p.shape != right.shape or p.ndim != 1:
        raise ValueError(f"Probabilities {p.shape} and outcomes {right.shape} must be one for each entity.")
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("A probability is not between 0 and 1.")
    return p, right


def _losses(p: np.ndarray, right: np.ndarray) -> np.ndarray:
    p = np.clip(p, EPSILON, 1 - EPSILON)
    return -(right * np.log(p) + (1 - right) * np.log1p(-p))


def _mean(values: np.ndarray, weights: Optional[np.ndarray] = None) -> float:
    return float(np.average(values, weights=weights)) if len(values) else math.nan
