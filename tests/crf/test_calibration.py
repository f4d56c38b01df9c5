"""Calibration of a whole pipe; what is fitted by arrays alone is in tests/evaluation/test_calibration.py."""

import pickle
import random
from pathlib import Path
from typing import List

import numpy as np
import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Span
from spacy.training import Example

from spacy_crf_ner.corpora.files import CorpusError
from spacy_crf_ner.crf.calibration import Evidence, Fit, calibrate, fit, held_out, recogniser
from spacy_crf_ner.crf.confidence import Rules
from spacy_crf_ner.crf.pipe import CRFEntityRecognizer, is_key
from spacy_crf_ner.evaluation.calibration import exponent_loss
from spacy_crf_ner.tagging import UNPLACED

from ..conftest import TEXTS, entities, found, make_examples, make_nlp, train

KEYS = ("threshold", "temperature", "label_thresholds", "label_exponents", "scores_key")


@pytest.fixture
def nlp(trained: Language, tmp_path: Path) -> Language:
    """The pipeline that knows the small corpus by heart, to be changed."""
    trained.to_disk(tmp_path / "trained")
    return spacy.load(tmp_path / "trained")


def doubted(nlp: Language, n: int = 30, wrong: float = 0.3, label: str = "") -> List[Example]:
    """The small corpus many times, a share of its entities (of a label) taken away: those that are found are wrong."""
    chance = random.Random(0)
    examples = []
    for example in (example for _ in range(n) for example in make_examples(nlp)):
        kept = [e for e in example.reference.ents if chance.random() > wrong or (label and e.label_ != label)]
        example.reference.set_ents(kept, default="outside")
        examples.append(example)
    return examples


def pipe_of(nlp: Language) -> CRFEntityRecognizer:
    return recogniser(nlp)


def test_the_temperature_is_that_of_a_fine_grid(nlp: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    # no label has an exponent of its own
    monkeypatch.setattr("spacy_crf_ner.crf.calibration.exponent_gain", lambda *_: 0.0)
    pipe = pipe_of(nlp)
    evidence = Evidence(pipe, doubted(nlp))
    documents = np.arange(evidence.documents) % 3 > 0
    chosen = fit(evidence, documents, pipe.labels)
    counts = documents[evidence.best.document]

    (exponent,) = set(chosen.exponents.values())

    def loss(temperature: float, power: float) -> float:
        return exponent_loss(evidence.probabilities(temperature)[counts], evidence.best.right[counts], power)

    powers = np.exp(np.linspace(-1.4, 1.4, 57))
    grid = [loss(temperature, power) for temperature in np.exp(np.linspace(-1.6, 2.3, 160)) for power in powers]
    assert min(grid) - 0.05 < loss(chosen.temperature, exponent) <= min(grid) + 1e-3
    assert chosen.temperature > 1.5


def test_probabilities_at_a_temperature_are_those_that_the_pipe_gives(nlp: Language) -> None:
    pipe = pipe_of(nlp)
    evidence = Evidence(pipe, make_examples(nlp))
    judged = evidence.at(Fit(3.0, {0: 2.0}))
    pipe.temperature = 3.0
    pipe.label_exponents = {pipe.labels[0]: 2.0}
    given = [score for text, _ in TEXTS for *_, score in found(nlp(text))]
    order = np.lexsort([judged.document])
    assert judged.p[order] == pytest.approx(given, abs=1e-5)


def test_the_best_sequence_stays_and_its_probabilities_come_true(nlp: Language) -> None:
    examples = doubted(nlp)
    texts = [text for text, _ in TEXTS]
    before = [found(doc) for doc in nlp.pipe(texts)]
    results = calibrate(nlp, examples)
    after = [found(doc) for doc in nlp.pipe(texts)]
    assert [[e[:3] for e in doc] for doc in after] == [[e[:3] for e in doc] for doc in before]
    assert after != before
    right, now = results["after"]["all"]["precision"], results["after"]["all"]["mean_probability"]
    assert 0.6 < right < 0.8
    assert abs(now - right) < 0.05 < 0.2 < results["before"]["all"]["mean_probability"] - right
    assert results["after"]["all"]["log_loss"] < results["before"]["all"]["log_loss"]
    assert results["after"]["all"]["ece"] < results["before"]["all"]["ece"]


def test_held_out_probabilities_do_not_know_their_own_outcomes(nlp: Language) -> None:
    pipe = pipe_of(nlp)
    evidence = Evidence(pipe, doubted(nlp, 20))
    p = held_out(evidence, pipe.labels).p
    folds = np.arange(evidence.documents) % 5
    mine = folds[evidence.best.document] == 2
    evidence.best.right[mine] = False
    assert (held_out(evidence, pipe.labels).p[mine] == p[mine]).all()
    assert (held_out(evidence, pipe.labels).p[~mine] != p[~mine]).any()


def test_a_label_gets_an_exponent_where_it_alone_is_too_sure(nlp: Language) -> None:
    pipe = pipe_of(nlp)
    results = calibrate(nlp, doubted(nlp, 40, 0.5, "PLACE"))
    assert results["settings"]["label_exponents"] == pipe.label_exponents
    place, all_before = (results[when]["labels"]["PLACE"] for when in ("after", "before"))
    assert place["log_loss"] < all_before["log_loss"]
    # the others have no wrong ones, from which to learn how sure to be: they have that of all
    assert pipe.label_exponents["DRUG"] == pipe.label_exponents["PROBLEM"] < pipe.label_exponents["PLACE"]


def test_what_gold_does_not_say_is_neither_right_nor_wrong(nlp: Language) -> None:
    pipe = pipe_of(nlp)
    text, _ = TEXTS[0]
    reference = nlp.make_doc(text)  # Aspirin was given for fever in Lyon
    reference.set_ents([Span(reference, 0, 1, label="DRUG")], missing=[reference[4:6]], default="outside")
    judged = Evidence(pipe, [Example(nlp.make_doc(text), reference)]).best
    assert [(pipe.labels[label], bool(right)) for label, right in zip(judged.label, judged.right)] == [
        ("DRUG", True),
        ("PLACE", False),
    ]
    one = Evidence(pipe, [Example(nlp.make_doc(text), reference)], ["DRUG"]).best
    assert [pipe.labels[label] for label in one.label] == ["DRUG"]
    nothing = Example(nlp.make_doc(text), nlp.make_doc(text))
    assert Evidence(pipe, [nothing]).documents == 0


def test_gold_without_a_place_is_unknown(encoder: str) -> None:
    nlp = make_nlp(encoder, overlap=True, target_spans="all", output_spans="found")
    train(nlp, make_examples(nlp, "all"), steps=60)
    pipe = pipe_of(nlp)
    (example,) = make_examples(nlp, "all")[:1]
    assert Evidence(pipe, [example]).best.right.tolist() == [True, True, True]
    group = example.reference.spans["all"]
    kept = [span for span in group if span.label_ != "DRUG"]
    example.reference.spans["all"] = kept
    example.reference.spans["all"].attrs[UNPLACED] = [[0, 7, "DRUG"]]
    judged = Evidence(pipe, [example]).best
    assert [pipe.labels[label] for label in judged.label] == ["PROBLEM", "PLACE"]
    results = Evidence(pipe, doubted_group(nlp, 20))
    assert fit(results, np.ones(results.documents, dtype=bool), pipe.labels).temperature > 1


def doubted_group(nlp: Language, n: int) -> List[Example]:
    chance = random.Random(0)
    examples = [example for _ in range(n) for example in make_examples(nlp, "all")]
    for example in examples:
        spans = [span for span in example.reference.spans["all"] if chance.random() > 0.3]
        example.reference.spans["all"] = spans
    return examples


def test_too_little_is_refused_and_nothing_is_changed(nlp: Language) -> None:
    pipe = pipe_of(nlp)
    was = {key: getattr(pipe, key) for key in KEYS}
    for examples, settings, message in (
        (doubted(nlp, 10, 0.0), {}, "0 are wrong"),
        (doubted(nlp), {"precision": 0.99}, "No threshold could be shown"),
        (doubted(nlp), {"precision": 1.0}, "--precision 1.0"),
        (doubted(nlp), {"labels": ["X"]}, "X is none of crf_ner's labels"),
        (doubted(nlp), {"name": "ner"}, "--pipe"),
    ):
        with pytest.raises(CorpusError, match=message):
            calibrate(nlp, examples, **settings)  # type: ignore[arg-type]
        assert {key: getattr(pipe, key) for key in KEYS} == was


def test_thresholds_keep_a_precision(nlp: Language) -> None:
    # what is wrong is all of one label, so that a threshold can tell
    pipe = pipe_of(nlp)
    examples = doubted(nlp, 60, 0.9, "PLACE")
    results = calibrate(nlp, examples, precision=0.85, confidence=0.8)
    promised = results["promise"]["overall"]
    assert promised["threshold"] == pipe.threshold
    assert promised["lower_bound"] >= 0.85 - 1e-9
    fresh = Evidence(pipe, examples).judge(pipe.rules())
    assert fresh.right.mean() > 0.85
    assert (fresh.p >= pipe.threshold).all()
    by_label = calibrate(nlp, examples, precision=0.8, confidence=0.8, per_label=True)
    assert pipe.label_thresholds["DRUG"] < 1 == pipe.label_thresholds["PLACE"]
    assert by_label["promise"]["labels"]["PLACE"] is None
    docs = list(nlp.pipe(text for text, _ in TEXTS))
    assert {label for doc in docs for *_, label in entities(doc)} == {"DRUG", "PROBLEM"}


def test_settings_survive_storage(nlp: Language, tmp_path: Path) -> None:
    calibrate(nlp, doubted(nlp, 60, 0.9, "PLACE"), precision=0.8, per_label=True)
    pipe = pipe_of(nlp)
    pipe.label_exponents = {"DRUG": 0.7}
    settings = {key: getattr(pipe, key) for key in KEYS}
    assert settings["label_thresholds"]
    texts = [text for text, _ in TEXTS]
    expected = [found(doc) for doc in nlp.pipe(texts)]
    nlp.to_disk(tmp_path / "calibrated")
    for copy in (
        spacy.load(tmp_path / "calibrated"),
        spacy.blank("en").from_config(nlp.config, vocab=nlp.vocab).from_bytes(nlp.to_bytes()),
        pickle.loads(pickle.dumps(nlp)),
    ):
        assert {key: getattr(pipe_of(copy), key) for key in KEYS} == settings
        assert [found(doc) for doc in copy.pipe(texts)] == expected
    loaded = spacy.load(tmp_path / "calibrated", config={"components.crf_ner.label_thresholds.DRUG": 1.0})
    assert pipe_of(loaded).label_thresholds == {**settings["label_thresholds"], "DRUG": 1.0}


def test_thresholds_and_exponents_of_labels_take_effect(nlp: Language) -> None:
    pipe = pipe_of(nlp)
    text = TEXTS[0][0]
    plain = {e[2]: e for e in found(nlp(text))}
    pipe.label_exponents = {"DRUG": 3.0}
    raised = {e[2]: e for e in found(nlp(text))}
    assert raised["DRUG"][3] == pytest.approx(plain["DRUG"][3] ** 3, abs=1e-6)
    assert raised["PLACE"] == plain["PLACE"]
    pipe.label_thresholds = {"DRUG": 1.0}
    assert [e[2] for e in found(nlp(text))] == ["PROBLEM", "PLACE"]
    pipe.threshold, pipe.label_thresholds = 1.0, {"DRUG": 0.1}
    assert [e[2] for e in found(nlp(text))] == ["DRUG"]
    assert nlp.config["components"]["crf_ner"]["label_thresholds"] == {"DRUG": 0.1}
    # what is given out is a copy
    pipe.label_thresholds["PLACE"] = 7
    assert pipe.label_thresholds == {"DRUG": 0.1}
    pipe.remove_label("DRUG")
    assert pipe.label_thresholds == pipe.label_exponents == {}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("label_thresholds", {"DRUG": 0}, "above 0 and at most 1"),
        ("label_thresholds", {"DRUG": True}, "above 0 and at most 1"),
        ("label_thresholds", 0.5, "by label"),
        ("label_exponents", {"DRUG": -1.0}, "numbers above 0"),
        ("label_exponents", {"A:B": 1.0}, "cannot stand as a key"),
    ],
)
def test_wrong_settings_are_refused(nlp: Language, key: str, value: object, message: str) -> None:
    pipe = pipe_of(nlp)
    with pytest.raises(ValueError, match=rf"\[components.crf_ner\].*{message}"):
        setattr(pipe, key, value)
    assert getattr(pipe, key) == {}


def test_a_label_that_is_not_there_is_told(nlp: Language) -> None:
    pipe_of(nlp).label_thresholds = {"DRUGS": 0.9}
    with pytest.raises(
        ValueError, match=r"\[components.crf_ner.label_thresholds\] names DRUGS, and the labels are DRUG,"
    ):
        nlp("Aspirin")
    with pytest.raises(ValueError, match="names DRUGS"):
        Evidence(pipe_of(nlp), make_examples(nlp)).judge(pipe_of(nlp).rules())


def test_labels_that_a_config_would_lose_are_known() -> None:
    good = ["PER", "a b", "x.y", "A%B", "Ünï", "B-1", "1"]
    assert all(map(is_key, good))
    assert not any(map(is_key, ["A:B", "A=B", "#x", ";x", "[x]", "@x", "*", "a\nb"]))


def test_rules_are_those_of_the_settings(nlp: Language) -> None:
    pipe = pipe_of(nlp)
    pipe.threshold, pipe.temperature = 0.4, 2.0
    pipe.label_thresholds, pipe.label_exponents = {pipe.labels[1]: 0.3}, {pipe.labels[2]: 1.5}
    assert pipe.rules() == Rules(0.4, 2.0, {1: 0.3}, {2: 1.5})
