"""Adversarial training: a second pass with moved embeddings, whose gradient is added."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List

import numpy as np
import pytest
import spacy
import torch
from spacy.language import Language
from spacy.training.initialize import init_nlp
from thinc.api import Config

from spacy_crf_ner.training.adversarial import Adversary
from spacy_crf_ner.training.distributed import Group
from spacy_crf_ner.training.loop import Training
from spacy_crf_ner.training.optimizer import AdamW, make_adamw
from spacy_crf_ner.training.parameters import parameters

from ..conftest import make_examples
from ..embedding.test_pipe import make_shared
from .runs import Stop, changed, digest, stop_after, train, weights, with_extras

WORDS = "crf_ner/encoder.embeddings.word_embeddings.weight"


@pytest.fixture
def handed_over(monkeypatch: pytest.MonkeyPatch) -> List[Dict[str, torch.Tensor]]:
    """The gradients of each step, by the names of their parameters, as they were right before the step."""
    steps: List[Dict[str, torch.Tensor]] = []
    take_step = AdamW._take_step

    def noted(self: AdamW, gradients: Dict[Any, torch.Tensor]) -> None:
        steps.append({self._name_of(key): g.clone().to_dense() for key, g in gradients.items()})
        take_step(self, gradients)

    monkeypatch.setattr(AdamW, "_take_step", noted)
    return steps


def gradients(nlp: Language, examples: list) -> Dict[str, torch.Tensor]:
    """Of a batch, added to those that are there; without any loop."""
    pipe: Any = nlp.get_pipe("crf_ner")
    emissions, backprop = pipe.model.begin_update([eg.x for eg in examples])
    backprop(pipe.get_loss(examples, emissions)[1])
    return {p.name: p.dense().clone() for p in parameters(nlp.pipeline) if p.gradient() is not None}


def by_hand(nlp: Language, examples: list, epsilon: float) -> Dict[str, torch.Tensor]:
    """The fast gradient method as it is usually written."""
    table = next(p for name, p in modules(nlp).items() if name.endswith("word_embeddings.weight"))
    g = gradients(nlp, examples)[WORDS]
    before = table.data.clone()
    table.data.add_(epsilon * g / g.norm())
    both = gradients(nlp, examples)
    table.data.copy_(before)
    return both


def modules(nlp: Language) -> Dict[str, torch.nn.Parameter]:
    return {
        f"{name}/{key}": p
        for name, pipe in nlp.pipeline
        for node in pipe.model.walk()
        for shim in node.shims
        for key, p in shim.module.named_parameters()
    }


@pytest.mark.parametrize("limit", [0, 12])
def test_the_gradient_is_that_of_both_passes(config: Config, limit: int, handed_over: list) -> None:
    """Of the whole batch, be it in parts or not."""
    config = with_extras(
        changed(config, training__dropout=0.0, training__batcher__size=100, training__max_steps=3),
        adversarial_epsilon=0.5,
        micro_batch_tokens=limit,
    )
    nlp = init_nlp(config)
    examples = make_examples(nlp)
    expected = by_hand(nlp, examples, 0.5)
    plain = gradients(init_nlp(config), examples)
    train(config)
    assert handed_over[0].keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(handed_over[0][name], value, rtol=1e-4, atol=2e-6, msg=name)
    # the second pass was no repetition of the first
    assert (expected[WORDS] - 2 * plain[WORDS]).norm() > 0.05 * plain[WORDS].norm()


def test_embeddings_come_back_to_the_last_bit(config: Config) -> None:
    still = changed(config, training__optimizer__learn_rate=0.0, training__max_steps=3)
    begun = weights(init_nlp(still))
    nlp, _ = train(with_extras(still, adversarial_epsilon=3.0))
    for name, value in weights(nlp).items():
        assert np.array_equal(value, begun[name]), name


@pytest.mark.parametrize("sparse", [True, False])
def test_a_table_is_moved_by_epsilon_and_back(encoder: str, config: Config, sparse: bool) -> None:
    nlp = init_nlp(config)
    examples = make_examples(nlp)
    gradients(nlp, examples)
    table = modules(nlp)[WORDS]
    assert table.grad.is_sparse
    dense = table.grad.to_dense()
    if not sparse:
        table.grad = dense
    before = table.detach().clone()
    doc = nlp.make_doc("No fever today .")
    shim = nlp.get_pipe("crf_ner").model.get_ref("tok2vec").shims[0]
    halves = shim.module.predictor("bf16")

    def halved() -> torch.Tensor:
        return shim.module.predictor("bf16").get_input_embeddings().weight.clone()

    assert halves is shim.module.predictor("bf16")
    with pytest.raises(Stop), Adversary(0.7, "*word_embeddings.weight").moved(nlp.pipeline, Group()) as is_moved:  # noqa: PT012
        assert is_moved
        torch.testing.assert_close(table - before, 0.7 * dense / dense.norm(), rtol=1e-4, atol=1e-6)
        # what prediction makes of the weights follows them there and back
        assert not torch.equal(halved(), before.bfloat16())
        raise Stop
    assert torch.equal(table, before)
    assert torch.equal(halved(), before.bfloat16())
    assert nlp.get_pipe("crf_ner").predict([doc]) is not None


@pytest.mark.parametrize("wrong", [0.0, float("inf"), float("nan")])
def test_a_gradient_that_points_nowhere_moves_nothing(config: Config, wrong: float) -> None:
    nlp = init_nlp(config)
    table = modules(nlp)[WORDS]
    before = table.detach().clone()
    table.grad = torch.full_like(table, wrong)
    with Adversary(0.7, "*word_embeddings.weight").moved(nlp.pipeline, Group()) as is_moved:
        assert not is_moved
        assert torch.equal(table, before)


def test_it_is_resumed_to_the_last_bit(
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = with_extras(config, adversarial_epsilon=0.5, checkpoint_steps=3)
    train(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 5, Stop())
        with pytest.raises(Stop):
            train(config, tmp_path / "cut")
    train(config, tmp_path / "cut", resume=True)
    assert digest(tmp_path / "cut") == digest(tmp_path / "whole")
    train(with_extras(config, adversarial_epsilon=0.0), tmp_path / "plain")
    assert digest(tmp_path / "plain")["model"] != digest(tmp_path / "whole")["model"]


@pytest.mark.parametrize("micro_batch_tokens", [0, 12])
def test_gradients_of_a_shared_embedding_have_come_down_when_it_is_moved(encoder: str, micro_batch_tokens: int) -> None:
    """They wait for all listeners; the second pass has to go back through the weights that it went through."""
    from spacy_crf_ner.training.settings import TrainingExtras

    nlp = make_shared(encoder, "crf_ner")
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    table = next(p for name, p in modules(nlp).items() if name.endswith("word_embeddings.weight"))

    def whole_batch() -> Dict[str, torch.Tensor]:
        nlp.update(examples, sgd=False)
        nlp.get_pipe("transformer_cnn").end_batch()
        return {p.name: p.dense().clone() for p in parameters(nlp.pipeline) if p.gradient() is not None}

    g = whole_batch()["transformer_cnn/encoder.embeddings.word_embeddings.weight"]
    before = table.data.clone()
    table.data.add_(0.5 * g / g.norm())
    expected = whole_batch()
    table.data.copy_(before)
    for p in modules(nlp).values():
        p.grad = None
    optimizer = make_adamw(0.0)
    found: Dict[str, torch.Tensor] = {}
    optimizer.collect_module = lambda shim, module: found.update(  # type: ignore[method-assign]
        {name: p.grad.to_dense().clone() for name, p in module.named_parameters() if p.grad is not None}
    )
    nlp.config["training"].update(dropout=0.0, max_steps=1, seed=1)
    extras = TrainingExtras(adversarial_epsilon=0.5, micro_batch_tokens=micro_batch_tokens)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spacy_crf_ner.training.loop.Batches", lambda *args, **settings: SimpleNamespace(share=None))
        patch.setattr("spacy_crf_ner.training.loop.resolve_dot_names", lambda *args: [None, None])
        training = Training(nlp, extras=extras, evaluates=False)
    training.optimizer = optimizer
    training._step(0, examples)
    assert len(found) == len(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name.partition("/")[2]], value, rtol=1e-4, atol=2e-6, msg=name)


def test_any_array_can_be_moved(config: Config, tmp_path: Path) -> None:
    """Those of thinc's own layers too; the names are those that the optimizer's groups are given."""
    config["nlp"]["pipeline"] = ["tagger", "crf_ner"]
    config["components"]["tagger"] = {"factory": "tagger"}
    docs = [eg.reference for eg in make_examples(spacy.blank("en"))]
    for doc in docs:
        for token in doc:
            token.tag_ = token.text[:1]
    runs = {}
    for epsilon in (0.0, 0.5):
        settings = with_extras(
            changed(config, training__max_steps=3),
            adversarial_epsilon=epsilon,
            adversarial_parameters="tagger/hashembed.*.E",
        )
        nlp, _ = train(settings, train_docs=docs, dev_docs=docs)
        runs[epsilon] = weights(nlp)
    changed_pipes = {name.partition("/")[0] for name, v in runs[0.0].items() if not np.array_equal(v, runs[0.5][name])}
    assert changed_pipes == {"tagger", "crf_ner"}
    optimizer = make_adamw()
    optimizer.name_pipes(nlp.pipeline)
    assert {p.name for p in parameters(nlp.pipeline)} == {*optimizer._names.values()}
    with Adversary(0.5, "tagger/hashembed.*.E").moved(nlp.pipeline, Group()) as is_moved:
        assert not is_moved
    nlp.update(make_examples_with_tags(docs, nlp), sgd=False)
    before = weights(nlp)
    with Adversary(0.5, "tagger/hashembed.*.E").moved(nlp.pipeline, Group()):
        apart = [np.linalg.norm(value - before[name]) for name, value in weights(nlp).items()]
    assert sum(distance > 0 for distance in apart) == 4
    assert all(distance == 0 or abs(distance - 0.5) < 1e-4 for distance in apart)
    assert all(np.array_equal(value, before[name]) for name, value in weights(nlp).items())


def make_examples_with_tags(docs: list, nlp: Language) -> list:
    return [spacy.training.Example(nlp.make_doc(doc.text), doc) for doc in docs]


# What a user can get wrong


@pytest.mark.parametrize(
    ("extras", "model", "message"),
    [
        ({"adversarial_parameters": "*word_embedding.weight"}, {}, r"adversarial_parameters.*Near it are crf_ner/enc"),
        ({}, {"frozen_layers": 0}, "word_embeddings.weight is frozen"),
        ({}, {"frozen_layers": "all"}, "word_embeddings.weight is frozen"),
        ({"adversarial_epsilon": -1.0}, {}, "adversarial_epsilon = -1.0 must not be negative"),
        ({"adversarial_parameters": 3}, {}, "adversarial_parameters = 3 must be text"),
    ],
)
def test_what_cannot_be_moved_is_named(config: Config, extras: dict, model: dict, message: str) -> None:
    config["components"]["crf_ner"]["model"]["tok2vec"].update(model)
    with pytest.raises(ValueError, match=message):
        train(with_extras(config, **{"adversarial_epsilon": 0.5, **extras}))
