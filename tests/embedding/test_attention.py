from typing import Any, List

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from spacy_crf_ner.embedding import attention
from spacy_crf_ner.embedding.attention import QuickAttention, attend, attend_by_steps


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


@pytest.mark.parametrize(("dtype", "shortest"), [(torch.float32, 6), (torch.bfloat16, 1), (torch.float16, 16)])
def test_tails_are_filled_up(dtype: torch.dtype, shortest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_has_lanes", lambda: True)
    seen: List[int] = []

    def spied(query: Any, key: Any, *args: Any, **settings: Any) -> torch.Tensor:
        seen.append(key.shape[-2])
        return scaled_dot_product_attention(query, key, *args, **settings)

    monkeypatch.setattr(attention, "scaled_dot_product_attention", spied)
    for length in range(1, 33):
        attend(*heads(2, length, dtype))
        assert seen.pop() == (-(-length // 16) * 16 if length % 16 >= shortest else length)


def test_in_bfloat16_short_windows_do_not_depend_on_batch_mates() -> None:
    query, key, value = heads(3, 21, torch.bfloat16)
    alone = attend(query, key, value)
    for longest in (22, 31, 32, 40):
        # the same windows beside longer ones
        wide = [torch.nn.functional.pad(part, (0, 0, 0, longest - 21), value=1.0) for part in (query, key, value)]
        mask = (torch.arange(longest) < 21).expand(3, 1, longest, longest)
        assert torch.equal(attend(*wide, attn_mask=mask)[:, :, :21], alone)


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
    with pytest.MonkeyPatch.context() as patch, QuickAttention():
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


@pytest.mark.parametrize("kind", ["bool", "float", "none"])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_by_steps_it_is_attention_with_its_gradients(kind: str, scale: Any) -> None:
    parts = [part.double().requires_grad_() for part in heads(3, 9, torch.float32)]
    real = (torch.arange(9) < torch.tensor([9, 7, 1])[:, None])[:, None, None].expand(-1, 1, 9, -1)
    masks = {"bool": real, "float": torch.zeros(real.shape).double().masked_fill(~real, -1e9), "none": None}
    expected = scaled_dot_product_attention(*parts, attn_mask=masks[kind], scale=scale)
    found = attend_by_steps(*parts, masks[kind], 0.0, scale)
    torch.testing.assert_close(found, expected)
    weight = torch.rand_like(found)
    gradients = [torch.autograd.grad((out * weight).sum(), parts) for out in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_dropout_drops_what_is_attended_to() -> None:
    query, key, _ = heads(2, 16, torch.float32)
    # with unit vectors as values the shares themselves come out
    values = torch.eye(16).expand(2, 4, 16, 16)
    whole = attend(query, key, values)
    torch.manual_seed(0)
    shares = torch.stack([attend(query, key, values, dropout_p=0.25) for _ in range(200)])
    dropped = shares == 0
    assert dropped.float().mean().item() == pytest.approx(0.25, abs=0.01)
    kept = whole.expand_as(shares)[~dropped] / 0.75
    torch.testing.assert_close(shares[~dropped], kept)


@pytest.mark.parametrize(
    ("dtype", "dropout", "learns", "by_steps"),
    [
        (torch.float32, 0.1, True, True),
        (torch.float32, 0.0, True, False),
        (torch.bfloat16, 0.0, True, True),
        (torch.bfloat16, 0.0, False, False),
    ],
)
def test_training_goes_by_steps_where_that_is_faster(
    dtype: torch.dtype, dropout: float, learns: bool, by_steps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: List[Any] = []
    monkeypatch.setattr(attention, "attend_by_steps", lambda *args: called.append(args))
    query, key, value = heads(2, 7, dtype)
    attend(query.requires_grad_(learns), key, value, dropout_p=dropout)
    assert bool(called) == by_steps


def test_under_autocast_the_steps_are_taken_in_float32() -> None:
    parts = heads(3, 21, torch.bfloat16)
    exact = scaled_dot_product_attention(*(part.float() for part in parts)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = attend_by_steps(*parts, None, 0.0, None)
    assert found.dtype == torch.bfloat16
    # rounded once, at the end; where products are rounded too, a third of the values differ
    assert (found == exact).float().mean() > 0.99


@pytest.mark.parametrize("kind", ["bool", "float"])
def test_what_may_attend_to_nothing_is_no_nan(kind: str) -> None:
    parts = [part.requires_grad_() for part in heads(2, 5, torch.float32)]
    real = torch.ones(2, 1, 5, 5, dtype=torch.bool)
    real[1, :, 3] = False
    mask = real if kind == "bool" else torch.zeros(real.shape).masked_fill(~real, -torch.inf)
    found = attend(*parts, attn_mask=mask, dropout_p=0.1)
    gradients = torch.autograd.grad(found.sum(), parts)
    assert all(part.isfinite().all() for part in (found, *gradients))


def test_long_windows_without_dropout_hold_no_square(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "attend_by_steps", lambda *_: pytest.fail("by steps"))
    query, key, value = heads(1, 513, torch.bfloat16)
    attend(query.requires_grad_(), key, value)
