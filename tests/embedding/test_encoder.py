"""Where an encoder comes from: also a checkpoint that was trained for something else."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from spacy.language import Language

from spacy_crf_ner.embedding.encoder import load_pretrained

from ..conftest import make_examples, make_nlp, write_encoder, write_tokenizer


def write_checkpoint(folder: Path, kind: str) -> Any:
    """A checkpoint with a head, as save_pretrained writes it. RETURNS: the whole model."""
    import transformers

    tokenizer = write_tokenizer(folder)
    torch.manual_seed(7)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=48,
        max_position_embeddings=64, initializer_range=0.2, num_labels=5,
    )  # fmt: skip
    model = getattr(transformers, kind)(config).eval()
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("kind", ["BertForTokenClassification", "BertForMaskedLM", "BertModel"])
@pytest.mark.parametrize("layers", [[-1], [1]])
def test_the_vectors_are_those_of_the_checkpoints_own_base(
    kind: str, layers: list, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr("spacy.util.logger.propagate", True)
    whole = write_checkpoint(tmp_path, kind)
    capfd.readouterr()
    with caplog.at_level("INFO", logger="spacy"):
        encoder, _, _, chosen = load_pretrained(str(tmp_path), layers)
    base = whole if kind == "BertModel" else whole.bert
    ids = torch.tensor([[2, 30, 31, 40, 3]])
    encoder.eval()
    with torch.no_grad():
        found = encoder(input_ids=ids)[0]
        expected = base(input_ids=ids, output_hidden_states=True).hidden_states[chosen[0]]
    assert torch.equal(found, expected)
    told = [record.message for record in caplog.records if "are left out" in record.message]
    if kind == "BertModel":
        assert not told
    else:
        assert len(told) == 1
        assert ("classifier.bias, classifier.weight" if "Token" in kind else "cls.predictions.bias") in told[0]
        assert kind in told[0]
        assert "encoder.layer" not in told[0]
    out, err = capfd.readouterr()
    assert "newly initialized" not in out + err


def test_a_missing_pooler_is_nothing_to_speak_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spacy.util.logger.propagate", True)
    write_encoder(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.startswith("pooler.")}
    assert len(kept) == len(weights) - 2
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    with caplog.at_level("INFO", logger="spacy"):
        load_pretrained(str(tmp_path))
    assert not [record for record in caplog.records if "encoder =" in record.message]


def test_a_missing_weight_of_the_encoder_is_an_error(tmp_path: Path) -> None:
    write_encoder(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        ValueError, match=r"weights that it needs are not there: encoder\.layer\.1\.output\.dense\.weight\. They would"
    ):
        load_pretrained(str(tmp_path))
    # a layer that is not used may be missing
    load_pretrained(str(tmp_path), [1])


def test_a_recogniser_trains_on_a_token_classifier(tmp_path: Path) -> None:
    whole = write_checkpoint(tmp_path / "checkpoint", "BertForTokenClassification")
    nlp: Language = make_nlp(str(tmp_path / "checkpoint"))
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    module = nlp.get_pipe("crf_ner").model.get_ref("tok2vec").shims[0].module
    own = dict(module.encoder.named_parameters())
    expected = {name: value for name, value in whole.bert.named_parameters() if not name.startswith("pooler")}
    assert own.keys() == expected.keys()
    assert all(torch.equal(value, own[name]) for name, value in expected.items())
