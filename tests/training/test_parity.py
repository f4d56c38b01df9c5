"""The extended loop with its extras off is spacy train, and a batch in parts is the batch: by their gradients."""

import os
import random
from pathlib import Path
from typing import Any, Dict, List

import pytest
import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Example
from spacy.training.initialize import init_nlp
from spacy.training.loop import train as spacy_train
from thinc.api import Config

from spacy_crf_ner.training.loop import Training
from spacy_crf_ner.training.optimizer import AdamW
from spacy_crf_ner.training.parameters import parameters

from ..conftest import TEXTS, make_examples, make_nlp
from .runs import changed, train


class Taken(Exception):
    pass


def first_gradients(run: Any) -> Dict[str, torch.Tensor]:
    """All gradients as they are when the optimizer is first called, by the names of the parameters."""
    found: Dict[str, torch.Tensor] = {}
    trained: List[Language] = []
    update = Language.update

    def known(self: Language, *args: Any, **settings: Any) -> Any:
        trained.append(self)
        return update(self, *args, **settings)

    def taken(self: AdamW, *args: Any, **settings: Any) -> None:
        found.update({p.name: p.dense().clone() for p in parameters(trained[0].pipeline) if p.gradient() is not None})
        raise Taken

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Language, "update", known)
        patch.setattr(AdamW, "collect_module", taken)
        patch.setattr(AdamW, "__call__", taken)
        with pytest.raises(Taken), open(os.devnull, "w") as nowhere:
            run(nowhere)
    assert len(trained) == 1
    return found


def apart(found: Dict[str, torch.Tensor], expected: Dict[str, torch.Tensor]) -> Dict[str, float]:
    """How far each gradient is from the expected one, as a share of it."""
    assert found.keys() == expected.keys()
    # attention does not depend on biases of its keys: their gradients are rounding errors
    known = {name: g for name, g in expected.items() if not name.endswith("key.bias") and g.norm() > 0}
    return {name: float((found[name] - g).norm() / g.norm()) for name, g in known.items()}


def test_the_first_gradient_is_that_of_spacy_train(config: Config, tmp_path: Path) -> None:
    """Of our recogniser and of spaCy's tagger, in a batch of many documents."""
    config = changed(config, training__dropout=0.0, training__batcher__size=60)
    config["nlp"]["pipeline"] = ["tagger", "crf_ner"]
    config["components"]["tagger"] = {"factory": "tagger"}
    docs = [eg.reference for eg in make_examples(spacy.blank("en"))]
    for doc in docs:
        for token in doc:
            token.tag_ = token.text[:1]
    DocBin(docs=docs).to_disk(tmp_path / "tags.spacy")
    config["paths"]["train"] = config["paths"]["dev"] = str(tmp_path / "tags.spacy")
    expected = first_gradients(lambda nowhere: spacy_train(init_nlp(config), stdout=nowhere, stderr=nowhere))
    found = first_gradients(lambda nowhere: train(config))
    shares = apart(found, expected)
    assert max(shares.values()) <= 1e-5
    assert {name.partition("/")[0] for name in shares} == {"tagger", "crf_ner"}
    assert len(shares) > 40
    # and the measure would tell another batch
    config["training"]["batcher"]["size"] = 10
    assert max(apart(first_gradients(lambda nowhere: train(config)), expected).values()) > 1e-2


def long_corpus(nlp: Language, tokens: int, length: int) -> List[Example]:
    """Documents of one length that have so many tokens together."""
    generator = random.Random(0)
    words = sorted({word for text, _ in TEXTS for word in text.split()})
    examples = []
    for _ in range(tokens // length):
        doc = Doc(nlp.vocab, words=[generator.choice(words) for _ in range(length)])
        starts = range(0, length - 3, generator.randint(4, 9))
        doc.set_ents([Span(doc, i, i + generator.randint(1, 3), generator.choice(["DRUG", "PLACE"])) for i in starts])
        examples.append(Example(Doc(nlp.vocab, words=[token.text for token in doc]), doc))
    return examples


@pytest.mark.parametrize("mode", ["joint", "marginal"])
def test_four_parts_of_1024_tokens_are_one_batch_of_4096(encoder: str, mode: str) -> None:
    gradients: List[Dict[str, torch.Tensor]] = []
    for limit, n_parts in ((4096, 1), (1024, 4)):
        torch.manual_seed(0)
        nlp = make_nlp(encoder, mode=mode)
        examples = long_corpus(nlp, 4096, 64)
        assert sum(len(eg.x) for eg in examples) == 4096
        nlp.initialize(lambda examples=examples: examples)
        training = Training.__new__(Training)
        training.nlp = nlp
        training.extras = type("Extras", (), {"micro_batch_tokens": limit})()
        training._learners = {}
        parts = list(training._parts(examples))
        assert [sum(len(eg.x) for eg in part) for part in parts] == [4096 // n_parts] * n_parts
        losses: Dict[str, float] = {}
        with training._whole_step(examples):
            for part in parts:
                nlp.update(part, sgd=False, losses=losses)
        gradients.append({p.name: p.dense() for p in parameters(nlp.pipeline) if p.gradient() is not None})
        gradients[-1]["loss"] = torch.tensor(losses["crf_ner"])
    shares = apart(gradients[1], gradients[0])
    assert len(shares) > 30
    assert max(shares.values()) <= 1e-5, max(shares, key=lambda name: shares[name])
