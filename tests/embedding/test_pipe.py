import pickle
from pathlib import Path
from typing import Any, Tuple

import numpy as np
import pytest
import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import fix_random_seed

from spacy_crf_ner.training.optimizer import make_adamw

from ..conftest import TEXTS, found, make_examples

LISTENER = {"@architectures": "spacy.Tok2VecListener.v1", "width": 24, "upstream": "transformer_cnn"}


def make_shared(encoder: str, *pipes: str) -> Language:
    """A shared embedding with listeners: crf_ner, tagger and textcat, in the order given."""
    nlp = spacy.blank("en")
    embedding = {"@architectures": "spacy_crf_ner.TransformerCNN.v1", "encoder": encoder, "width": 24}
    nlp.add_pipe("transformer_cnn", config={"model": embedding})
    models = {
        "crf_ner": {"@architectures": "spacy_crf_ner.CRFTagger.v1", "tok2vec": LISTENER},
        "tagger": {"@architectures": "spacy.Tagger.v2", "tok2vec": LISTENER},
        "textcat": {"@architectures": "spacy.TextCatReduce.v1", "exclusive_classes": True, "tok2vec": LISTENER,
                    "use_reduce_first": False, "use_reduce_last": False, "use_reduce_max": True,
                    "use_reduce_mean": True},
    }  # fmt: skip
    for pipe in pipes:
        nlp.add_pipe(pipe, config={"model": models[pipe]})
    return nlp


def annotate(nlp: Language) -> list:
    examples = make_examples(nlp)
    for i, example in enumerate(examples):
        for token in example.reference:
            token.tag_ = "UP" if token.text[0].isupper() else "LOW"
        example.reference.cats = {"A": float(i % 2), "B": float(1 - i % 2)}
    return examples


def wake(nlp: Language) -> None:
    """Last layers that begin at zero let no gradient pass: give them values."""
    for name in {"tagger", "textcat"} & set(nlp.pipe_names):
        for node in nlp.get_pipe(name).model.walk():
            if "W" in node.param_names and not node.get_param("W").any():
                node.set_param("W", np.random.default_rng(3).normal(size=node.get_param("W").shape).astype("f"))


def embedding_gradient(nlp: Language, examples: list, exclude: Tuple[str, ...] = ()) -> torch.Tensor:
    """Gradient that reaches the CNN in one step as spacy train takes it."""
    nlp.update(examples, sgd=False, exclude=exclude)
    shared = nlp.get_pipe("transformer_cnn")
    shared._settle()
    gradient = shared.model.shims[0].module.cnn.convolutions[0].weight.grad
    return torch.zeros(1) if gradient is None else gradient.clone()


def test_it_trains_with_a_tagger_and_a_text_classifier(encoder: str) -> None:
    nlp = make_shared(encoder, "tagger", "crf_ner", "textcat")
    examples = annotate(nlp)
    nlp.initialize(lambda: examples)
    optimizer = make_adamw(0.01, groups={})
    for _ in range(60):
        nlp.update(examples, sgd=optimizer)
    scores = nlp.evaluate(examples)
    assert (scores["ents_f"], scores["tag_acc"], scores["cats_score"]) == (1.0, 1.0, 1.0)


def test_gradients_of_all_listeners_add_up(encoder: str) -> None:
    def gradient(*alone: str) -> torch.Tensor:
        fix_random_seed(0)
        nlp = make_shared(encoder, "tagger", "crf_ner", "textcat")
        examples = annotate(nlp)
        nlp.initialize(lambda: examples)
        wake(nlp)
        return embedding_gradient(nlp, examples, tuple({"tagger", "crf_ner", "textcat"} - set(alone)))

    parts = [gradient(name) for name in ("tagger", "crf_ner", "textcat")]
    assert all(part.abs().sum() > 0 for part in parts)
    torch.testing.assert_close(gradient("tagger", "crf_ner", "textcat"), sum(parts), rtol=1e-4, atol=1e-6)


def test_gradients_arrive_when_the_last_listener_has_nothing_to_say(encoder: str) -> None:
    # spaCy's own Tok2Vec waits for the last listener and loses those of all others
    nlp = make_shared(encoder, "tagger", "crf_ner")
    examples = annotate(nlp)
    nlp.initialize(lambda: examples)
    wake(nlp)
    silent = []
    for example in examples:
        reference = nlp.make_doc(example.reference.text)
        for token, told in zip(reference, example.reference):
            token.tag_ = told.tag_
        silent.append(Example(nlp.make_doc(reference.text), reference))
    assert embedding_gradient(nlp, silent).abs().sum() > 0


def test_gradients_of_an_ended_batch_are_handed_over_though_none_came_last(encoder: str) -> None:
    """Of a batch in parts the last one may have no gold."""
    nlp = make_shared(encoder, "crf_ner")
    examples = annotate(nlp)
    nlp.initialize(lambda: examples)
    silent = [Example(nlp.make_doc("No gold here ."), nlp.make_doc("No gold here ."))]
    shared = nlp.get_pipe("transformer_cnn")
    before = shared.model.to_bytes()
    for part in (examples, silent):
        nlp.update(part, sgd=False)
    shared.end_batch()
    optimizer = make_adamw(0.01, groups={})
    shared.finish_update(optimizer)
    optimizer.step_schedules()
    assert shared.model.to_bytes() != before


def test_update_with_an_optimizer_steps_with_the_gradient_of_its_own_batch(encoder: str) -> None:
    def weights(in_loop: bool) -> torch.Tensor:
        fix_random_seed(0)
        nlp = make_shared(encoder, "tagger", "crf_ner")
        examples = annotate(nlp)
        nlp.initialize(lambda: examples)
        optimizer = make_adamw(0.01, groups={}, grad_clip=0.0)
        for _ in range(3):
            if in_loop:
                nlp.update(examples, sgd=False)
                for _, pipe in nlp.pipeline:
                    pipe.finish_update(optimizer)
                optimizer.step_schedules()
            else:
                nlp.update(examples, sgd=optimizer)
        shared = nlp.get_pipe("transformer_cnn")
        shared.predict([nlp.make_doc("")])
        return shared.model.shims[0].module.cnn.convolutions[0].weight.detach().clone()

    torch.testing.assert_close(weights(True), weights(False), rtol=1e-4, atol=1e-5)


def test_tensors_are_always_set(encoder: str) -> None:
    nlp = make_shared(encoder, "crf_ner")
    nlp.initialize(lambda: annotate(nlp))
    for doc in nlp.pipe(["Fever in Lyon", "", " \n"]):
        assert doc.tensor.shape == (len(doc), 24)
    alone = nlp("Fever in Lyon").tensor
    np.testing.assert_allclose(next(iter(nlp.pipe(["Fever in Lyon", TEXTS[0][0]]))).tensor, alone, atol=1e-4)


@pytest.mark.parametrize("store", ["disk", "bytes", "pickle"])
def test_storage(encoder: str, store: str, tmp_path: Path) -> None:
    nlp = make_shared(encoder, "crf_ner")
    examples = annotate(nlp)
    nlp.initialize(lambda: examples)
    optimizer: Any = make_adamw(0.01, groups={})
    for _ in range(20):
        nlp.update(examples, sgd=optimizer)
    if store == "pickle":
        again = pickle.loads(pickle.dumps(nlp))
    elif store == "bytes":
        again = type(nlp).from_config(nlp.config).from_bytes(nlp.to_bytes())
    else:
        nlp.to_disk(tmp_path)
        again = spacy.load(tmp_path)
    for text, _ in TEXTS:
        assert found(again(text)) == found(nlp(text))
    again.update(examples, sgd=make_adamw(0.01, groups={}))


def test_a_listener_can_be_given_its_own_copy(encoder: str, tmp_path: Path) -> None:
    nlp = make_shared(encoder, "crf_ner", "tagger")
    nlp.initialize(lambda: annotate(nlp))
    before = [found(nlp(text)) for text, _ in TEXTS]
    nlp.replace_listeners("transformer_cnn", "crf_ner", ["model.tok2vec"])
    nlp.to_disk(tmp_path)
    again = spacy.load(tmp_path, exclude=["transformer_cnn", "tagger"])
    for text, old in zip(TEXTS, before):
        assert [s[:3] for s in found(again(text[0]))] == [s[:3] for s in old]


def test_the_tensor_can_be_dropped_after_the_last_listener(encoder: str) -> None:
    nlp = make_shared(encoder, "crf_ner")
    nlp.initialize(lambda: make_examples(nlp))
    plain = [doc.copy() for doc in nlp.pipe(text for text, _ in TEXTS)]
    nlp.add_pipe("doc_cleaner", config={"attrs": {"tensor": None}, "silent": True})
    for doc, expected in zip(nlp.pipe(text for text, _ in TEXTS), plain):
        assert len(expected.tensor) == len(doc)
        assert doc.tensor is None
        assert found(Doc(nlp.vocab).from_bytes(doc.to_bytes())) == found(expected)
        assert found(doc) == found(expected)
