"""Integer layers against integer arithmetic, and an encoder of them against the one in float32."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
import spacy
import torch
from spacy.tokens import Doc
from torch import nn

from spacy_crf_ner.embedding import int8
from spacy_crf_ner.embedding import module as module_module
from spacy_crf_ner.embedding.int8 import Int8Linear, Shared, insert, make_int8, observe, restored
from spacy_crf_ner.embedding.model import TransformerCNN

from ..conftest import write_encoder
from .shapes import Shapes

pytestmark = pytest.mark.skipif(not int8.works(), reason="this processor has no instructions for int8")
NLP = spacy.blank("en")
PLAN = {"input": [0.05, 7], "smooth": True, "bias": True, "gelu": None, "output": None, "aside": 0, "group": "a"}


def filled(plan: Dict[str, Any], n_in: int = 24, n_out: int = 20) -> Int8Linear:
    layer = Int8Linear(n_in, n_out, plan, Shared())
    layer.weight.random_(-127, 128)
    layer.scale.uniform_(0.001, 0.01)
    if layer.bias is not None:
        layer.bias.normal_()
    if layer.divisor is not None:
        layer.divisor.uniform_(0.5, 2)
    return layer


def reference(layer: Int8Linear, vectors: torch.Tensor) -> torch.Tensor:
    """The layer in integers, one product after another."""
    scale, zero = layer.plan["input"]
    if vectors.dtype != torch.uint8:
        divided = vectors if layer.divisor is None else vectors / layer.divisor
        vectors = torch.floor(divided / scale + zero + 0.5).clamp(0, 255)
    sums = (vectors.long() - zero) @ layer.weight.long().T
    out = sums.double() * scale * layer.scale.double()
    return out if layer.bias is None else out + layer.bias.double()


@pytest.mark.parametrize("plan", [{}, {"smooth": False}, {"bias": False}])
def test_a_layer_is_integer_arithmetic(plan: Dict[str, Any]) -> None:
    layer = filled({**PLAN, **plan})
    # some beyond the range, which are cut off
    vectors = 6 * torch.randn(3, 50, 24)
    torch.testing.assert_close(layer(vectors).double(), reference(layer, vectors), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["none", "tanh"])
def test_gelu_and_integers_that_go_out(kind: str) -> None:
    layer = filled({**PLAN, "gelu": kind, "output": [0.02, 9]})
    vectors = 3 * torch.randn(40, 24)
    out = layer(vectors)
    assert out.dtype == torch.uint8
    exact = nn.functional.gelu(reference(layer, vectors), approximate=kind)
    expected = torch.round(exact / 0.02 + 9).clamp(0, 255)
    # where the exact value lies between two integers either may come out
    assert ((out.double() - expected).abs() <= 1).all()
    assert (out.double() == expected).double().mean() > 0.98


def test_units_aside_pass_in_float32() -> None:
    shared = Shared()
    first = filled({**PLAN, "gelu": "none", "output": [0.02, 9], "aside": 2})
    second = filled({**PLAN, "input": [0.02, 9], "smooth": False, "aside": 2}, 20, 12)
    first.shared = second.shared = shared
    units = torch.tensor([3, 17])
    for layer in (first, second):
        assert layer.aside is not None
        layer.aside.copy_(units)
        layer.aside_weight.normal_()
    second.weight[:, units] = 0
    vectors = torch.randn(30, 24)
    middle = first(vectors)
    assert first.bias is not None
    aside = nn.functional.gelu(vectors @ first.aside_weight.T + first.bias[units])
    expected = reference(second, middle) + aside.double() @ second.aside_weight.double().T
    torch.testing.assert_close(second(middle).double(), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(AssertionError, match="another tensor"):
        second(middle.clone())


def test_layers_of_one_input_make_integers_of_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: List[int] = []
    multiply = torch.addcmul
    monkeypatch.setattr(torch, "addcmul", lambda *a, **k: calls.append(1) or multiply(*a, **k))
    layers = [filled(PLAN) for _ in range(3)]
    for layer in layers[1:]:
        layer.shared = layers[0].shared
        layer.divisor = layers[0].divisor
    vectors, other = torch.randn(5, 24), torch.randn(5, 24)
    for layer in layers:
        layer(vectors)
    assert len(calls) == 1
    torch.testing.assert_close(layers[1](other).double(), reference(layers[1], other), rtol=1e-5, atol=1e-5)
    assert len(calls) == 2


def test_kernels_are_compiled_for_few_numbers_of_rows() -> None:
    first = filled({**PLAN, "gelu": "none", "output": [0.02, 9]})
    second = filled({**PLAN, "smooth": False, "input": [0.02, 9]}, 20, 24)
    with Shapes() as shapes:
        for shape in ((5,), (3, 3), (2, 5, 7), (70,)):
            vectors = torch.randn(*shape, 24)
            middle = first(vectors)
            assert (middle.shape, middle.dtype) == ((*shape, 20), torch.uint8)
            out = second(middle)
            torch.testing.assert_close(out.double(), reference(second, middle), rtol=1e-5, atol=1e-5)
    assert shapes.seen == [(rows, width) for rows in (16, 16, 128, 128) for width in (24, 20)]


def test_other_weights_are_taken_up() -> None:
    layer = filled(PLAN)
    vectors = torch.randn(5, 24)
    layer(vectors)
    layer.load_state_dict(filled(PLAN).state_dict())
    # a tensor of its own, since what was made of the last one is remembered
    vectors = vectors.clone()
    torch.testing.assert_close(layer(vectors).double(), reference(layer, vectors), rtol=1e-5, atol=1e-5)


# Whole encoders


def batches(n_pieces: int, seed: int = 0) -> List[Tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    found = []
    for length in (16, 9, 30):
        ids = torch.randint(5, n_pieces, (6, length), generator=generator)
        mask = torch.ones_like(ids)
        mask[-1, length // 2 :] = 0
        found.append((ids, mask))
    return found


def run(encoder: Any, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return encoder(input_ids=ids, attention_mask=mask)[0][mask.bool()]


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).pow(2).mean().sqrt() / b.std())


def bert(**settings: Any) -> Any:
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=40, initializer_range=0.15, **settings,
    )  # fmt: skip
    return BertModel(config, add_pooling_layer=False).eval()


def distilbert() -> Any:
    from transformers import DistilBertConfig, DistilBertModel

    torch.manual_seed(0)
    config = DistilBertConfig(
        vocab_size=100, dim=32, hidden_dim=64, n_layers=2, n_heads=2, max_position_embeddings=40, initializer_range=0.15
    )
    return DistilBertModel(config).eval()


def roberta() -> Any:
    from transformers import RobertaConfig, RobertaModel

    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=40, initializer_range=0.15, hidden_act="gelu_new",
    )  # fmt: skip
    return RobertaModel(config, add_pooling_layer=False).eval()


def electra() -> Any:
    from transformers import ElectraConfig, ElectraModel

    torch.manual_seed(0)
    config = ElectraConfig(
        vocab_size=100, embedding_size=16, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=40, initializer_range=0.15, hidden_act="relu",
    )  # fmt: skip
    return ElectraModel(config).eval()


@pytest.mark.parametrize("make", [bert, distilbert, roberta, electra])
def test_an_encoder_of_integers_is_close_to_the_one_it_was_made_of(make: Any) -> None:
    exact = make()
    encoder = copy.deepcopy(exact)
    groups = observe(encoder, batches(100))
    # query, key and value take the same input
    assert sorted(len(group.layers) for group in groups) == sorted([3, 1, 1, 1] * 2 + [1] * (make is electra))
    plans = make_int8(encoder, groups)
    assert not any(isinstance(part, nn.Linear) for part in encoder.modules())
    for ids, mask in batches(100, seed=1):
        assert relative_error(run(encoder, ids, mask), run(exact, ids, mask)) < 0.05
    # made anew from the description and the tensors
    again = make()
    insert(again, plans)
    again.load_state_dict(encoder.state_dict())
    ids, mask = batches(100, seed=1)[0]
    assert torch.equal(run(again, ids, mask), run(encoder, ids, mask))
    assert torch.equal(run(pickle.loads(pickle.dumps(encoder)), ids, mask), run(encoder, ids, mask))
    # and in float32 from the same weights, nearer still
    floats = restored(copy.deepcopy(encoder))
    assert not any(isinstance(part, Int8Linear) for part in floats.modules())
    assert relative_error(run(floats, ids, mask), run(exact, ids, mask)) < 0.03


def test_outliers_do_not_spoil_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = bert()
    with torch.no_grad():
        # a unit between the linear layers, and a channel of their input, that are far larger than the others
        exact.encoder.layer[0].intermediate.dense.weight[5] *= 400
        exact.encoder.layer[0].output.dense.weight[:, 5] /= 400
        exact.encoder.layer[0].attention.output.LayerNorm.weight[3] = 30.0
        exact.encoder.layer[0].intermediate.dense.weight[:, 3] /= 30
        exact.encoder.layer[1].attention.self.value.weight[:, 3] /= 30
    errors = {}
    for name, settings in {
        "all": {},
        "nothing aside": {"ASIDE": 0},
        "not smoothed": {"SMOOTHING": (0.0,)},
    }.items():
        with monkeypatch.context() as patch:
            for key, value in settings.items():
                patch.setattr(int8, key, value)
            encoder = copy.deepcopy(exact)
            make_int8(encoder, observe(encoder, batches(100)))
        pairs = [(run(encoder, *batch), run(exact, *batch)) for batch in batches(100, seed=1)]
        errors[name] = relative_error(torch.cat([a for a, _ in pairs]), torch.cat([b for _, b in pairs]))
    assert errors["all"] < 0.9 * errors["nothing aside"]
    assert errors["all"] < 0.9 * errors["not smoothed"]


# In the embedding


def docs(*lengths: int) -> List[Doc]:
    words = ["fever", "in", "Lyon", "ibuprofen", "knee", "and"]
    return [NLP(" ".join(words[(i * i + n) % 6] for i in range(n))) for n in lengths]


def quantized(encoder: str, **settings: Any) -> Any:
    torch.manual_seed(0)
    model = TransformerCNN(encoder, window=20, stride=12, **settings)
    model.initialize()
    exact = model.predict(docs(3, 50, 1, 0))
    module = model.shims[0].module  # type: ignore[attr-defined]
    ids = torch.randint(5, 100, (8, 20))
    shim: Any = model.shims[0]
    shim.cfg = {**shim.cfg, "int8": module.quantize([(ids, torch.ones_like(ids))])}
    return model, exact


@pytest.mark.parametrize("kind", ["wordpiece", "byte-bpe"])
def test_results_do_not_depend_on_batch_mates(kind: str, tmp_path: Path) -> None:
    folder = write_encoder(tmp_path, kind)
    model, _ = quantized(folder, kernel_sizes=[], norm=None)
    model.attrs["running"] = replace(model.attrs["running"], micro_batch_pieces=60, precision="int8")
    batch = docs(3, 120, 0, 1, 45, 17)
    together = model.predict(batch)
    for budget in (20, 60, 10_000):
        model.attrs["running"] = replace(model.attrs["running"], micro_batch_pieces=budget)
        for doc, vectors in zip(batch, together):
            np.testing.assert_allclose(model.predict([doc])[0], vectors, atol=1e-5)


def test_it_is_stored_and_runs_at_other_precisions_too(encoder: str) -> None:
    model, exact = quantized(encoder)
    batch = docs(3, 50, 1, 0)
    data = model.to_bytes()
    results = {}
    for precision in ("int8", "fp32", "bf16"):
        again = TransformerCNN(encoder, window=20, stride=12, precision=precision).from_bytes(data)  # type: ignore[arg-type]
        assert again.to_bytes() == data
        results[precision] = again.predict(batch)
        for a, b in zip(results[precision], exact):
            np.testing.assert_allclose(a, b, atol=0.6)
    assert not np.array_equal(results["int8"][1], results["fp32"][1])


def test_threads_do_not_disturb_each_other(encoder: str) -> None:
    model, _ = quantized(encoder)
    model.attrs["running"] = replace(model.attrs["running"], precision="int8")
    batches_of = [docs(40 + i, 3, 90 - i) for i in range(4)]
    expected = [model.predict(batch) for batch in batches_of]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for batch, vectors in zip(expected, pool.map(model.predict, batches_of)):
                for a, b in zip(batch, vectors):
                    np.testing.assert_allclose(a, b, atol=1e-5)


def test_without_the_instructions_it_runs_in_float32_and_says_so(
    encoder: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model, _ = quantized(encoder, kernel_sizes=[], norm=None)
    floats = model.predict(docs(30))[0]
    model.attrs["running"] = replace(model.attrs["running"], precision="int8")
    integers = model.predict(docs(30))[0]
    assert not np.array_equal(floats, integers)
    monkeypatch.setattr(module_module, "works", lambda: False)
    monkeypatch.setattr("spacy.util.logger.propagate", True)
    module_module.warn_without_int8.cache_clear()
    with caplog.at_level("WARNING"):
        assert np.array_equal(model.predict(docs(30))[0], floats)
        model.predict(docs(30))
    assert len([r for r in caplog.records if "runs in float32" in r.getMessage()]) == 1


def test_what_cannot_be_done_is_said(encoder: str) -> None:
    plain = TransformerCNN(encoder, precision="int8")
    plain.initialize()
    with pytest.raises(ValueError, match="crf-ner quantize"):
        plain.predict(docs(3))
    model, _ = quantized(encoder)
    for each in (model, plain):
        with pytest.raises(ValueError, match="cannot be trained"):
            each.begin_update(docs(3))
