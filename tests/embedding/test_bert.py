import copy
from typing import Any, List

import pytest
import spacy
import torch

from spacy_crf_ner.embedding import fused, int8
from spacy_crf_ner.embedding import module as module_code
from spacy_crf_ner.embedding.bert import hidden_states, is_bert
from spacy_crf_ner.embedding.model import TransformerCNN
from spacy_crf_ner.embedding.module import TransformerCNNModule

from .test_int8 import batches, bert, distilbert, electra, relative_error, roberta

NLP = spacy.blank("en")


def xlm_roberta() -> Any:
    from transformers import XLMRobertaConfig, XLMRobertaModel

    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=40, initializer_range=0.15,
    )  # fmt: skip
    return XLMRobertaModel(config, add_pooling_layer=False).eval()


def pruned() -> Any:
    encoder = bert()
    encoder.prune_heads({0: [1]})
    return encoder


MAKERS = [bert, distilbert, roberta, electra, xlm_roberta, pruned]


def huggingface(encoder: Any, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """All layers side by side, of what is no padding."""
    with torch.inference_mode():
        states = encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
    return torch.cat(states, -1)[mask.bool()]


def ours(encoder: Any, ids: torch.Tensor, mask: torch.Tensor, layers: List[int]) -> torch.Tensor:
    with torch.inference_mode():
        padded = None if mask.all() else mask.sum(1)
        return hidden_states(encoder, ids, padded, layers)[mask.bool()]


@pytest.mark.parametrize("make", MAKERS)
def test_it_is_what_hugging_face_computes(make: Any) -> None:
    encoder = make()
    assert is_bert(encoder)
    seen = set()
    for ids, mask in batches(100):
        expected = huggingface(encoder, ids, mask)
        torch.testing.assert_close(ours(encoder, ids, mask, [0, 1, 2]), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours(encoder, ids, mask, [1]), expected[:, 32:64], atol=1e-5, rtol=1e-5)
        mixed = ours(encoder, ids, mask, [2, 0])
        torch.testing.assert_close(mixed, torch.cat([expected[:, 64:], expected[:, :32]], -1), atol=1e-5, rtol=1e-5)
        full = torch.ones_like(ids)
        torch.testing.assert_close(
            ours(encoder, ids, full, [0, 1, 2]), huggingface(encoder, ids, full), atol=1e-5, rtol=1e-5
        )
        seen.add(bool(mask.all()))
    assert False in seen


@pytest.mark.skipif(not fused.works(), reason="this build of torch lacks the operator")
@pytest.mark.parametrize("make", MAKERS)
def test_it_is_as_close_in_bfloat16(make: Any) -> None:
    exact = make()
    encoder = fused.fuse(copy.deepcopy(exact).bfloat16())
    for ids, mask in batches(100):
        expected = huggingface(exact, ids, mask)
        theirs = relative_error(huggingface(encoder, ids, mask).float(), expected)
        assert relative_error(ours(encoder, ids, mask, [0, 1, 2]).float(), expected) < 1.2 * theirs < 0.05


@pytest.mark.skipif(not int8.works(), reason="this processor has no exact 8-bit products")
@pytest.mark.parametrize("make", MAKERS)
def test_it_is_as_close_in_integers(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = make()
    encoder = copy.deepcopy(exact)
    int8.make_int8(encoder, int8.observe(encoder, batches(100)))
    sums = []
    for has_bf16 in (True, False):
        monkeypatch.setattr("spacy_crf_ner.embedding.bert.cpu_has_bf16", lambda has=has_bf16: has)
        for ids, mask in batches(100, seed=1):
            expected = huggingface(exact, ids, mask)
            theirs = relative_error(huggingface(encoder, ids, mask), expected)
            found = ours(encoder, ids, mask, [0, 1, 2])
            assert found.dtype == torch.float32
            assert relative_error(found, expected) < 1.2 * theirs < 0.06
            sums.append(float(found.double().sum()))
            if not has_bf16:
                torch.testing.assert_close(found, huggingface(encoder, ids, mask), atol=1e-5, rtol=1e-5)
    half = len(sums) // 2
    assert all(a != b for a, b in zip(sums[:half], sums[half:]))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_prediction_goes_by_it_and_training_does_not(
    encoder: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = TransformerCNN(encoder, precision=precision)
    model.initialize()
    ran: List[str] = []
    inside = TransformerCNNModule._encode

    def watch(module: Any, mode: Any, *arguments: Any) -> Any:
        hook = mode.encoder.register_forward_hook(lambda *_: ran.append("theirs"))
        try:
            return inside(module, mode, *arguments)
        finally:
            hook.remove()

    monkeypatch.setattr(TransformerCNNModule, "_encode", watch)
    monkeypatch.setattr(module_code, "hidden_states", lambda *args: ran.append("ours") or hidden_states(*args))
    docs = [NLP("fever in Lyon")]
    model.predict(docs)
    assert ran == ["ours"]
    model.begin_update(docs)
    assert ran == ["ours", "theirs"]
    monkeypatch.setattr(module_code, "is_bert", lambda _: False)
    model.predict(docs)
    assert ran == ["ours", "theirs", "theirs"]


def test_others_are_left_to_hugging_face() -> None:
    from transformers import AlbertConfig, AlbertModel, DebertaV2Config, DebertaV2Model, MPNetConfig, MPNetModel

    small = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    assert not is_bert(AlbertModel(AlbertConfig(embedding_size=8, intermediate_size=16, **small)))
    assert not is_bert(DebertaV2Model(DebertaV2Config(intermediate_size=16, **small)))
    assert not is_bert(MPNetModel(MPNetConfig(intermediate_size=16, **small)))
    assert not is_bert(bert(position_embedding_type="relative_key"))
    assert not is_bert(bert(is_decoder=True))
