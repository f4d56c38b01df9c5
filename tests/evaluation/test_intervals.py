import itertools
import math
from typing import Any

import numpy as np
import pytest

from spacy_crf_ner.evaluation.intervals import Bootstrap, compare
from spacy_crf_ner.evaluation.scores import Table, macro_average, measure, precision_recall_f1, score


def micro_f(counts: np.ndarray) -> np.ndarray:
    return precision_recall_f1(counts)[..., 2]


def macro_f(counts: np.ndarray) -> np.ndarray:
    return macro_average(counts)[..., 2]


def random_counts(documents: int, labels: int, seed: int = 0) -> np.ndarray:
    """Correct, predicted and gold, (documents, labels, 3)."""
    generator = np.random.default_rng(seed)
    gold = generator.integers(0, 4, (documents, labels))
    predicted = generator.integers(0, 4, (documents, labels))
    return np.stack([generator.integers(0, np.minimum(gold, predicted) + 1), predicted, gold], -1)


def test_scores_against_a_hand_written_loop() -> None:
    counts = random_counts(20, 4)
    counts[:, 2, 2] = counts[:, 2, 0] = 0
    found = measure(Table([*"abcd"], counts))
    by_label = {}
    for i, label in enumerate("abcd"):
        correct, predicted, gold = (int(counts[:, i, column].sum()) for column in range(3))
        p, r = correct / predicted, correct / gold if gold else 0.0
        by_label[label] = (p, r, 2 * p * r / (p + r) if p + r else 0.0, gold)
        assert (found.per_label[label].p, found.per_label[label].r) == pytest.approx((p, r))
        assert found.per_label[label].f == pytest.approx(by_label[label][2])
    in_gold = [scores for scores in by_label.values() if scores[3]]
    assert len(in_gold) == 3
    for i, name in enumerate("prf"):
        assert getattr(found.macro, name) == pytest.approx(sum(scores[i] for scores in in_gold) / 3)
        weighted = sum(scores[i] * scores[3] for scores in in_gold) / sum(scores[3] for scores in in_gold)
        assert getattr(found.weighted, name) == pytest.approx(weighted)


def test_samples_are_sums_of_documents_that_were_drawn() -> None:
    counts = random_counts(6, 2)
    bootstrap = Bootstrap(6, 50, seed=4)
    totals = bootstrap.totals(counts)
    possible = {
        tuple(counts[list(drawn)].sum(0).ravel()) for drawn in itertools.combinations_with_replacement(range(6), 6)
    }
    assert {tuple(total.ravel()) for total in totals} <= possible
    assert len({tuple(total.ravel()) for total in totals}) > 20
    again = Bootstrap(6, 50, seed=4).totals(counts)
    assert (totals == again).all()
    assert (totals != Bootstrap(6, 50, seed=5).totals(counts)).any()


def test_intervals_against_a_loop_over_samples() -> None:
    counts = random_counts(40, 1)[:, 0]
    bootstrap = Bootstrap(40, 400, seed=1, level=0.9)
    by_hand = []
    for total in bootstrap.totals(counts):
        correct, predicted, gold = total
        by_hand.append(2 * correct / (predicted + gold))
    by_hand.sort()
    found = score(counts, bootstrap).intervals
    assert found is not None
    assert found["f"] == pytest.approx((np.quantile(by_hand, 0.05), np.quantile(by_hand, 0.95)))


def test_intervals_hold_the_true_score_as_often_as_they_say() -> None:
    """Documents with 3 entities each, all predicted, of which each is right with 0.6."""
    generator = np.random.default_rng(0)
    held = 0
    for seed in range(300):
        counts = np.full((60, 3), 3)
        counts[:, 0] = generator.binomial(3, 0.6, 60)
        found = score(counts, Bootstrap(60, 300, seed)).intervals
        assert found is not None
        held += found["f"][0] <= 0.6 <= found["f"][1]
    # 0.95 of 300 is 285, three standard deviations are 11
    assert 270 <= held <= 296


def test_samples_in_which_a_label_is_not_there_say_nothing_of_it() -> None:
    counts = np.zeros((30, 2, 3), dtype=np.int64)
    counts[:, 0] = 1
    counts[0, 1] = 1
    found = measure(Table(["often", "once"], counts), Bootstrap(30, 200))
    assert found.per_label["once"].intervals == {"p": (1.0, 1.0), "r": (1.0, 1.0), "f": (1.0, 1.0)}
    missed = score(np.tile([0, 0, 1], (30, 1)), Bootstrap(30, 20)).intervals
    assert missed == {"p": None, "r": (0.0, 0.0), "f": (0.0, 0.0)}
    assert score(np.ones((1, 3), dtype=np.int64), Bootstrap(1, 20)).intervals is None


def test_many_documents_are_drawn_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spacy_crf_ner.evaluation.intervals.BLOCK", 100)
    counts = random_counts(30, 2)
    times = Bootstrap(30, 25).totals(np.eye(30, dtype=np.int64))
    assert (times.sum(1) == 30).all()
    assert np.allclose(Bootstrap(30, 25).totals(counts).reshape(25, 6), times @ counts.reshape(30, 6))


@pytest.mark.parametrize("function", [lambda counts: micro_f(counts.sum(-2)), macro_f], ids=["micro", "macro"])
@pytest.mark.parametrize("seed", range(5))
def test_the_paired_test_against_all_exchanges(function: Any, seed: int) -> None:
    first, second = random_counts(8, 2, seed), random_counts(8, 2, seed + 100)
    second[..., 2] = first[..., 2]
    for counts in (first, second):
        counts[..., 0] = np.minimum(counts[..., 0], first[..., 2])
    seen = abs(float(function(first.sum(0)) - function(second.sum(0))))
    as_large = 0
    for swaps in itertools.product([False, True], repeat=8):
        a = sum(second[i] if swap else first[i] for i, swap in enumerate(swaps))
        b = sum(first[i] if swap else second[i] for i, swap in enumerate(swaps))
        as_large += abs(float(function(a) - function(b))) >= seen - 1e-12
    bootstrap = Bootstrap(8, 200)
    found = compare(first, second, function, bootstrap, 10_000)
    assert found.exact
    assert found.p_value == pytest.approx(as_large / 2**8)
    # drawn ones come close: within four standard deviations of a share of 100
    drawn = compare(first, second, function, bootstrap, 100)
    assert not drawn.exact
    assert drawn.exchanges == 100
    assert abs(drawn.p_value - found.p_value) < 4 * math.sqrt(0.25 / 100) + 0.01


def test_models_that_are_alike_differ_as_seldom_as_the_test_says() -> None:
    generator = np.random.default_rng(0)
    p_values = []
    for _ in range(200):
        first, second = np.full((2, 30, 3), 3)
        first[:, 0], second[:, 0] = generator.binomial(3, 0.7, (2, 30))
        p_values.append(compare(first, second, micro_f, Bootstrap(30, 10), 300).p_value)
    # 10 of 200 expected, three standard deviations are 9
    assert sum(p <= 0.05 for p in p_values) <= 19
    assert min(p_values) < 0.2


def test_the_same_model_does_not_differ_and_a_far_better_one_does() -> None:
    counts = random_counts(50, 1)[:, 0] + 1
    same = compare(counts, counts, micro_f, Bootstrap(50, 100))
    assert (same.difference, same.p_value, same.interval) == (0.0, 1.0, (0.0, 0.0))
    right, wrong = np.full((50, 3), 2), np.full((50, 3), 2)
    wrong[:, 0] = 0
    found = compare(right, wrong, micro_f, Bootstrap(50, 100), 999)
    assert (found.difference, found.p_value) == (1.0, 0.001)
    turned = compare(wrong, right, micro_f, Bootstrap(50, 100), 999)
    assert turned.difference == -1.0
    assert turned.p_value == found.p_value


@pytest.mark.parametrize("wrong", [{"samples": 0}, {"level": 1.0}, {"level": 0.0}])
def test_settings_out_of_range(wrong: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Bootstrap(3, **wrong)
