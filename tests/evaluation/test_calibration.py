import math
from pathlib import Path
from typing import List

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_crf_ner.evaluation import calibration
from spacy_crf_ner.evaluation.calibration import (
    area_under_risk_coverage,
    brier,
    calibration_error,
    certified_threshold,
    ece,
    ece_if_exact,
    exponent_gain,
    fewest,
    fit_exponent,
    log_loss,
    lower_bound,
    measures,
    minimum,
    reliability,
    risk_coverage,
    sequence_of_tests,
)
from spacy_crf_ner.evaluation.reliability_diagram import draw

# few values, so that there are ties
JUDGED = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.7, 0.9, 1.0]), st.booleans()), min_size=1, max_size=60
)


def simulated(n: int, seed: int = 0) -> tuple:
    """Probabilities, and outcomes that have exactly these."""
    rng = np.random.default_rng(seed)
    p = rng.beta(3, 1, n)
    return p, rng.random(n) < p


def plain_ece(judged: List[tuple], bins: int) -> float:
    """By the definition, in plain Python."""
    ranked = sorted(p for p, _ in judged)
    groups: dict = {}
    for p, right in judged:
        first, last = ranked.index(p), len(ranked) - ranked[::-1].index(p)
        groups.setdefault(bins * (first + last) // (2 * len(ranked)), []).append((p, right))
    total = 0.0
    for members in groups.values():
        total += abs(sum(right for _, right in members) - sum(p for p, _ in members))
    return total / len(judged)


@given(JUDGED, st.integers(1, 12), st.randoms())
def test_ece_is_that_of_its_definition_in_any_order(judged: list, bins: int, random: object) -> None:
    p, right = (np.array(column, dtype=float) for column in zip(*judged))
    assert ece(p, right, bins) == pytest.approx(plain_ece(judged, bins), abs=1e-12)
    random.shuffle(judged)  # type: ignore[attr-defined]
    again = [np.array(column, dtype=float) for column in zip(*judged)]
    for name, value in measures(p, right).items():
        assert measures(*again)[name] == pytest.approx(value, abs=1e-9, nan_ok=True), name


def test_bins_have_equal_mass_where_nothing_is_tied() -> None:
    p, right = simulated(103)
    found = reliability(p, right, 10)
    assert len(found.n) == 10
    assert set(found.n.tolist()) <= {10, 11}
    assert (np.diff(found.p) > 0).all()
    assert reliability(np.full(50, 0.3), np.ones(50)).n.tolist() == [50]


def test_what_chance_adds_is_what_exact_probabilities_have() -> None:
    runs = [simulated(300, seed) for seed in range(300)]
    found = np.mean([ece(*run) for run in runs])
    assert np.mean([ece_if_exact(*run) for run in runs]) == pytest.approx(found, rel=0.05)
    # without what chance adds, nothing is left of exact ones, and of wrong ones what is wrong
    assert np.mean([calibration_error(*run) for run in runs]) < found / 2
    p = np.full(20_000, 0.9)
    assert calibration_error(p, np.random.default_rng(0).random(20_000) < 0.7) == pytest.approx(0.2, abs=0.02)


@given(JUDGED)
def test_scores_are_those_of_their_definitions(judged: list) -> None:
    p, right = (np.array(column, dtype=float) for column in zip(*judged))
    assert brier(p, right) == pytest.approx(sum((q - y) ** 2 for q, y in judged) / len(judged))
    sure = [min(max(q if y else 1 - q, 1e-12), 1 - 1e-12) for q, y in judged]
    assert log_loss(p, right) == pytest.approx(-sum(map(math.log, sure)) / len(judged))
    thresholds, coverage, risk = risk_coverage(p, right)
    for threshold, share, wrong in zip(thresholds, coverage, risk):
        kept = [y for q, y in judged if q >= threshold]
        assert share == pytest.approx(len(kept) / len(judged))
        assert wrong == pytest.approx(1 - sum(kept) / len(kept))


def test_the_area_is_the_mean_over_all_orders_of_equal_ones() -> None:
    # 0.9: right; 0.5, twice: one right, one wrong; 0.1: wrong
    p, right = np.array([0.5, 0.1, 0.9, 0.5]), np.array([0, 0, 1, 1])
    orders = [[0, 0, 1, 2], [0, 1, 1, 2]]  # wrong ones among the first k
    expected = np.mean([np.mean([wrong / k for k, wrong in enumerate(order, 1)]) for order in orders])
    assert area_under_risk_coverage(p, right) == pytest.approx(expected)


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="one for each"):
        ece(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="between 0 and 1"):
        ece(np.array([1.1]), np.ones(1))
    assert math.isnan(measures(np.zeros(0), np.zeros(0))["ece"])


@pytest.mark.parametrize("bottom", [-0.9, 0.0, 0.123, 1.0])
def test_minimum_finds_the_bottom(bottom: float) -> None:
    assert minimum(lambda x: abs(x - bottom), -1, 1) == pytest.approx(bottom, abs=1e-4)


def test_an_exponent_is_that_of_a_fine_grid_and_comes_back() -> None:
    rng = np.random.default_rng(1)
    p = rng.beta(4, 1, 4000)
    right = rng.random(4000) < p**2
    found = fit_exponent(p, right)

    def loss(exponent: float) -> float:
        return len(p) * log_loss(p**exponent, right) + math.log(exponent) ** 2 / (2 * 0.35**2)

    grid = np.exp(np.linspace(-1.4, 1.4, 2801))
    assert found == pytest.approx(grid[np.argmin([loss(x) for x in grid])], rel=2e-3)
    assert found == pytest.approx(2, rel=0.1)
    assert exponent_gain(p, right, np.arange(4000) % 5) > 0
    # a handful of entities hardly moves it
    assert abs(math.log(fit_exponent(np.array([0.9, 0.9]), np.array([0, 1])))) < 0.3


def test_bounds_are_those_of_clopper_and_pearson() -> None:
    def tail(right: int, n: int, p: float) -> float:
        return sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(right, n + 1))

    for right, n, confidence in ((8, 10, 0.9), (49, 50, 0.95), (3, 30, 0.5), (50, 50, 0.99)):
        bound = lower_bound(right, n, confidence)
        assert tail(right, n, bound) == pytest.approx(1 - confidence, rel=1e-6)
        assert calibration.binomial_tail(right, n, 0.7) == pytest.approx(tail(right, n, 0.7))
    assert lower_bound(0, 5, 0.9) == 0
    n = fewest(0.95, 0.9)
    assert 0.95**n <= 0.1 < 0.95 ** (n - 1)


def test_the_promise_is_kept_as_often_as_it_says() -> None:
    """True precision is known here: the guarantee is about it, not about what was seen."""
    wanted, confidence, runs = 0.85, 0.8, 300
    rng = np.random.default_rng(3)
    truth_p = rng.beta(3, 1, 400_000)

    def truth(p: np.ndarray) -> np.ndarray:
        return p**1.5  # surer than it may be

    broken = found = 0
    precisions = {}
    for _run in range(runs):
        before, p = rng.beta(3, 1, 200), rng.beta(3, 1, 400)
        order = sequence_of_tests(before, rng.random(200) < truth(before), wanted)
        right = rng.random(400) < truth(p)
        certificate = certified_threshold(p, right, order, wanted, confidence)
        if certificate is None:
            continue
        found += 1
        threshold = certificate.threshold
        if threshold not in precisions:
            precisions[threshold] = truth(truth_p[truth_p >= threshold]).mean()
        broken += precisions[threshold] < wanted
        assert certificate.lower_bound >= wanted - 1e-9
        assert certificate.entities == (p >= threshold).sum()
    assert found > runs / 2
    # three standard deviations of such a share
    assert broken / runs <= 1 - confidence + 3 * math.sqrt(confidence * (1 - confidence) / runs)
    assert broken > 0


def test_thresholds_are_tested_until_the_first_that_fails() -> None:
    p = np.repeat([0.9, 0.8, 0.7], 100)
    right = np.concatenate([np.ones(200), np.zeros(100)])
    assert certified_threshold(p, right, [0.85, 0.75, 0.65], 0.9, 0.9).threshold == 0.75  # type: ignore[union-attr]
    assert certified_threshold(p, right, [0.65, 0.75, 0.85], 0.9, 0.9) is None
    assert certified_threshold(p, right, [0.75, 0.85, 0.65], 0.9, 0.9).threshold == 0.75  # type: ignore[union-attr]
    assert certified_threshold(p, right, [0.95], 0.9, 0.9) is None
    order = sequence_of_tests(p, p, 0.7)
    assert sorted(order) == sorted(calibration.THRESHOLDS)
    assert order[0] == pytest.approx(0.8)  # 200 entities of 0.85 are surer than 100 of 0.9 or 300 of 0.8


def test_the_diagram_is_a_picture(tmp_path: Path) -> None:
    p, right = simulated(500)
    draw({"before": (p**0.5, right), "after": (p, right)}, tmp_path / "a.png")
    draw({"before": (p, right), "after": (p, right)}, tmp_path / "b.png")
    first, second = ((tmp_path / name).read_bytes() for name in ("a.png", "b.png"))
    assert first.startswith(b"\x89PNG")
    assert first != second
