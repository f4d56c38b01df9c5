import math

import pytest
import torch

from spacy_crf_ner.training.gradients import FIRST_NORMS, Averages, SpikeGuard


def feed(guard: SpikeGuard, norms: list) -> list:
    return [guard.allowed(norm) for norm in norms]


@pytest.mark.parametrize("policy", ["clip_mean", "clip_threshold", "skip"])
def test_a_spike_is_dealt_with(policy: str) -> None:
    guard = SpikeGuard(policy, deviations=3.0)
    assert feed(guard, [1.0, 1.2] * 20) == [math.inf] * 40
    mean, bound = guard.mean, guard.mean + 3 * guard.variance**0.5
    assert guard.allowed(bound * 0.999) == math.inf
    expected = {
        "clip_mean": pytest.approx(mean, rel=0.1),
        "clip_threshold": pytest.approx(bound, rel=0.1),
        "skip": None,
    }
    assert guard.allowed(1e4) == expected[policy]
    assert guard.spikes == 1


def test_statistics_are_those_of_the_norms() -> None:
    guard = SpikeGuard("skip", window=1000)
    norms = torch.rand(50, generator=torch.Generator().manual_seed(0)).tolist()
    feed(guard, norms)
    assert guard.mean == pytest.approx(torch.tensor(norms).mean().item(), abs=1e-6)
    assert guard.variance == pytest.approx(torch.tensor(norms).var(unbiased=False).item(), abs=1e-6)


def test_the_first_norms_are_no_spikes() -> None:
    guard = SpikeGuard("skip")
    assert feed(guard, [1.0] * (FIRST_NORMS - 1) + [1e6]) == [math.inf] * FIRST_NORMS


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_stays_out_of_the_statistics(bad: float) -> None:
    guard, same = SpikeGuard("clip_mean"), SpikeGuard("clip_mean")
    feed(guard, [1.0, 2.0, bad, 3.0])
    feed(same, [1.0, 2.0, 3.0])
    assert (guard.mean, guard.variance) == (same.mean, same.variance)


def test_it_follows_a_norm_that_stays_high() -> None:
    guard = SpikeGuard("skip", deviations=3.0, window=20)
    feed(guard, [1.0, 1.1] * 20)
    taken = feed(guard, [3.0] * 200)
    assert taken[0] is None
    assert taken[-1] == math.inf


def test_averages_are_exponential() -> None:
    average = Averages(0.9)
    weights = [torch.full((3,), float(i)) for i in range(40)]
    expected = weights[0].clone()
    for i, weight in enumerate(weights):
        average.update([(1, "w")], [weight])
        if i:
            keep = min(0.9, (1 + i) / (10 + i))
            expected = keep * expected + (1 - keep) * weight
    torch.testing.assert_close(average.tensors[1, "w"], expected)
