import random

import pytest
import spacy
from spacy.scorer import get_ner_prf
from spacy.tokens import Doc, Span
from spacy.training import Example

from spacy_crf_ner.evaluation.scorers import make_ner_scorer, ner_score
from spacy_crf_ner.tagging import UNPLACED

from ..conftest import make_examples, make_nlp

NLP = spacy.blank("en")
SETTINGS = {"labels": ["X", "Y"]}


def example(gold: list, predicted: list, missing: tuple = (), n: int = 8) -> Example:
    reference, doc = (Doc(NLP.vocab, words=[f"w{i}" for i in range(n)]) for _ in range(2))
    outside = [reference[i : i + 1] for i in missing]
    reference.set_ents([Span(reference, *g) for g in gold], missing=outside, default="outside")
    doc.ents = [Span(doc, *p) for p in predicted]
    return Example(doc, reference)


def test_micro_macro_and_per_label_by_hand() -> None:
    scores = ner_score(
        [example([(0, 1, "X"), (2, 4, "X"), (5, 6, "Y")], [(0, 1, "X"), (2, 3, "X"), (5, 6, "X")])], **SETTINGS
    )
    assert scores["ents_p"] == scores["ents_r"] == scores["ents_f"] == pytest.approx(1 / 3)
    assert scores["ents_per_type"]["X"] == pytest.approx({"p": 1 / 3, "r": 1 / 2, "f": 0.4})
    assert scores["ents_per_type"]["Y"] == {"p": 0, "r": 0, "f": 0}
    assert scores["ents_macro_f"] == pytest.approx(0.2)
    assert scores["ents_macro_r"] == pytest.approx(0.25)


def test_it_agrees_with_spacys_own_scorer_on_random_documents() -> None:
    rng = random.Random(0)

    def spans() -> list:
        borders = sorted(rng.sample(range(9), 6))
        return [(a, b, rng.choice("XY")) for a, b in zip(borders[::2], borders[1::2]) if rng.random() < 0.7]

    examples = []
    for _ in range(300):
        gold = spans()
        free = [i for i in range(8) if not any(a <= i < b for a, b, _ in gold)]
        examples.append(example(gold, spans(), tuple(i for i in free if rng.random() < 0.2)))
    ours, theirs = ner_score(examples, **SETTINGS), get_ner_prf(examples)
    for key in ("ents_p", "ents_r", "ents_f"):
        assert ours[key] == pytest.approx(theirs[key]), key
    assert set(ours["ents_per_type"]) == set(theirs["ents_per_type"])
    for label, scores in theirs["ents_per_type"].items():
        assert ours["ents_per_type"][label] == pytest.approx(scores), label


def test_other_tokens_make_no_difference() -> None:
    reference = Doc(NLP.vocab, words=["New", "York", "City"], spaces=[False, True, False])
    reference.ents = [Span(reference, 0, 2, "X"), Span(reference, 2, 3, "Y")]
    predicted = Doc(NLP.vocab, words=["NewYork", "City"], spaces=[True, False])
    predicted.ents = [Span(predicted, 0, 1, "X"), Span(predicted, 1, 2, "X")]
    scores = ner_score([Example(predicted, reference)], **SETTINGS)
    assert (scores["ents_p"], scores["ents_r"]) == (0.5, 0.5)


def test_groups_may_overlap_and_unplaced_gold_is_missed() -> None:
    reference, predicted = (Doc(NLP.vocab, words=list("abcd")) for _ in range(2))
    reference.spans["g"] = [Span(reference, 0, 3, "X"), Span(reference, 1, 2, "Y"), Span(reference, 0, 3, "X")]
    reference.spans["g"].attrs[UNPLACED] = [[6, 7, "Y"]]
    predicted.spans["h"] = [Span(predicted, 0, 3, "X"), Span(predicted, 1, 2, "Y")]
    scores = ner_score([Example(predicted, reference)], target_spans="g", output_spans="h", **SETTINGS)
    assert scores["spans_h_p"] == 1.0
    assert scores["spans_h_r"] == pytest.approx(2 / 3)
    assert not any(key.startswith("ents") for key in scores)


def test_unplaced_gold_is_missed_in_ents_too() -> None:
    one = example([(0, 1, "X")], [(0, 1, "X")], missing=(3, 5))
    one.reference.spans["entities"] = list(one.reference.ents)
    one.reference.spans["entities"].attrs[UNPLACED] = [[9, 17, "Y"]]
    scores = ner_score([one], **SETTINGS)
    assert (scores["ents_p"], scores["ents_r"]) == (1.0, 0.5)


def test_documents_without_annotation_are_left_out() -> None:
    bare = Example(NLP.make_doc("a b"), NLP.make_doc("a b"))
    assert ner_score([bare], **SETTINGS)["ents_f"] is None
    assert ner_score([bare], target_spans="g", output_spans="g", **SETTINGS)["spans_g_f"] is None
    both = ner_score([bare, example([(0, 1, "X")], [(0, 1, "X")])], **SETTINGS)
    assert both["ents_f"] == 1.0


def test_empty_cases() -> None:
    assert ner_score([example([], [])], **SETTINGS)["ents_f"] == 0.0
    assert ner_score([example([], [(0, 1, "X")])], **SETTINGS)["ents_p"] == 0.0
    assert ner_score([example([(0, 1, "X")], [])], **SETTINGS)["ents_r"] == 0.0


def test_white_space_at_the_ends_of_gold_does_not_count() -> None:
    reference, predicted = (Doc(NLP.vocab, words=["\n", "a", " "]) for _ in range(2))
    reference.spans["g"] = [Span(reference, 0, 3, "X")]
    predicted.spans["g"] = [Span(predicted, 1, 2, "X")]
    assert ner_score([Example(predicted, reference)], target_spans="g", output_spans="g", **SETTINGS)["spans_g_f"] == 1


def test_every_key_is_there_with_or_without_annotation() -> None:
    names = {
        f"{middle}{score}"
        for middle in (
            "", "macro_", "weighted_", "overlap_", "overlap_macro_", "overlap_weighted_", "boundaries_", "tokens_",
            "semeval_strict_", "semeval_exact_", "semeval_partial_", "semeval_type_",
        )
        for score in "prf"
    } | {"per_type", "overlap_per_type"}  # fmt: skip
    bare = Example(NLP.make_doc("a b"), NLP.make_doc("a b"))
    for examples in ([bare], [example([], [])], [example([(0, 1, "X")], [(0, 2, "Y")])], []):
        assert set(ner_score(examples, **SETTINGS)) == {f"ents_{name}" for name in names}
    assert set(ner_score([bare], target_spans="g", output_spans="g")) == {f"spans_g_{name}" for name in names}


def test_all_measures_by_hand() -> None:
    # w0 w1 … are of two characters, with a space between
    gold, predicted = [(0, 1, "X"), (2, 4, "X"), (5, 6, "Y"), (7, 8, "Y")], [(0, 1, "X"), (2, 3, "X"), (5, 6, "X")]
    scores = ner_score([example(gold, predicted)], **SETTINGS)

    def f(name: str) -> float:
        return pytest.approx(scores[f"ents_{name}_f"])

    assert scores["ents_f"] == pytest.approx(2 / 7)
    assert f("overlap") == 4 / 7
    assert f("boundaries") == 4 / 7
    # of five gold tokens and three predicted, two have the right label
    assert f("tokens") == 2 * 2 / (3 + 5)
    assert f("semeval_strict") == 2 / 7
    assert f("semeval_exact") == 4 / 7
    assert f("semeval_partial") == 2 * 2.5 / 7
    assert f("semeval_type") == 4 / 7
    assert (scores["ents_overlap_p"], scores["ents_overlap_r"]) == pytest.approx((2 / 3, 2 / 4))
    assert scores["ents_weighted_r"] == pytest.approx(0.5 * 1 / 2)


def test_settings_of_the_scorer_have_their_effect() -> None:
    # two of eleven characters, one of four tokens
    one = example([(0, 4, "X")], [(0, 1, "X")])
    found = {
        (unit, least): make_ner_scorer(unit, least)([one], **SETTINGS)["ents_overlap_f"]  # type: ignore[arg-type]
        for unit in ("characters", "tokens")
        for least in (0.0, 0.35, 0.4, 0.5)
    }
    assert found == {
        ("characters", 0.0): 1.0, ("characters", 0.35): 0.0, ("characters", 0.4): 0.0, ("characters", 0.5): 0.0,
        ("tokens", 0.0): 1.0, ("tokens", 0.35): 1.0, ("tokens", 0.4): 1.0, ("tokens", 0.5): 0.0,
    }  # fmt: skip
    with pytest.raises(ValueError, match='overlap_unit = "words"'):
        make_ner_scorer("words")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"min_overlap = 1\.5"):
        make_ner_scorer(min_overlap=1.5)


def test_any_score_can_choose_the_best_pipeline_and_settings_come_from_the_config(encoder: str) -> None:
    nlp = make_nlp(encoder, scorer={"@scorers": "spacy_crf_ner.ner_scorer.v1", "min_overlap": 0.0})
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    weights = {"ents_f": 0.25, "ents_overlap_f": 0.5, "ents_semeval_partial_r": 0.25}
    nlp.config["training"]["score_weights"] = weights
    for eg in examples:
        eg.predicted.ents = [Span(eg.predicted, s.start, s.start + 1, s.label_) for s in eg.reference.ents]
    scores = nlp.get_pipe("crf_ner").score(examples)
    assert scores["ents_f"] < scores["ents_overlap_f"] == 1.0
    assert all(scores[name] > 0 for name in weights)
    evaluated = nlp.evaluate(make_examples(nlp))
    assert set(scores) < set(evaluated)
    assert "speed" in evaluated
