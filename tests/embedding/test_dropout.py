import pytest
import torch
from torch import nn

from spacy_crf_ner.embedding.dropout import Dropout, drop, replace_dropout


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_rate_is_met_and_what_stays_is_scaled(rate: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    vectors = torch.full((1001, 1003), 3.0, dtype=dtype, requires_grad=True)
    out = drop(vectors, rate, True)
    assert out.dtype == dtype
    kept = out != 0
    n = vectors.numel()
    # four standard deviations
    assert abs(float((~kept).double().mean()) - rate) < 4 * (rate * (1 - rate) / n) ** 0.5 + 1 / 131_072
    torch.testing.assert_close(out[kept], torch.full_like(out[kept], 3 / (1 - rate)))
    out.backward(torch.full_like(out, 2.0))
    torch.testing.assert_close(vectors.grad, torch.where(kept, 2 / (1 - rate), 0.0).to(dtype))


def test_values_are_dropped_independently_and_anew() -> None:
    torch.manual_seed(0)
    first, second = (drop(torch.ones(400_000), 0.5, True) > 0 for _ in range(2))
    for a, b in ((first, second), (first[1:], first[:-1]), (first[4:], first[:-4]), (first[3::4], first[::4])):
        assert abs(float((a == b).double().mean()) - 0.5) < 4 * 0.5 / len(a) ** 0.5
    torch.manual_seed(0)
    assert torch.equal(drop(torch.ones(400_000), 0.5, True) > 0, first)


def test_outside_training_and_at_the_ends_it_is_torchs_own() -> None:
    vectors = torch.randn(5, 3)
    assert drop(vectors, 0.5, False) is vectors
    assert drop(vectors, 0.0, True) is vectors
    assert drop(vectors, 1e-6, True) is vectors  # less than the smallest rate there is
    assert (drop(torch.ones(1000), 1e-5, True) > 0).float().mean() > 0.99
    assert not drop(vectors, 1.0, True).any()


def test_it_takes_the_place_of_torchs_own() -> None:
    class Alike(nn.Dropout):
        pass

    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.3), nn.Sequential(nn.Dropout(0.1), Alike(0.2)))
    replace_dropout(net)
    assert [(type(m), m.p) for m in net.modules() if isinstance(m, nn.Dropout)] == [
        (Dropout, 0.3),
        (Dropout, 0.1),
        (Alike, 0.2),
    ]
