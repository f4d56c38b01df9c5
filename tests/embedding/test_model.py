from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
import spacy
import torch
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import Model, set_dropout_rate

from spacy_crf_ner.embedding.encoder import resolve_encoder
from spacy_crf_ner.embedding.model import TransformerCNN
from spacy_crf_ner.embedding.pieces import cut_windows

from ..conftest import make_examples, make_nlp, write_encoder

NLP = spacy.blank("en")


def build(encoder: str, **settings: Any) -> Model:
    torch.manual_seed(0)
    model = TransformerCNN(encoder, **settings)
    model.initialize()
    return model


def docs(*lengths: int) -> List[Doc]:
    words = ["fever", "in", "Lyon", "ibuprofen", "knee", "and"]
    return [NLP(" ".join(words[(i * i + n) % 6] for i in range(n))) for n in lengths]


def test_one_window_is_what_the_encoder_itself_gives(encoder: str) -> None:
    from transformers import AutoModel, AutoTokenizer

    model = build(encoder, kernel_sizes=[])
    model.shims[0].module.cnn.normalize = torch.nn.Identity()
    doc = NLP("Ibuprofen for the knee")
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    inputs = tokenizer(doc.text, return_tensors="pt", return_offsets_mapping=True, truncation=False, padding=False)
    offsets = inputs.pop("offset_mapping")[0].tolist()
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(encoder).eval()(**inputs)[0][0]
    for token, vector in zip(doc, model.predict([doc])[0]):
        own = [i for i, (a, b) in enumerate(offsets) if a < token.idx + len(token) and token.idx < b]
        np.testing.assert_allclose(vector, hidden[own].mean(0).numpy(), atol=1e-5)


@pytest.mark.parametrize("budget", [1, 60, 100_000])
def test_vectors_depend_neither_on_batch_mates_nor_on_the_micro_batch(encoder: str, budget: int) -> None:
    model = build(encoder, window=20, stride=12, micro_batch_pieces=budget)
    reference = build(encoder, window=20, stride=12)
    batch = docs(3, 120, 0, 1, 45, 17)
    for doc, vectors in zip(batch, model.predict(batch)):
        alone = reference.predict([doc])[0]
        assert vectors.shape == (len(doc), 32)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, alone, atol=1e-4)


def test_pieces_come_from_the_centre_of_their_window(encoder: str) -> None:
    # a change at one end of a long document is not seen further off than a window and a kernel
    model = build(encoder, window=20, stride=12)
    first, second = docs(200)[0], NLP("knee " + docs(200)[0].text.split(" ", 1)[1])
    a, b = model.predict([first])[0], model.predict([second])[0]
    changed = np.flatnonzero(np.abs(a - b).max(1) > 1e-6)
    assert changed[0] == 0
    assert 3 < changed[-1] < 22


def test_a_token_over_several_windows_is_pooled_from_all_of_them(tmp_path: Path) -> None:
    model = build(write_encoder(tmp_path, "byte-bpe"), window=20, stride=12, kernel_sizes=[], norm=None)
    doc = Doc(NLP.vocab, words=["a", "x" * 90, "b"], spaces=[False] * 3)
    module = model.shims[0].module
    (pieces,) = module.tokenizer([doc])
    n = int(pieces.token_counts[1])
    assert n > 40
    pieces = []
    size, step = module.tokenizer.window(20, 12)
    for w in cut_windows(n + 2, size, step):
        ids = module.tokenizer([doc])[0].ids[w.start : w.end].tolist()
        framed = torch.tensor([[*module.tokenizer.prefix, *ids, *module.tokenizer.suffix]])
        with torch.no_grad():
            hidden = module.encoder(framed)[0][0]
        lead = len(module.tokenizer.prefix) - w.start
        pieces.append(hidden[w.keep_start + lead : w.keep_end + lead])
    expected = torch.cat(pieces)[1:-1].mean(0).numpy()
    np.testing.assert_allclose(model.predict([doc])[0][1], expected, atol=1e-5)


def test_tokens_without_pieces_have_a_learned_vector(encoder: str) -> None:
    model = build(encoder, kernel_sizes=[], norm=None)
    vectors, backprop = model.begin_update([NLP("fever \n\n today"), NLP("  ")])
    module = model.shims[0].module
    for vector in (vectors[0][1], vectors[1][0]):
        assert np.array_equal(vector, module.no_pieces.detach().numpy())
    backprop([np.ones_like(v) for v in vectors])
    assert torch.equal(module.no_pieces.grad, torch.full((32,), 2.0))


def test_dropout_is_the_rate_that_spacy_sets(encoder: str) -> None:
    model = build(encoder)
    batch = docs(12)
    still = model.predict(batch)[0]
    assert np.allclose(model.begin_update(batch)[0][0], still, atol=1e-6)
    set_dropout_rate(model, 0.4)
    assert np.array_equal(model.predict(batch)[0], still)
    first, second = model.begin_update(batch)[0][0], model.begin_update(batch)[0][0]
    assert not np.allclose(first, second)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_micro_batches_train_as_one_batch(encoder: str, dropout: float) -> None:
    batch = docs(50, 3, 0, 21)
    gradients, kept = [], []
    for budget in (10_000, 40):
        model = build(encoder, window=20, stride=12, micro_batch_pieces=budget)
        set_dropout_rate(model, dropout)
        module = model.shims[0].module
        if dropout:
            # the same units fall out in any order of the windows
            for part in module.encoder.modules():
                if isinstance(part, torch.nn.Dropout):
                    part.p = 0.0
            module.encoder.config.attention_probs_dropout_prob = 0.0
            for layer in module.encoder.encoder.layer:
                layer.attention.self.dropout_prob = 0.0
        held = 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal held
            held += tensor.nelement()
            return tensor

        torch.manual_seed(1)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            vectors, backprop = model.begin_update(batch)
        backprop([np.random.default_rng(0).normal(size=v.shape).astype("f") for v in vectors])
        gradients.append({name: p.grad.to_dense() for name, p in module.named_parameters() if p.grad is not None})
        kept.append(held)
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-5)
    # nothing but what the last micro-batch needs was held
    assert kept[1] < 0.6 * kept[0]


def test_bf16_is_close_and_reaches_encoder_and_cnn(encoder: str) -> None:
    batch = docs(50, 3)
    exact, rough = (build(encoder, precision=p) for p in ("fp32", "bf16"))
    for a, b in zip(exact.predict(batch), rough.predict(batch)):
        assert b.dtype == np.float32
        assert not np.array_equal(a, b)
        np.testing.assert_allclose(a, b, atol=0.1)
    _, backprop = rough.begin_update(batch)
    backprop([np.ones((len(d), 32), dtype="f") for d in batch])
    module = rough.shims[0].module
    assert all(p.dtype == torch.float32 for p in module.parameters())
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in module.parameters())
    seen = {}
    for name, part in (("encoder", module.encoder.encoder.layer[0].output.dense), ("cnn", module.cnn.project)):
        part.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out.dtype}))
    rough.begin_update(batch)
    assert seen == {"encoder": torch.bfloat16, "cnn": torch.bfloat16}


def test_gradients_reach_encoder_and_cnn(encoder: str) -> None:
    model = build(encoder, window=20, stride=12, micro_batch_pieces=40)
    vectors, backprop = model.begin_update(docs(50, 3))
    backprop([np.random.default_rng(0).normal(size=v.shape).astype("f") for v in vectors])
    module = model.shims[0].module
    without = [n for n, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # token types: only the first is used; no_pieces: every token here has pieces
    assert [n for n in without if "key.bias" not in n] == ["no_pieces"]


def test_gradient_is_that_of_finite_differences(encoder: str) -> None:
    model = build(encoder, window=20, stride=12, width=4, activation="gelu")
    batch = docs(30, 4)
    weights = [np.random.default_rng(1).normal(size=(len(d), 4)).astype("f") for d in batch]
    _, backprop = model.begin_update(batch)
    backprop(weights)
    module = model.shims[0].module

    def value() -> float:
        return float(sum((v * w).sum() for v, w in zip(model.predict(batch), weights)))

    for name, parameter in module.named_parameters():
        if name not in ("encoder.encoder.layer.0.output.dense.weight", "cnn.convolutions.0.weight"):
            continue
        direction = torch.randn_like(parameter)
        with torch.no_grad():
            parameter.add_(direction, alpha=3e-4)
            up = value()
            parameter.sub_(direction, alpha=6e-4)
            down = value()
            parameter.add_(direction, alpha=3e-4)
        assert (up - down) / 6e-4 == pytest.approx(float((parameter.grad * direction).sum()), rel=0.02)


@pytest.mark.parametrize("kind", ["byte-bpe", "sentencepiece"])
def test_storage_keeps_every_tokenizer_family(kind: str, tmp_path: Path) -> None:
    model = build(write_encoder(tmp_path / "encoder", kind), window=20, stride=12, width=8)
    data = model.to_bytes()
    again = TransformerCNN("elsewhere/not-there", window=20, stride=12).from_bytes(data)
    batch = [*docs(30), NLP("naïve 😀 \u2005 knee")]
    for a, b in zip(model.predict(batch), again.predict(batch)):
        assert np.array_equal(a, b)
    assert again.get_dim("nO") == 8
    assert again.to_bytes() == data


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"activation": "step"}, "activation"),
        ({"norm": "both"}, "norm"),
        ({"kernel_sizes": [0]}, "kernel_sizes"),
        ({"stride": 200}, "stride"),
        ({"window": -1}, "window = -1 has no room"),
        ({"precision": "bf61"}, "precision"),
        ({"layers": []}, "layers"),
        ({"pooling": "max"}, "pooling"),
        ({"frozen_layers": "some"}, "frozen_layers"),
        ({"cache": "memory"}, "cache"),
        ({"width": 0}, "width"),
        ({"filters": -1}, "filters"),
        ({"micro_batch_pieces": 0}, "micro_batch_pieces"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=rf"spacy_crf_ner\.TransformerCNN\.v1: {message}"):
        TransformerCNN("somewhere", **settings)


@pytest.mark.parametrize("shared", [False, True])
def test_settings_that_a_trained_pipeline_cannot_take_are_named(
    encoder: str, shared: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    embedding = {"@architectures": "spacy_crf_ner.TransformerCNN.v1", "encoder": encoder, "width": 24, "window": 20,
                 "stride": 15}  # fmt: skip
    nlp = spacy.blank("en")
    if shared:
        nlp.add_pipe("transformer_cnn", config={"model": embedding})
        nlp.initialize(lambda: [Example(nlp.make_doc("fever"), nlp.make_doc("fever"))])
        pipe, section = "transformer_cnn", "components.transformer_cnn.model"
    else:
        nlp = make_nlp(encoder, {"window": 20, "stride": 15})
        nlp.initialize(lambda: make_examples(nlp))
        pipe, section = "crf_ner", "components.crf_ner.model.tok2vec"
    nlp.to_disk(tmp_path)
    spacy.load(tmp_path, config={f"{section}.precision": "bf16", f"{section}.micro_batch_pieces": 64})
    assert not caplog.messages
    other = spacy.load(tmp_path, config={f"{section}.stride": 10, f"{section}.kernel_sizes": [5]})
    (message,) = caplog.messages
    assert message.startswith(f"[components.{pipe}] The embedding was trained with ")
    assert "stride = 15, not 10" in message
    assert "kernel_sizes = [3], not [5]" in message
    assert "window" not in message
    caplog.clear()
    # the same in other words is no other setting
    spacy.load(tmp_path, config={f"{section}.layers": [2], f"{section}.filters": 32})
    assert not caplog.messages
    # likewise from bytes
    other.from_bytes(nlp.to_bytes())
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("package:no_such_package/model", "pip"),
        ("package:spacy_crf_ner/model", 'no folder "model"'),
        ("package:spacy_crf_ner.crf/model", "pip"),
        ("package:./here", "pip"),
        ("./no/such/folder", "no such folder"),
        ("{here}", r"no config\.json"),
        ("nobody/no-such-model", "could not be loaded.*[Ww]ithout a network"),
    ],
)
def test_an_encoder_that_is_not_there(name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=message) as error:
        build(name.format(here=tmp_path))
    assert name.format(here=tmp_path) in str(error.value)


def test_a_folder_in_a_package_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "some_weights"
    write_encoder(package / "inner")
    (package / "__init__.py").write_text("raise RuntimeError('it is not imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert resolve_encoder("package:some_weights/inner") == str(package / "inner")
    assert build("package:some_weights/inner").get_dim("nO") == 32


def test_an_unused_model_says_how_to_get_weights() -> None:
    with pytest.raises(ValueError, match=r"nlp\.initialize"):
        TransformerCNN("somewhere").predict([NLP("fever")])


def test_broken_weights_are_named(tmp_path: Path) -> None:
    write_encoder(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ValueError, match="could not be loaded") as error:
        build(str(tmp_path))
    assert str(tmp_path) in str(error.value)
