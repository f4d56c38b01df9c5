from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from spacy.language import Language
from spacy.vectors import Vectors

from spacy_crf_ner.embedding.stack import Stack

from ..conftest import TEXTS, found, make_examples, train


def make_stacked(encoder: str, **settings: Any) -> Language:
    """Static vectors, characters and a transformer side by side."""
    nlp = spacy.blank("en")
    words = sorted({word for text, _ in TEXTS for word in text.split()})
    rows = np.random.default_rng(0).normal(size=(len(words), 10)).astype("f")
    nlp.vocab.vectors = Vectors(strings=nlp.vocab.strings, data=rows, keys=words)
    embeddings = {
        "words": {"@architectures": "spacy.MultiHashEmbed.v2", "width": 16, "rows": [50], "attrs": ["NORM"],
                  "include_static_vectors": True},
        "characters": {"@architectures": "spacy.CharacterEmbed.v2", "width": 12, "rows": 50, "nM": 4, "nC": 4,
                       "include_static_vectors": False},
        "transformer": {"@architectures": "spacy_crf_ner.TransformerCNN.v1", "encoder": encoder, "width": 20},
    }  # fmt: skip
    tok2vec = {"@architectures": "spacy_crf_ner.Stack.v1", "embeddings": embeddings, **settings}
    nlp.add_pipe("crf_ner", config={"model": {"@architectures": "spacy_crf_ner.CRFTagger.v1", "tok2vec": tok2vec}})
    return nlp


@pytest.mark.parametrize("settings", [{}, {"lstm_width": 14, "lstm_depth": 2}])
def test_a_stack_learns_and_survives_storage(encoder: str, settings: dict, tmp_path: Path) -> None:
    nlp = make_stacked(encoder, **settings)
    examples = make_examples(nlp)
    train(nlp, examples, steps=60)
    stack = nlp.get_pipe("crf_ner").model.get_ref("tok2vec")
    assert stack.get_dim("nO") == settings.get("lstm_width", 16 + 12 + 20)
    assert nlp.evaluate(examples)["ents_f"] == 1.0
    nlp.to_disk(tmp_path)
    again = spacy.load(tmp_path)
    for text, _ in TEXTS:
        assert found(again(text)) == found(nlp(text))


def test_vectors_stand_side_by_side_in_the_order_of_the_config(encoder: str) -> None:
    nlp = make_stacked(encoder)
    nlp.initialize(lambda: make_examples(nlp))
    stack = nlp.get_pipe("crf_ner").model.get_ref("tok2vec")
    docs = [nlp.make_doc(text) for text in ("Fever in Lyon", "", "knee")]
    parts = [layer.predict(docs) for layer in stack.layers]
    for i, vectors in enumerate(stack.predict(docs)):
        assert np.array_equal(vectors, np.concatenate([part[i] for part in parts], axis=1))


def test_static_vectors_that_are_not_there_are_asked_for(encoder: str) -> None:
    nlp = make_stacked(encoder)
    nlp.vocab.vectors = Vectors(strings=nlp.vocab.strings)
    with pytest.raises(ValueError, match="reads static vectors, and the pipeline has none"):
        nlp.initialize(lambda: make_examples(nlp))


def test_every_embedding_gets_its_gradient(encoder: str) -> None:
    nlp = make_stacked(encoder, lstm_width=14)
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    nlp.update(examples, sgd=False)
    words, characters, transformer = nlp.get_pipe("crf_ner").model.get_ref("tok2vec").layers
    for layer in (words, characters):
        grads = [node.get_grad(name) for node in layer.walk() for name in node.param_names if node.has_grad(name)]
        assert grads
        assert all(np.abs(grad).sum() > 0 for grad in grads)
    assert transformer.shims[0].module.cnn.project.weight.grad.abs().sum() > 0


def test_the_lstm_reads_each_document_by_itself() -> None:
    from spacy_crf_ner.embedding.stack import DocumentLSTM

    lstm = DocumentLSTM(5, 8, 1)
    vectors = torch.randn(9, 5)
    together = lstm(vectors, [4, 0, 2, 3])
    alone = torch.cat([lstm(part, [len(part)]) for part in vectors.split([4, 2, 3])])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
    assert lstm(vectors[:0], [0, 0]).shape == (0, 8)
    lstm.train()
    assert not torch.equal(lstm(vectors, [9], 0.5), lstm(vectors, [9], 0.0))


@pytest.mark.parametrize("settings", [{"embeddings": {}}, {"lstm_width": 5}, {"lstm_width": 4, "lstm_depth": 0}])
def test_impossible_settings_are_refused(settings: dict) -> None:
    with pytest.raises(ValueError, match=r"Stack\.v1"):
        Stack(**{"embeddings": {"a": None}, **settings})
