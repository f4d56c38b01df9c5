"""Two passes with different dropout, and how far they are apart, as part of the loss of crf_ner."""

import pickle
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
import spacy
import torch
from thinc.api import Config, fix_random_seed

from spacy_crf_ner.crf.model import head_module
from spacy_crf_ner.training.optimizer import make_adamw

from ..conftest import make_examples, make_nlp, train
from ..embedding.test_pipe import LISTENER
from . import brute


def two_passes(examples: List[Any], n_tags: int) -> List[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.normal(size=(len(eg.x), n_tags)).astype("f") for eg in [*examples, *examples]]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"mode": "marginal"},
        {"overlap": True, "target_spans": "all"},
        {"partial": "expected_entity_ratio", "entity_ratio_weight": 2.0, "entity_ratio": 0.9},
    ],
    ids=str,
)
def test_the_loss_is_the_mean_of_both_passes_and_their_divergence(encoder: str, settings: dict) -> None:
    """The divergence by enumeration of all sequences; the gradient by finite differences."""
    weight = 0.8
    nlp = make_nlp(encoder, r_drop_weight=weight, **settings)
    examples = make_examples(nlp, settings.get("target_spans", ""))
    nlp.initialize(lambda: examples)
    pipe = nlp.get_pipe("crf_ner")
    module = head_module(pipe.model)
    short = [eg for eg in examples if len(eg.x) <= 4]
    emissions = two_passes(short, module.n_tags * module.n_chains)
    n = len(short)
    golds, docs = pipe._golds(short), [eg.x for eg in short]
    loss, gradients = pipe._loss(docs, golds, emissions)
    alone = [pipe.get_loss(short, emissions[:n])[0], pipe.get_loss(short, emissions[n:])[0]]
    apart, chain = 0.0, module.crf.scores()
    for first, second in zip(emissions[:n], emissions[n:]):
        rows = [module.fold(torch.tensor(part)[None]).double() for part in (first, second)]
        for i, (a, b) in enumerate(zip(*rows)):
            p, q = (torch.log_softmax(brute.every(part, brute.part(chain, i))[1], 0) for part in (a, b))
            apart += float((p.exp() * (p - q) + q.exp() * (q - p)).sum().detach())
    tokens = module.n_chains * sum(len(eg.x) for eg in short)
    assert apart / tokens > 0.1
    assert loss == pytest.approx(np.mean(alone) + weight / 2 * apart / tokens, rel=1e-4)
    random = np.random.default_rng(1)
    direction = [random.normal(size=e.shape).astype("f") for e in emissions]
    up, down = (
        pipe._loss(docs, golds, [e + size * d for e, d in zip(emissions, direction)])[0] for size in (1e-2, -1e-2)
    )
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, direction))
    assert (up - down) / 2e-2 == pytest.approx(slope, rel=0.01)
    # a part of a batch is divided by the tokens of the whole of it
    pipe.step_tokens = 4 * tokens
    if "partial" not in settings:
        assert pipe._loss(docs, golds, emissions)[0] == pytest.approx(loss / 4, rel=1e-5)


def first_loss(encoder: str, weight: float, drop: float) -> float:
    fix_random_seed(0)
    nlp = make_nlp(encoder, r_drop_weight=weight)
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    fix_random_seed(1)
    return nlp.update(examples, sgd=False, drop=drop)["crf_ner"]


def test_the_weight_is_that_of_the_divergence(encoder: str) -> None:
    one, two, four = (first_loss(encoder, weight, 0.3) for weight in (1.0, 2.0, 4.0))
    assert two > one + 1e-3
    assert four - two == pytest.approx(2 * (two - one), rel=1e-3)


def test_without_dropout_it_is_plain_training(encoder: str) -> None:
    stored = []
    for weight in (0.0, 3.0):
        fix_random_seed(0)
        nlp = make_nlp(encoder, r_drop_weight=weight)
        stored.append(train(nlp, make_examples(nlp), steps=4).get_pipe("crf_ner").to_bytes())
    assert stored[0] == stored[1]


def test_it_brings_passes_together(encoder: str) -> None:
    """After the same steps two passes with dropout are less apart than those of plain training."""
    apart = []
    for weight in (0.0, 3.0):
        fix_random_seed(0)
        nlp = make_nlp(encoder, r_drop_weight=weight)
        examples = make_examples(nlp)
        nlp.initialize(lambda corpus=examples: corpus)
        optimizer = make_adamw(0.01, groups={})
        for _ in range(25):
            nlp.update(examples, sgd=optimizer, drop=0.3)
        nlp.get_pipe("crf_ner").r_drop_weight = 1e-9
        fix_random_seed(2)
        pipe = nlp.get_pipe("crf_ner")
        docs = [eg.x for eg in examples] * 8
        emissions, _ = pipe.model.begin_update(docs * 2)
        n = len(docs)
        golds = pipe._golds(examples) * 8
        plain = pipe._loss(docs, golds, emissions)[0]
        pipe.r_drop_weight = 2.0
        apart.append(pipe._loss(docs, golds, emissions)[0] - plain)
        assert len(emissions) == 2 * n
    assert apart[1] < 0.7 * apart[0]


@pytest.mark.parametrize("stacked", [False, True])
def test_an_embedding_that_runs_once_cannot_run_twice(encoder: str, stacked: bool) -> None:
    nlp = spacy.blank("en")
    shared = {"@architectures": "spacy_crf_ner.TransformerCNN.v1", "encoder": encoder, "width": 24}
    nlp.add_pipe("transformer_cnn", config={"model": shared})
    tok2vec: dict = LISTENER
    if stacked:
        tok2vec = {"@architectures": "spacy_crf_ner.Stack.v1", "embeddings": {"a": LISTENER, "b": shared}}
    model = {"@architectures": "spacy_crf_ner.CRFTagger.v1", "tok2vec": tok2vec}
    pipe: Any = nlp.add_pipe("crf_ner", config={"model": model, "r_drop_weight": 1.0})
    examples = make_examples(nlp)
    with pytest.raises(ValueError, match=r"\[components.crf_ner\] r_drop_weight = 1.0.*embedding of its own"):
        nlp.initialize(lambda: examples)
    pipe.r_drop_weight = 0.0
    nlp.initialize(lambda: examples)
    pipe.r_drop_weight = 1.0
    with pytest.raises(ValueError, match=r"r_drop_weight = 1\.0"):
        nlp.update(examples, sgd=False, drop=0.1)


def test_a_weight_that_cannot_be_is_named(encoder: str) -> None:
    with pytest.raises(ValueError, match=r"\[components.crf_ner\] r_drop_weight"):
        make_nlp(encoder, r_drop_weight=-0.1)


def test_pipelines_without_the_setting_load_and_those_with_it_keep_it(encoder: str, tmp_path: Path) -> None:
    nlp = make_nlp(encoder, r_drop_weight=0.7)
    train(nlp, make_examples(nlp), steps=1)
    nlp.to_disk(tmp_path)
    assert spacy.load(tmp_path).get_pipe("crf_ner").r_drop_weight == 0.7
    assert pickle.loads(pickle.dumps(nlp)).get_pipe("crf_ner").r_drop_weight == 0.7
    config = Config().from_disk(tmp_path / "config.cfg", interpolate=False)
    del config["components"]["crf_ner"]["r_drop_weight"]
    config.to_disk(tmp_path / "config.cfg")
    assert spacy.load(tmp_path).get_pipe("crf_ner").r_drop_weight == 0.0
