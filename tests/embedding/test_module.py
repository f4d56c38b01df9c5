"""How the embedding runs: memory, freezing, layers, pooling, kept vectors, float16."""

import pickle
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
import spacy
import torch
from spacy.tokens import Doc
from thinc.api import Adam, Model, set_dropout_rate

from spacy_crf_ner.embedding import cache as cache_module
from spacy_crf_ner.embedding import cnn as cnn_module
from spacy_crf_ner.embedding import module as module_module
from spacy_crf_ner.embedding.memory import LARGEST_BUDGET, largest_budget
from spacy_crf_ner.embedding.model import TransformerCNN
from spacy_crf_ner.embedding.module import TransformerCNNModule
from spacy_crf_ner.embedding.precision import LossScale
from spacy_crf_ner.training.optimizer import make_adamw

from ..conftest import make_examples, make_nlp, write_encoder

NLP = spacy.blank("en")


def build(encoder: str, **settings: Any) -> Model:
    torch.manual_seed(0)
    model = TransformerCNN(encoder, **{"window": 20, "stride": 12, **settings})
    model.initialize()
    return model


def module_of(model: Model) -> TransformerCNNModule:
    return model.shims[0].module  # type: ignore[attr-defined]


def docs(*lengths: int) -> List[Doc]:
    words = ["fever", "in", "Lyon", "ibuprofen", "knee", "and"]
    return [NLP(" ".join(words[(i * i + n) % 6] for i in range(n))) for n in lengths]


def gradients(model: Model, batch: List[Doc], dropout: float = 0.0) -> Dict[str, torch.Tensor]:
    """Of a loss that weighs all values, at a fixed seed."""
    set_dropout_rate(model, dropout)
    torch.manual_seed(1)
    vectors, backprop = model.begin_update(batch)
    backprop([np.random.default_rng(0).normal(size=v.shape).astype("f") for v in vectors])
    found = {name: p.grad.to_dense() for name, p in module_of(model).named_parameters() if p.grad is not None}
    module_of(model).zero_grad()
    return found


def same(a: Dict[str, torch.Tensor], b: Dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, gradient in a.items():
        torch.testing.assert_close(b[name], gradient, rtol=1e-4, atol=1e-5)


class Scarce:
    """An encoder's memory: so many pieces at once, fewer on the way back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, forward: int, backward: int = 10**6) -> None:
        self.failures: Counter = Counter()
        encode = TransformerCNNModule._encode
        differentiate = torch.autograd.grad
        largest = 0

        def limited(module: Any, mode: Any, ids: torch.Tensor, n_real: Any) -> torch.Tensor:
            nonlocal largest
            largest = ids.numel()
            if ids.numel() > forward:
                if module.encoder.training:
                    torch.rand(7)  # what went on before it failed used up random numbers
                self.failures["forward"] += 1
                raise torch.OutOfMemoryError("out of memory")
            return encode(module, mode, ids, n_real)

        def limited_back(*arguments: Any, **settings: Any) -> Any:
            if largest > backward and not self.failures["backward"]:
                self.failures["backward"] += 1
                raise torch.OutOfMemoryError("out of memory")
            return differentiate(*arguments, **settings)

        monkeypatch.setattr(TransformerCNNModule, "_encode", limited)
        monkeypatch.setattr(torch.autograd, "grad", limited_back)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_out_of_memory_leaves_no_trace_but_a_smaller_budget(
    encoder: str, dropout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = docs(50, 3, 0, 21, 40)
    budgets = {"micro_batch_pieces": 40}
    expected = gradients(build(encoder, **budgets), batch, dropout)
    after = torch.rand(3)
    scarce = Scarce(monkeypatch, forward=45)
    model = build(encoder, micro_batch_pieces=80)
    vectors = gradients(model, batch, dropout)
    assert scarce.failures["forward"]
    if not dropout:
        same(expected, vectors)
    # the random numbers after the step do not show that it had to be tried again
    assert torch.equal(torch.rand(3), after)
    assert module_of(model).found == {"micro_batch_pieces, training, fp32, cpu": 40}
    scarce.failures.clear()
    gradients(model, batch, dropout)
    assert not scarce.failures
    # it is kept with the weights
    again = TransformerCNN(encoder, window=20, stride=12, micro_batch_pieces=80).from_bytes(model.to_bytes())
    gradients(again, batch, dropout)
    assert not scarce.failures
    model.predict(batch)
    assert module_of(model).found["micro_batch_pieces, prediction, fp32, cpu"] == 40


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_out_of_memory_on_the_way_back_is_tried_again_with_the_same_dropout(
    encoder: str, dropout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = docs(50, 3, 0, 21, 40)
    expected = gradients(build(encoder, micro_batch_pieces=80), batch, dropout)
    scarce = Scarce(monkeypatch, forward=100, backward=1)
    same(expected, gradients(build(encoder, micro_batch_pieces=80), batch, dropout))
    assert scarce.failures == {"backward": 1}


def test_a_window_that_does_not_fit_says_what_to_do(encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(encoder)
    Scarce(monkeypatch, forward=5)
    with pytest.raises(RuntimeError, match=r"even for 20 wordpieces.*smaller window"):
        model.predict(docs(50))


def test_dropout_differs_between_micro_batches_and_steps(encoder: str) -> None:
    model = build(encoder, micro_batch_pieces=20, kernel_sizes=[], norm=None, window=8, stride=6)
    set_dropout_rate(model, 0.5)
    module = module_of(model)
    seen = []
    module.encoder.register_forward_hook(lambda _, __, out: seen.append(out[0].detach()))
    for _ in range(2):
        model.begin_update([NLP("fever in"), NLP("fever in")] * 4)
    first, *others = seen
    assert len(seen) > 4
    assert not any(torch.equal(first, other) for other in others)


def test_what_is_held_does_not_grow_with_the_number_of_micro_batches(encoder: str) -> None:
    held = []
    for n in (400, 1600):
        model = build(encoder, micro_batch_pieces=80)
        kept = 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal kept
            # attention heads alone have four dimensions: (windows, heads, pieces, width)
            kept += tensor.nelement() if tensor.dim() == 4 else 0
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model.begin_update(docs(n))
        held.append(kept)
    assert held[0] == held[1] > 0


def test_a_budget_is_what_half_of_the_free_memory_takes() -> None:
    assert largest_budget(1e5, 4e9) == 2**14  # 1.6 GB, and 3.3 GB would be too much
    assert largest_budget(1.0, 1e12) == LARGEST_BUDGET
    assert largest_budget(1e9, 1e6) == 1


def test_auto_finds_a_budget_once_and_remembers_it(encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: List[Tuple[int, int]] = []

    def find(device: torch.device, trial: Any) -> int:
        before = torch.get_rng_state()
        trial(64)
        assert torch.equal(torch.get_rng_state(), before)
        tried.append(64)
        return 40

    monkeypatch.setattr(module_module, "find_budget", find)
    model = build(encoder)
    module = module_of(model)
    assert module.budget("auto", 20, "fp32", True) == 2048  # on a CPU

    class Pretended(type(module)):  # type: ignore[misc]
        device = torch.device("cuda")

    monkeypatch.setattr(module_module, "device_name", lambda device: "a GPU")
    monkeypatch.setattr(module_module, "computed_in", lambda precision, device: torch.enable_grad())
    monkeypatch.setattr(module, "_try_out", lambda *arguments: None)
    monkeypatch.setattr(module, "__class__", Pretended)
    for is_train in (True, False, True):
        assert module.budget("auto", 20, "fp32", is_train) == 40
    assert len(tried) == 2
    assert module.found == {
        "micro_batch_pieces, training, fp32, a GPU": 40,
        "micro_batch_pieces, prediction, fp32, a GPU": 40,
    }
    assert module.budget(30, 20, "fp32", True) == 30


@pytest.mark.parametrize("used_before", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("is_train", [True, False])
def test_trying_out_leaves_neither_gradients_nor_random_numbers(
    encoder: str, is_train: bool, precision: Any, used_before: bool
) -> None:
    model = build(encoder, precision=precision)
    if used_before:
        model.predict(docs(3))
    module = module_of(model)
    before = torch.get_rng_state()
    module._try_out(200, 20, module.mode(precision, is_train, is_train))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(p.grad is None for p in module.parameters())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_prediction_between_forward_and_backward_changes_nothing(
    encoder: str, precision: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cnn_module, "CHUNK", 30)
    found = []
    for predicts in (False, True):
        model = build(encoder, precision=precision, micro_batch_pieces=40)
        set_dropout_rate(model, 0.3)
        torch.manual_seed(1)
        vectors, backprop = model.begin_update(docs(50, 3, 21))
        if predicts:
            model.predict(docs(4))
        backprop([np.random.default_rng(0).normal(size=v.shape).astype("f") for v in vectors])
        found.append({n: p.grad.to_dense() for n, p in module_of(model).named_parameters() if p.grad is not None})
    same(*found)


@pytest.mark.parametrize("optimizer", ["ours", "thinc's"])
def test_half_precision_follows_the_weights(encoder: str, optimizer: str) -> None:
    sgd: Any = make_adamw(0.01, groups={}) if optimizer == "ours" else Adam(0.01)
    model = build(encoder, precision="bf16")
    _, backprop = model.begin_update(docs(9))
    backprop([np.ones((9, 32), dtype="f")])
    before = model.predict(docs(9))[0]
    model.finish_update(sgd)
    after = model.predict(docs(9))[0]
    fresh = build(encoder, precision="bf16").from_bytes(model.to_bytes())
    assert np.array_equal(after, fresh.predict(docs(9))[0])
    assert not np.allclose(before, after, atol=1e-2)


def test_halves_of_halves_drop_different_values(encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: List[Any] = []
    pool = TransformerCNNModule._pool_windows

    def watch(module: Any, batch: Any, seed: Any, mode: Any) -> Any:
        if len(batch.ids) > 1:
            raise torch.OutOfMemoryError("out of memory")
        seeds.append(seed)
        return pool(module, batch, seed, mode)

    monkeypatch.setattr(TransformerCNNModule, "_pool_windows", watch)
    model = build(encoder, micro_batch_pieces=200)
    set_dropout_rate(model, 0.5)
    model.begin_update(docs(150))
    assert len(seeds) == len(set(seeds)) > 8


# Freezing


@pytest.mark.parametrize(
    ("frozen", "trained"),
    [
        (None, {"embeddings", "layer.0", "layer.1"}),
        (0, {"layer.0", "layer.1"}),
        (1, {"layer.1"}),
        (2, set()),
        ("all", set()),
    ],
)
def test_frozen_parts_stay_as_they_are(encoder: str, frozen: Any, trained: set) -> None:
    nlp = make_nlp(encoder, {"frozen_layers": frozen})
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    module = nlp.get_pipe("crf_ner").model.get_ref("tok2vec").shims[0].module
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    optimizer = make_adamw(0.1, groups={})
    for _ in range(2):
        nlp.update(examples, sgd=optimizer, drop=0.1)
    after = dict(module.named_parameters())
    changed = {name for name, p in after.items() if not torch.equal(p, before[name])}
    parts = ("embeddings", "layer.0", "layer.1")
    assert {part for part in parts if any(part in name for name in changed)} == trained
    assert {"cnn.project.weight", "cnn.convolutions.0.weight"} <= changed


def test_more_frozen_layers_than_there_are(encoder: str) -> None:
    with pytest.raises(ValueError, match=r"frozen_layers = 3: .*bert.* has 2 layers"):
        build(encoder, frozen_layers=3)


def test_a_frozen_encoder_has_no_dropout(encoder: str) -> None:
    model = build(encoder, frozen_layers="all", kernel_sizes=[], norm=None)
    module = module_of(model)
    set_dropout_rate(model, 0.5)
    seen = []
    module.encoder.register_forward_hook(lambda _, __, out: seen.append(out[0]))
    for _ in range(2):
        model.begin_update(docs(5))
    assert torch.equal(*seen)
    assert not seen[0].requires_grad


# Kept vectors


@pytest.mark.parametrize("place", ["memory", "gpu", "disk"])
def test_kept_vectors_are_what_the_encoder_gives(encoder: str, place: str) -> None:
    batch = docs(50, 3, 0, 21)
    settings = {"frozen_layers": "all", "layers": [0, 1, 2]}
    plain, keeping = build(encoder, **settings), build(encoder, cache=place, **settings)
    runs = []
    hook = module_of(keeping).encoder.embeddings.register_forward_hook(lambda *_: runs.append(1))
    # before training nothing is kept
    keeping.predict(batch)
    assert module_of(keeping)._cache is None
    for use in (docs(3, 50), docs(50, 21, 3, 0), docs(21, 3)):
        same(gradients(plain, use), gradients(keeping, use))
        for a, b in zip(plain.predict(use), keeping.predict(use)):
            np.testing.assert_allclose(a, b, atol=1e-5)
    n = len(runs)
    keeping.begin_update(batch)
    keeping.predict([*batch, *batch])
    assert len(runs) == n
    # what is only predicted is not kept
    for i in range(2):
        keeping.predict(docs(7))
        assert len(runs) == n + 1 + i
    cache = module_of(keeping)._cache
    keeping.attrs["window"] = 16
    keeping.predict(batch)
    assert len(runs) > n + 2
    keeping.begin_update(batch)
    assert module_of(keeping)._cache is not cache
    hook.remove()
    assert pickle.loads(pickle.dumps(module_of(keeping)))._cache is None


def test_kept_vectors_do_not_depend_on_which_came_with_them(encoder: str) -> None:
    """Else a training that was resumed, and begins with an empty cache, would not end in the same bits."""
    found = []
    for mates in ((), (5,), (40, 3, 21), (60, 60, 60, 60)):
        model = build(encoder, frozen_layers="all", cache="memory")
        batch = docs(13, *mates)
        model.begin_update(batch)
        module = module_of(model)
        found.append(module._cache.get(module.tokenizer(batch)[0].key))
    assert all(torch.equal(found[0], other) for other in found)


def test_a_full_cache_takes_no_more_and_says_so(
    encoder: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cache_module, "_free", lambda place, device: 2 * 4 * 32 * 10)  # ten tokens, of half of it
    model = build(encoder, frozen_layers="all", cache="memory")
    monkeypatch.setattr("spacy.util.logger.propagate", True)
    with caplog.at_level("WARNING"):
        gradients(model, docs(6, 3, 5))
        gradients(model, docs(6, 3, 5, 1))
    cache = module_of(model)._cache
    assert cache is not None
    assert len(cache) == 2
    assert len([r for r in caplog.records if "full with the vectors of 2 documents" in r.getMessage()]) == 1


def test_a_cache_without_a_frozen_encoder_is_refused(encoder: str) -> None:
    with pytest.raises(ValueError, match='frozen_layers = "all"'):
        TransformerCNN(encoder, cache="memory", frozen_layers=1)


# Layers and pooling


def hidden_states(encoder: str, doc: Doc) -> Tuple[np.ndarray, List[List[int]]]:
    """All layers over one window, (layers, pieces, hidden), and the pieces of each token."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(encoder)
    inputs = tokenizer(doc.text, return_tensors="pt", return_offsets_mapping=True, truncation=False, padding=False)
    offsets = inputs.pop("offset_mapping")[0].tolist()
    with torch.no_grad():
        states = AutoModel.from_pretrained(encoder).eval()(**inputs, output_hidden_states=True).hidden_states
    pieces = [[i for i, (a, b) in enumerate(offsets) if a < t.idx + len(t) and t.idx < b] for t in doc]
    return torch.stack(states)[:, 0].numpy(), pieces


@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
@pytest.mark.parametrize("layers", [[-1], [0], [1], [2, 0, 1], [-2, 2]])
def test_vectors_come_from_the_layers_and_pieces_asked_for(encoder: str, pooling: str, layers: List[int]) -> None:
    model = build(encoder, layers=layers, pooling=pooling, kernel_sizes=[], norm=None, window=64, stride=48)
    module = module_of(model)
    doc = NLP("Ibuprofen for the knee")
    states, pieces = hidden_states(encoder, doc)
    shares = np.full(len(layers), 1 / len(layers))
    if module.mix is not None:
        with torch.no_grad():
            module.mix.weights.copy_(torch.arange(len(layers)).float())
            module.mix.scale.fill_(1.5)
        shares = 1.5 * np.exp(np.arange(len(layers))) / np.exp(np.arange(len(layers))).sum()
    mixed = np.einsum("l,lph->ph", shares, states[[layer % 3 for layer in layers]])
    for vector, own in zip(model.predict([doc])[0], pieces):
        chosen = {"mean": own, "first": own[:1], "last": own[-1:]}[pooling]
        np.testing.assert_allclose(vector, mixed[chosen].mean(0), atol=1e-5)
    # layers above the highest that is wanted are gone
    assert module.encoder.config.num_hidden_layers == max(layer % 3 for layer in layers)
    again = TransformerCNN(encoder, layers=layers, pooling=pooling, kernel_sizes=[], norm=None, window=64, stride=48)
    np.testing.assert_array_equal(again.from_bytes(model.to_bytes()).predict([doc])[0], model.predict([doc])[0])


def test_the_weights_of_layers_are_learned(encoder: str) -> None:
    model = build(encoder, layers=[1, 2])
    found = gradients(model, docs(20, 3))
    assert found["mix.weights"].abs().sum() > 0
    assert found["mix.scale"].abs().sum() > 0


def test_a_layer_that_is_not_there(encoder: str) -> None:
    with pytest.raises(ValueError, match=r"layers = \[3\].* has layers 0 to 2"):
        build(encoder, layers=[3])


# float16


def test_the_loss_scale_halves_at_once_and_grows_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LossScale, "GROWTH", 3)
    state: Dict[str, Any] = {}
    scale = LossScale(state)
    parameter = torch.nn.Parameter(torch.zeros(2))

    def step(value: float) -> bool:
        parameter.grad = torch.full((2,), value * scale.factor)
        return scale.unscale([parameter])

    assert step(0.25)
    assert torch.equal(parameter.grad, torch.full((2,), 0.25))
    assert not step(float("inf"))
    assert scale.factor == 2.0**15
    assert [step(1.0), step(1.0)] == [True, True]
    assert scale.factor == 2.0**15
    assert step(1.0)
    assert scale.factor == 2.0**16
    # another one goes on from what was stored
    assert LossScale(dict(state)).factor == 2.0**16
    assert not step(float("nan"))


def test_float16_trains_with_scaled_gradients_that_add_up(encoder: str) -> None:
    batch = docs(12, 3)
    exact = gradients(build(encoder, window=60, stride=48), batch)
    model = build(encoder, window=60, stride=48, precision="fp16")
    module = module_of(model)
    set_dropout_rate(model, 0.0)
    for _ in range(2):
        vectors, backprop = model.begin_update(batch)
        # gradients as small as these would all be 0 in float16
        backprop([1e-6 * np.random.default_rng(0).normal(size=v.shape).astype("f") for v in vectors])
    weight = module.encoder.encoder.layer[0].output.dense.weight
    assert weight.grad is not None
    collected: Dict[str, torch.Tensor] = {}

    class Collecting:
        def collect_module(self, shim: Any, module: torch.nn.Module) -> None:
            collected.update(
                {name: p.grad.to_dense().clone() for name, p in module.named_parameters() if p.grad is not None}
            )

        def settle(self) -> None:
            pass

    model.finish_update(Collecting())  # type: ignore[arg-type]
    size = max(float(gradient.abs().max()) for gradient in exact.values())
    for name, gradient in collected.items():
        torch.testing.assert_close(gradient * 5e5, exact[name], rtol=0.1, atol=0.005 * size)


@pytest.mark.parametrize("optimizer", ["ours", "thinc's"])
def test_a_float16_step_that_overflows_changes_nothing(encoder: str, optimizer: str, tmp_path: Path) -> None:
    model = build(encoder, precision="fp16")
    module = module_of(model)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    sgd: Any = make_adamw(0.1, groups={}) if optimizer == "ours" else Adam(0.1)
    _, backprop = model.begin_update(docs(5))
    backprop([np.full((5, 32), 1e30, dtype="f")])
    model.finish_update(sgd)
    sgd.step_schedules()
    for name, p in module_of(model).named_parameters():
        assert torch.equal(p, before[name]), name
    again = TransformerCNN(encoder, precision="fp16").from_bytes(model.to_bytes())
    again.begin_update(docs(5))
    assert module_of(again).loss_scale is not None
    assert module_of(again).loss_scale.factor == 2.0**15  # type: ignore[union-attr]


# What the config says counts, whatever was stored


def test_how_it_runs_is_the_configs_to_say(encoder: str, tmp_path: Path) -> None:
    nlp = make_nlp(encoder)
    nlp.initialize(lambda: make_examples(nlp))
    nlp.to_disk(tmp_path)
    changes = {"precision": "bf16", "micro_batch_pieces": 100, "frozen_layers": 1}
    prefix = "components.crf_ner.model.tok2vec."
    again = spacy.load(tmp_path, config={prefix + key: value for key, value in changes.items()})
    running = again.get_pipe("crf_ner").model.get_ref("tok2vec").attrs["running"]
    assert (running.precision, running.micro_batch_pieces, running.frozen_layers) == ("bf16", 100, 1)


def test_other_architectures_can_be_frozen_and_cut(tmp_path: Path) -> None:
    from transformers import AlbertConfig, AlbertModel, DistilBertConfig, DistilBertModel

    folder = Path(write_encoder(tmp_path))
    n_pieces = 300
    small = {"dim": 32, "hidden_dim": 48, "n_layers": 3, "n_heads": 2, "max_position_embeddings": 64}
    DistilBertModel(DistilBertConfig(vocab_size=n_pieces, **small)).save_pretrained(folder)
    module = module_of(build(str(folder), frozen_layers=1, layers=[2]))
    frozen = {name for name, p in module.encoder.named_parameters() if not p.requires_grad}
    assert {name.split(".")[0] for name in frozen} == {"embeddings", "transformer"}
    assert {name.split(".")[2] for name in frozen if name.startswith("transformer")} == {"0"}
    assert len(module.encoder.transformer.layer) == 2
    config = AlbertConfig(
        vocab_size=n_pieces, hidden_size=32, embedding_size=16, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=48, max_position_embeddings=64,
    )  # fmt: skip
    AlbertModel(config).save_pretrained(folder)
    with pytest.raises(ValueError, match=r'albert. has 0 layers.*"all"'):
        build(str(folder), frozen_layers=1)
    assert not any(p.requires_grad for p in module_of(build(str(folder), frozen_layers="all")).encoder.parameters())
