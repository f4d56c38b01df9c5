import math

import pytest

from spacy_crf_ner.training.schedules import DECAYS, rate_factor


@pytest.mark.parametrize("decay", DECAYS)
def test_all_rise_evenly_and_begin_to_fall_from_the_whole_rate(decay: str) -> None:
    rates = [rate_factor(step, 4, 104, decay, 3.0) for step in range(105)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert all(a >= b for a, b in zip(rates[4:], rates[5:]))
    assert rate_factor(500, 4, 104, decay, 3.0) == rates[-1]
    assert [rate_factor(step, 0, 0, decay, 3.0) for step in (0, 10, 10**6)] == [1.0] * 3


@pytest.mark.parametrize(
    ("decay", "quarter", "middle", "end"),
    [
        ("linear", 0.75, 0.5, 0.0),
        ("cosine", (1 + math.cos(math.pi / 4)) / 2, 0.5, 0.0),
        ("polynomial", 0.75**3, 0.125, 0.0),
        ("step", 1.0, 0.1, 0.001),
        ("constant", 1.0, 1.0, 1.0),
    ],
)
def test_each_has_its_shape(decay: str, quarter: float, middle: float, end: float) -> None:
    found = [rate_factor(step, 20, 120, decay, 3.0) for step in (45, 70, 120)]
    assert found == pytest.approx([quarter, middle, end])
