from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from spacy_crf_ner.embedding import attention
from spacy_crf_ner.embedding.attention import FilledUp, attend


def heads(windows: int, length: int, dtype: torch.dtype) -> list:
    parts = torch.randn(3, windows, length, 4, 8, generator=torch.Generator().manual_seed(length))
    return [part.to(dtype).transpose(1, 2) for part in parts]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["bool", "float", "none"])
@pytest.mark.parametrize("length", [1, 5, 6, 15, 16, 17, 23, 31, 47, 48])
def test_it_is_attention(length: int, kind: str, dtype: torch.dtype) -> None:
    real = torch.arange(length) < torch.tensor([length, max(1, length - 3), 1])[:, None]
    mask = real[:, None, None].expand(-1, 1, length, -1)
    if kind == "float":
        mask = torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)
    parts = heads(3, length, dtype)
    expected = scaled_dot_product_attention(*parts, attn_mask=None if kind == "none" else mask)
    found = attend(*parts, attn_mask=None if kind == "none" else mask)
    tolerance = 1e-6 if dtype == torch.float32 else 0.02
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_only_a_long_tail_is_filled_up(monkeypatch: pytest.MonkeyPatch) -> None:
    filled: list = []

    def counted(*args: Any, **settings: Any) -> torch.Tensor:
        filled.append(args)
        return torch.nn.functional.pad(*args, **settings)

    monkeypatch.setattr(attention, "pad", counted)
    for length in range(1, 33):
        before = len(filled)
        mask = torch.ones(2, 1, length, length, dtype=torch.bool)
        attend(*heads(2, length, torch.float32), attn_mask=mask)
        assert (len(filled) > before) == (length % 16 >= 6)


def test_what_is_not_usual_is_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "pad", lambda *_, **__: pytest.fail("filled up"))
    query, key, value = heads(2, 23, torch.float32)
    causal = attend(query, key, value, is_causal=True)
    torch.testing.assert_close(causal, scaled_dot_product_attention(query, key, value, is_causal=True))
    flat = attend(query[:, 0], key[:, 0], value[:, 0], attn_mask=torch.ones(23, 23, dtype=torch.bool))
    torch.testing.assert_close(flat, scaled_dot_product_attention(query[:, 0], key[:, 0], value[:, 0]))


def test_it_sees_the_calls_that_encoders_make() -> None:
    parts = heads(1, 23, torch.float32)
    mask = torch.zeros(1, 1, 23, 23)
    with pytest.MonkeyPatch.context() as patch, FilledUp():
        patch.setattr(attention, "pad", lambda *_, **__: 1 / 0)
        assert torch.equal(parts[0] + 1, 1 + parts[0])
        with pytest.raises(ZeroDivisionError):
            torch.nn.functional.scaled_dot_product_attention(*parts, attn_mask=mask)


def test_arguments_may_come_by_position() -> None:
    query, key, value = heads(2, 23, torch.float32)
    mask = torch.ones(2, 1, 23, 23, dtype=torch.bool)
    expected = scaled_dot_product_attention(query, key, value, mask)
    torch.testing.assert_close(attend(query, key, value, mask, 0.0, False), expected)
    # a mask that is the same for all keys
    torch.testing.assert_close(attend(query, key, value, mask[..., :1]), expected)
