"""A trained pipeline as the beginning of another training, with labels added and removed."""

import os
import pickle
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
import spacy
import torch
from spacy.language import Language
from spacy.training.initialize import init_nlp
from spacy.training.loop import train as spacy_train
from thinc.api import Config, fix_random_seed

from spacy_crf_ner.callbacks import set_labels
from spacy_crf_ner.crf.model import head_module
from spacy_crf_ner.tagging import tag_id

from ..conftest import make_examples
from .runs import Stop, changed, digest, stop_after, train, weights, with_extras


@pytest.fixture
def start(trained: Language, tmp_path: Path) -> str:
    """A pipeline that knows DRUG, PLACE and PROBLEM."""
    trained.to_disk(tmp_path / "start")
    return str(tmp_path / "start")


@pytest.fixture
def other(tmp_path: Path) -> str:
    """A corpus with labels that it does not know: TREATMENT in place of DRUG, and TOWN in place of PLACE."""
    docs = []
    for example in make_examples(spacy.blank("en")):
        doc = example.reference
        names = {"DRUG": "TREATMENT", "PLACE": "TOWN"}
        doc.set_ents([spacy.tokens.Span(doc, e.start, e.end, names.get(e.label_, e.label_)) for e in doc.ents])
        docs.append(doc)
    spacy.tokens.DocBin(docs=docs).to_disk(tmp_path / "other.spacy")
    return str(tmp_path / "other.spacy")


def sourced(config: Config, start: str, other: str, **callback: Any) -> Config:
    config = changed(config, paths__train=other, paths__dev=other)
    config["components"] = {"crf_ner": {"source": start}}
    if callback:
        block = {"@callbacks": "spacy_crf_ner.set_labels.v1", **callback}
        config["initialize"] = {**config.get("initialize", {}), "after_init": block}
    return config


def rows(nlp: Language, label: str) -> Dict[str, torch.Tensor]:
    """What the head knows of a label: scores of its tags, and of the moves among them and from and to O."""
    pipe: Any = nlp.get_pipe("crf_ner")
    head = head_module(pipe.model)
    tags = [0] + [tag_id(pipe.labels.index(label), position) for position in range(4)]
    crf = head.crf
    return {
        "weight": head.linear.weight[tags],
        "bias": head.linear.bias[tags],
        "start": crf.start_transitions[tags],
        "end": crf.end_transitions[tags],
        "moves": crf.transitions[tags][:, tags],
    }


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (None, ("DRUG", "PLACE", "PROBLEM", "TOWN", "TREATMENT")),
        (["TREATMENT", "PROBLEM", "DRUG"], ("TREATMENT", "PROBLEM", "DRUG")),
    ],
)
def test_what_is_known_of_labels_that_stay_is_kept(
    config: Config, start: str, other: str, labels: Any, expected: tuple, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("spacy.util.logger.propagate", True)
    before = spacy.load(start)
    with caplog.at_level("INFO", logger="spacy"):
        nlp = init_nlp(sourced(config, start, other, labels=labels))
    assert nlp.get_pipe("crf_ner").labels == expected
    for label in {*expected} & {*before.get_pipe("crf_ner").labels}:
        now = rows(nlp, label)
        assert all(torch.equal(value, now[name]) for name, value in rows(before, label).items()), label
    inside = [name for name in weights(before) if name.split("/", 2)[2].startswith(("encoder.", "cnn.", "no_pieces"))]
    assert len(inside) > 30
    assert all(np.array_equal(weights(before)[name], weights(nlp)[name]) for name in inside)
    added = ", ".join(x for x in expected if x not in before.get_pipe("crf_ner").labels)
    removed = ", ".join(x for x in before.get_pipe("crf_ner").labels if x not in expected) or "none"
    assert f"labels added: {added}; removed: {removed}; kept: " in caplog.text
    # the new ones are drawn by the seed
    again, third = (
        init_nlp(changed(sourced(config, start, other, labels=labels), system__seed=seed)) for seed in (3, 4)
    )
    assert all(torch.equal(v, rows(again, "TREATMENT")[k]) for k, v in rows(nlp, "TREATMENT").items())
    assert not torch.equal(rows(third, "TREATMENT")["weight"][1:], rows(nlp, "TREATMENT")["weight"][1:])
    assert ("outside the given list: TOWN" in caplog.text) == (labels is not None)


def test_both_loops_go_on_from_it_alike(config: Config, start: str, other: str, tmp_path: Path) -> None:
    config = changed(sourced(config, start, other, labels=None), training__dropout=0.0, training__eval_frequency=100)
    theirs = init_nlp(config)
    with open(os.devnull, "w") as nowhere:
        spacy_train(theirs, stdout=nowhere, stderr=nowhere)
    ours, history = train(config)
    expected = weights(theirs)
    for name, value in weights(ours).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-6, err_msg=name)
    # warm-up and decay are those of the configuration
    rates = [line["learn_rate"] for line in history]
    assert rates[0] < rates[1] > rates[5] > rates[9]


def test_a_training_from_it_is_resumed_to_the_last_bit(
    config: Config, start: str, other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = with_extras(sourced(config, start, other, labels=None), checkpoint_steps=3)
    train(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 8, Stop())
        with pytest.raises(Stop):
            train(config, tmp_path / "cut")
    nlp, _ = train(config, tmp_path / "cut", resume=True)
    assert digest(tmp_path / "cut") == digest(tmp_path / "whole")
    assert "TREATMENT" in nlp.get_pipe("crf_ner").labels


def test_new_labels_are_learned(config: Config, start: str, other: str) -> None:
    config = changed(sourced(config, start, other, labels=["TREATMENT", "TOWN", "PROBLEM"]), training__max_steps=60)
    nlp, _ = train(config)
    assert [(e.text, e.label_) for e in nlp("Aspirin was given for fever in Lyon .").ents] == [
        ("Aspirin", "TREATMENT"),
        ("fever", "PROBLEM"),
        ("Lyon", "TOWN"),
    ]


@pytest.mark.parametrize("loop", ["spacy", "ours"])
def test_labels_that_it_lacks_are_counted(
    config: Config, start: str, other: str, loop: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spacy.util.logger.propagate", True)
    config = changed(sourced(config, start, other), training__batcher__size=100)
    config["paths"]["dev"] = config["paths"]["train"]
    if loop == "ours":
        nlp, _ = train(config)
    else:
        nlp = init_nlp(config)
        with open(os.devnull, "w") as nowhere:
            spacy_train(nlp, stdout=nowhere, stderr=nowhere)
    told = [r.message for r in caplog.records if "labels that the pipe does not know" in r.message]
    assert len(told) == 1
    assert told[0].startswith("crf_ner: 6 of 9 gold entities of a training batch")
    assert "TOWN (3), TREATMENT (3)" in told[0]
    assert "spacy_crf_ner.set_labels.v1" in told[0]
    assert nlp.get_pipe("crf_ner").labels == ("DRUG", "PLACE", "PROBLEM")


# What a user can get wrong


def test_names_that_are_not_there_are_named(config: Config, start: str, other: str) -> None:
    with pytest.raises(ValueError, match=r'pipe = "ner": there is no such pipe\. There are crf_ner'):
        init_nlp(sourced(config, start, other, pipe="ner"))
    nlp = spacy.blank("en")
    nlp.add_pipe("tagger")
    with pytest.raises(ValueError, match="it is a Tagger, and this callback is for a crf_ner"):
        set_labels("tagger", ["A"])(nlp)
    for labels in ([], ["A", "A"]):
        with pytest.raises(ValueError, match=r"\[initialize.after_init\] labels"):
            set_labels("crf_ner", labels)


def test_labels_that_cannot_be_are_refused(trained: Language) -> None:
    pipe: Any = pickle.loads(pickle.dumps(trained)).get_pipe("crf_ner")
    for labels in ([], ["A", "A"], ["A", ""], [3]):
        with pytest.raises(ValueError, match="crf_ner: labels = "):
            pipe.set_labels(labels)
    fix_random_seed(0)
    assert pipe.set_labels(["PLACE", "A"]) == (["A"], ["DRUG", "PROBLEM"])
