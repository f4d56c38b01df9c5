import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc, Span, SpanGroup

from spacy_crf_ner.context import get_context
from spacy_crf_ner.corpora.document import Document, Entity
from spacy_crf_ner.corpora.files import CorpusError
from spacy_crf_ner.corpora.placing import Placing, to_doc
from spacy_crf_ner.corpora.readers import Standoff
from spacy_crf_ner.corpora.standoff import read_standoff
from spacy_crf_ner.evaluation.earlier import EarlierPredictions
from spacy_crf_ner.evaluation.evaluate import Data, Settings, evaluate, surfaces
from spacy_crf_ner.evaluation.matching import on_tokens
from spacy_crf_ner.evaluation.predicting import find_place
from spacy_crf_ner.evaluation.record import hash_of
from spacy_crf_ner.evaluation.report import report
from spacy_crf_ner.evaluation.scorers import ner_score

from ..conftest import make_examples, make_nlp

FEW = Settings(samples=20)


@Language.component("say_what_came_in")
def say_what_came_in(doc: Doc) -> Doc:
    """Returns whatever gold it can lay its hands on, as entities with probabilities."""
    spans = {(s.start, s.end, s.label_) for s in doc.ents}
    spans |= {(s.start, s.end, s.label_) for group in doc.spans.values() for s in group}
    spans |= {(t.i, t.i + 1, t.ent_type_) for t in doc if t.ent_type_}
    for key, value in doc.user_data.items():
        spans |= {(0, 1, label) for label in ("X", "Y") if f"'{label}'" in repr((key, value))}
    doc.spans["g"] = SpanGroup(doc, spans=[Span(doc, a, b, label=label) for a, b, label in sorted(spans)])
    doc.set_ents(spacy.util.filter_spans(list(doc.spans["g"])), default="outside")
    return doc


@Language.factory("fixed", default_config={"entities": [], "group": ""})
class Fixed:
    """Finds in every text the words that it was told to find, with the labels and probabilities that it was told."""

    def __init__(self, nlp: Language, name: str, entities: List[Any], group: str) -> None:
        self.entities = entities
        self.cfg = {"output_spans": group or "ents", "labels_given": False}
        self.scores_key = "scored"
        self.labels = tuple(label for _, label, _ in entities)

    def __call__(self, doc: Doc) -> Doc:
        found = []
        for text, label, probability in self.entities:
            at = doc.text.find(text)
            span = doc.char_span(at, at + len(text), label=label) if at >= 0 else None
            if span is not None:
                found.append((span, probability))
        found.sort(key=lambda item: item[0])
        spans, scores = [span for span, _ in found], [probability for _, probability in found]
        doc.spans["scored"] = SpanGroup(doc, spans=spans, attrs={"scores": scores})
        if self.cfg["output_spans"] == "ents":
            doc.ents = spacy.util.filter_spans(spans)
        else:
            doc.spans[self.cfg["output_spans"]] = spans
        return doc


def fixed(entities: List[Tuple[str, str, float]], group: str = "") -> Language:
    nlp = spacy.blank("en")
    nlp.add_pipe("fixed", config={"entities": [list(entity) for entity in entities], "group": group})
    return nlp


def document(text: str, *entities: Tuple[str, str], **more: Any) -> Document:
    """Entities as label and text; "a … b" is one in two parts."""
    made = []
    for number, (label, said) in enumerate(entities, start=1):
        parts = said.split(" … ")
        made.append(Entity(label, [(text.index(part), text.index(part) + len(part)) for part in parts], f"T{number}"))
    return Document(**{"id": "d", "text": text, "entities": made, **more})


def data(*documents: Document, name: str = "dev", form: str = "standoff") -> Data:
    return Data(name, "dev", form, "0", list(documents))


def micro(nlp: Language, *documents: Document, **settings: Any) -> Tuple[int, int, int]:
    evaluation, _ = evaluate(nlp, [data(*documents)], replace(FEW, **settings))
    found = evaluation.parts["dev"].characters.exact.micro
    return found.correct, found.predicted, found.gold


def write_brat(folder: Path, text: str, *lines: str) -> Path:
    folder.mkdir()
    (folder / "a.txt").write_text(text)
    (folder / "a.ann").write_text("".join(f"{line}\n" for line in lines))
    return folder


@pytest.mark.parametrize("tokens", ["model", "file"])
@pytest.mark.parametrize("output", ["ents", "g"])
def test_a_model_that_returns_its_input_scores_nothing(tokens: Any, output: str, tmp_path: Path) -> None:
    lines = [
        "T1\tX 0 5\tFever",
        "A1\tNegated T1",
        "#1\tAnnotatorNotes T1\tY",
        "T2\tY 6 11\ttoday",
        "T3\tX 0 11\tFever today",
    ]
    folder = write_brat(tmp_path / "a", "Fever today", *lines)
    nlp = spacy.blank("en")
    nlp.add_pipe("say_what_came_in")
    documents = list(read_standoff(folder))
    doc = to_doc(documents[0], nlp.make_doc, Placing())
    assert len(nlp(doc).ents) > 0  # it does find gold that is there
    documents[0].tokens = [(0, 5), (6, 11)]
    documents[0].data = {"'X'": "'Y'"}
    assert micro(nlp, *documents, tokens=tokens, output_spans=output) == (0, 0, 3)
    # what training and `nlp.evaluate` are given is as empty
    (example,) = Standoff(folder)(nlp)
    assert len(example.reference.ents) == 1
    assert len(nlp(example.predicted).ents) == 0


def test_gold_counts_by_the_characters_that_were_annotated() -> None:
    """Inside a token, in two parts, of white space, given twice, nested, and one that can be found."""
    text = "Bronchopneumonia, left and right lung, or fever \n today."
    gold = document(
        text,
        *[
            ("X", "pneumonia"),
            ("X", "left … lung"),
            ("X", "fever"),
            ("X", "fever"),
            ("Y", "fever \n today"),
            ("X", " \n "),
        ],
    )
    nlp = fixed([("Bronchopneumonia", "X", 0.5), ("left", "X", 0.5), ("fever", "X", 0.5)])
    evaluation, (row,) = evaluate(nlp, [data(gold)], FEW)
    part = evaluation.parts["dev"]
    exact, aligned = part.characters.exact.micro, part.aligned.exact.micro
    assert (exact.correct, exact.predicted, exact.gold) == (1, 3, 5)
    assert (part.gold, part.repeated) == (5, 1)
    assert {(e["id"], e["match"]) for e in row["gold"]} == {
        ("T1", "borders"), ("T2", "borders"), ("T3", "exact"), ("T5", "missed"), ("T6", "missed"),
    }  # fmt: skip
    assert next(e for e in row["gold"] if e["id"] == "T2")["fragments"] == [[18, 22], [33, 37]]
    # on tokens the first is what was found, and the fifth hides the third; each part of the second is missed, and what
    # was found on one of them does not count
    assert (aligned.correct, aligned.predicted, aligned.gold) == (1, 2, 5)


def test_aligned_scores_are_those_of_spacys_own_evaluation(tmp_path: Path, demo_writer: Any) -> None:
    demo_writer(tmp_path / "notes", 12, 3)
    known = [(d.text[e.start : e.end], e.label) for d in read_standoff(tmp_path / "notes") for e in d.entities[3:5]]
    nlp = fixed([(text, label, 0.9) for text, label in dict(known).items()])
    examples = list(Standoff(tmp_path / "notes")(nlp))
    for example in examples:
        example.predicted = nlp(example.predicted)
    theirs = ner_score(examples)
    evaluation, _ = evaluate(nlp, [data(*read_standoff(tmp_path / "notes"))], FEW)
    aligned = evaluation.parts["dev"].aligned
    for name in "prf":
        assert getattr(aligned.exact.micro, name) == theirs[f"ents_{name}"]
        assert getattr(aligned.exact.macro, name) == theirs[f"ents_macro_{name}"]
        assert getattr(aligned.overlap.weighted, name) == theirs[f"ents_overlap_weighted_{name}"]
        assert getattr(aligned.semeval["partial"], name) == theirs[f"ents_semeval_partial_{name}"]
    assert aligned.exact.micro.correct > 0


def test_what_is_in_a_line_of_predictions() -> None:
    gold = document("Fever in Lyon", ("X", "Fever"), ("Y", "Lyon"), group="g1", data={"site": "a"})
    nlp = fixed([("Fever", "X", 0.75), ("in Lyon", "Y", 0.5)])
    _, (row,) = evaluate(nlp, [data(gold)], FEW, seen={("X", "Fever")})
    assert row == {
        "part": "dev",
        "id": "d",
        "group": "g1",
        "data": {"site": "a"},
        "text": "Fever in Lyon",
        "gold": [
            {"start": 0, "end": 5, "label": "X", "id": "T1", "seen": True, "match": "exact", "with": 0},
            {"start": 9, "end": 13, "label": "Y", "id": "T2", "seen": False, "match": "borders", "with": 1},
        ],
        "predicted": [
            {"start": 0, "end": 5, "label": "X", "probability": 0.75, "seen": True, "match": "exact", "with": 0},
            {"start": 6, "end": 13, "label": "Y", "probability": 0.5, "seen": False, "match": "borders", "with": 1},
        ],
    }


def test_confusion_lengths_seen_and_attributes_by_hand() -> None:
    one = document("Fever in New York", ("X", "Fever"), ("Y", "New York"), data={"site": "a"}, id="1")
    two = document("Fever again", ("Y", "Fever"), data={"site": "b"}, id="2")
    nothing = document("Nothing", id="3")
    nlp = fixed([("Fever", "X", 1.0), ("again", "Z", 1.0)])
    settings = replace(FEW, by=("site",))
    train = [document("Fever and New  York", ("X", "Fever"), ("Y", "New  York"))]
    evaluation, _ = evaluate(nlp, [data(one, two, nothing)], settings, seen=surfaces(train))
    part = evaluation.parts["dev"]
    assert part.characters.confusion.labels == ["X", "Y", "Z"]
    assert part.characters.confusion.counts == [[1, 0, 0, 0], [1, 0, 0, 1], [0, 0, 0, 0], [0, 0, 1, 0]]

    def counts(scores: Dict[str, Any]) -> Dict[str, Tuple[int, int, int]]:
        return {name: (s.correct, s.predicted, s.gold) for name, s in scores.items()}

    assert counts(part.by_length) == {"1": (1, 3, 2), "2": (0, 0, 1)}
    # Y Fever is not in the training data, X Fever is
    assert counts(part.by_seen or {}) == {"seen": (1, 2, 2), "unseen": (0, 1, 1)}
    assert counts({k: g.exact for k, g in part.by_attribute["site"].items()}) == {
        "": (0, 0, 0), "a": (1, 1, 2), "b": (0, 2, 1),
    }  # fmt: skip
    assert [(row.id, row.exact, row.overlap) for row in part.per_document] == [
        ("1", (1, 1, 2), (1, 1, 2)), ("2", (0, 2, 1), (0, 2, 1)), ("3", (0, 0, 0), (0, 0, 0)),
    ]  # fmt: skip
    assert part.words == 7
    assert part.characters.semeval["type"].missed == 1


def test_context_is_of_the_same_source() -> None:
    texts = [("Fever in Lyon", "a"), ("No pain", "a"), ("Knee", "b"), ("Left", "")]
    documents = [document(text, id=text, data={"file": file}) for text, file in texts]
    nlp = spacy.blank("en")
    seen: List[Any] = []
    Language.component("say_context", func=lambda doc: seen.append(get_context(doc)) or doc)
    nlp.add_pipe("say_context")
    evaluate(nlp, [data(*documents)], replace(FEW, context=2))
    assert seen == [("", "No pain"), ("in Lyon", "Knee Left"), ("No pain", "Left"), ("pain Knee", "")]
    seen.clear()
    evaluate(nlp, [data(*documents)], replace(FEW, context=2, context_source="file"))
    assert seen == [("", "No pain"), ("in Lyon", ""), ("", ""), ("", "")]
    with pytest.raises(CorpusError, match="--context-source site: no document has it"):
        evaluate(nlp, [data(*documents)], replace(FEW, context=2, context_source="site"))


def test_documents_that_nobody_annotated_and_tokens_of_which_nothing_is_known() -> None:
    bare = document("Fever", annotated=False)
    partly = document("Fever in Lyon", tokens=[(0, 5), (6, 8), (9, 13)], unknown=[0])
    nlp = fixed([("Fever", "X", 1.0), ("Lyon", "X", 1.0)])
    evaluation, (row,) = evaluate(nlp, [data(bare, partly)], FEW)
    part = evaluation.parts["dev"]
    assert (part.documents, part.not_annotated, part.ignored) == (1, 1, 1)
    for scores in (part.characters, part.aligned):
        assert (scores.exact.micro.correct, scores.exact.micro.predicted, scores.exact.micro.gold) == (0, 1, 0)
    assert [e["match"] for e in row["predicted"]] == ["spurious", "ignored"]
    with pytest.raises(ValueError, match="none of its 1 documents is annotated"):
        evaluate(nlp, [data(bare)], FEW)


def test_tokens_of_the_file_or_of_the_pipeline() -> None:
    one = document("New-York", ("X", "New"), tokens=[(0, 3), (3, 8)])
    nlp = fixed([("New", "X", 1.0)])
    nlp.tokenizer = spacy.tokenizer.Tokenizer(nlp.vocab)  # cuts at white space only
    found = {}
    for form in ("columns", "spacy"):
        for tokens in ("auto", "file", "model"):
            evaluation, _ = evaluate(nlp, [data(one, form=form)], replace(FEW, tokens=tokens))
            found[form, tokens] = evaluation.parts["dev"].characters.exact.micro.correct
    assert found == {
        ("columns", "auto"): 1, ("columns", "file"): 1, ("columns", "model"): 0,
        ("spacy", "auto"): 0, ("spacy", "file"): 1, ("spacy", "model"): 0,
    }  # fmt: skip


def test_context_reaches_the_pipeline() -> None:
    from spacy_crf_ner.context import get_context

    seen: List[Tuple[str, str]] = []
    Language.component("note_context", func=lambda doc: seen.append(get_context(doc)) or doc)
    nlp = spacy.blank("en")
    nlp.add_pipe("note_context")
    documents = [document("One here.", id="1"), document("Two.", id="2")]
    evaluate(nlp, [data(*documents)], FEW)
    evaluate(nlp, [data(*documents)], replace(FEW, context=2))
    assert seen == [("", ""), ("", ""), ("", "Two."), ("here.", "")]


def test_where_predictions_are(trained: Language, encoder: str) -> None:
    assert find_place(trained).output == "ents"
    assert find_place(trained).scores_keys == ("crf_ner",)
    assert find_place(spacy.blank("en")).output == "ents"
    nlp = make_nlp(encoder, target_spans="entities", overlap=True)
    assert find_place(nlp).output == "entities"
    nlp.initialize(lambda: make_examples(nlp, "entities"))
    assert find_place(nlp).labels is None
    nlp.get_pipe("crf_ner").cfg["labels_given"] = True
    assert find_place(nlp).labels == ("DRUG", "PLACE", "PROBLEM")
    nlp.add_pipe("fixed", config={"group": "other"})
    with pytest.raises(ValueError, match="crf_ner writes to entities, fixed writes to other"):
        find_place(nlp)
    assert find_place(nlp, "other").scores_keys == ("scored",)


def test_gold_of_labels_that_were_not_given_is_left_out_and_counted() -> None:
    nlp = fixed([("Fever", "X", 1.0)])
    nlp.get_pipe("fixed").cfg["labels_given"] = True
    evaluation, _ = evaluate(nlp, [data(document("Fever in Lyon", ("X", "Fever"), ("Q", "Lyon")))], FEW)
    part = evaluation.parts["dev"]
    assert part.other_labels == {"Q": 1}
    assert (part.gold, part.characters.exact.micro.f, part.aligned.exact.micro.f) == (1, 1.0, 1.0)


def test_two_models() -> None:
    documents = [document("Fever in Lyon", ("X", "Fever"), ("Y", "Lyon"), id=str(i)) for i in range(8)]
    better, worse = fixed([("Fever", "X", 1.0), ("Lyon", "Y", 1.0)]), fixed([("Fever", "X", 1.0)])
    evaluation, _ = evaluate(better, [data(*documents)], FEW, other=worse, other_model={"name": "worse"})
    assert evaluation.comparison is not None
    assert evaluation.comparison.model == {"name": "worse"}
    compared = evaluation.comparison.parts["dev"]
    assert compared.found == {"both": 8, "first": 8, "other": 0, "neither": 0}
    assert compared.f["exact_micro"].difference == pytest.approx(1 - 2 / 3)
    assert compared.f["exact_macro"].difference == pytest.approx(0.5)
    # all 256 exchanges: only none and all of them are as far apart
    assert compared.f["exact_micro"].p_value == pytest.approx(2 / 256)
    assert compared.f["exact_micro"].exact
    assert compared.other_exact.correct == 8
    with pytest.raises(ValueError, match="--samples must be above 0"):
        evaluate(better, [data(*documents)], replace(FEW, samples=0), other=worse)


def test_predictions_of_the_other_model_stand_beside_those_of_the_first() -> None:
    """As its own evaluation has them, whichever of the two is the first."""
    text = "Fever in Lyon and Paris"
    gold = document(
        text, ("X", "Fever"), ("Y", "Lyon"), ("Y", "Paris"), tokens=[(0, 5), (6, 8), (9, 13), (14, 17), (18, 23)]
    )
    gold.unknown = [4]
    models = [fixed([("Fever", "X", 0.9), ("in Lyon", "Y", 0.4)]), fixed([("Lyon", "Y", 0.7), ("Paris", "Y", 0.6)])]
    rows = [evaluate(nlp, [data(gold)], FEW)[1] for nlp in models]
    assert all("other" not in row for (row,) in rows)
    for first, second in ((0, 1), (1, 0)):
        _, (row,) = evaluate(models[first], [data(gold)], FEW, other=models[second])
        assert row.pop("other") == rows[second][0]["predicted"]
        assert row == rows[first][0]
    assert [item["match"] for item in rows[1][0]["predicted"]] == ["exact", "ignored"]


def test_a_model_is_compared_with_what_was_predicted_before(tmp_path: Path) -> None:
    documents = [document("Fever in Lyon", ("X", "Fever … Lyon"), ("Y", "Lyon"), id=str(i)) for i in range(5)]
    parts = [data(*documents, name="dev"), data(*documents[:2], document("A", annotated=False), name="test")]
    first, other = fixed([("Fever", "X", 1.0), ("Lyon", "Y", 0.5)]), fixed([("Fever in Lyon", "X", 0.25)])
    at_once = evaluate(first, parts, FEW, other=other)
    path = tmp_path / "predictions.jsonl"
    _, rows = evaluate(other, parts, FEW)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert evaluate(first, parts, FEW, other=EarlierPredictions(path)) == at_once
    assert at_once[1][0]["other"][0]["probability"] == 0.25
    # entities in several parts, and models without probabilities
    rows[0]["predicted"][0] |= {"fragments": [[0, 5], [9, 13]], "probability": None}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    compared, found = evaluate(first, parts, FEW, other=EarlierPredictions(path))
    assert found[0]["other"] == [
        {
            "start": 0,
            "end": 13,
            "label": "X",
            "fragments": [[0, 5], [9, 13]],
            "probability": None,
            "match": "exact",
            "with": 0,
        }
    ]
    assert compared.comparison is not None
    assert compared.comparison.parts["dev"].found == {"both": 0, "first": 5, "other": 1, "neither": 4}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: [{**row, "part": "test"} for row in rows], "it has no part dev, but test"),
        (lambda rows: rows[:1], "of part dev it has 1 documents, and 2 are evaluated"),
        (lambda rows: [rows[0], {**rows[1], "text": "Other"}], "jsonl:2: where part dev has document b now"),
        (lambda rows: [{"text": "Fever"}], "jsonl:1: this is no line that crf-ner evaluate writes"),
        (lambda rows: [{**rows[0], "predicted": [{"start": 0}]}], "jsonl:1: this is no line"),
        (
            lambda rows: [rows[0], {**rows[1], "predicted": [{**rows[0]["predicted"][0], "end": 99}]}],
            "jsonl:2: this is",
        ),
        (lambda rows: [{**rows[0], "predicted": [{**rows[0]["predicted"][0], "fragments": []}]}], "jsonl:1: this is"),
    ],
)
def test_predictions_of_other_documents_are_an_error(change: Any, message: str, tmp_path: Path) -> None:
    documents = [document("Fever", ("X", "Fever"), id="a"), document("No fever", id="b")]
    nlp = fixed([("Fever", "X", 1.0)])
    _, rows = evaluate(nlp, [data(*documents)], FEW)
    path = tmp_path / "predictions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in change(rows)), encoding="utf-8")
    with pytest.raises(CorpusError, match=message):
        evaluate(nlp, [data(*documents)], FEW, other=EarlierPredictions(path))


def test_samples_without_gold_say_nothing_of_averages() -> None:
    """Of documents all but one of which have no entities, most samples have no score; the others all have the same."""
    documents = [document("Fever", ("X", "Fever"), id="a"), document("No", id="b"), document("No", id="c")]
    found = fixed([("Fever", "X", 1.0)])
    evaluation, _ = evaluate(found, [data(*documents)], FEW)
    scores = evaluation.parts["dev"].characters
    for rates in (scores.exact.micro, scores.exact.macro, scores.exact.weighted, *scores.semeval.values()):
        assert rates.intervals == {"p": (1.0, 1.0), "r": (1.0, 1.0), "f": (1.0, 1.0)}
    evaluation, _ = evaluate(found, [data(*documents[1:])], FEW)
    scores = evaluation.parts["dev"].characters
    for rates in (scores.exact.micro, scores.exact.macro, scores.exact.weighted, *scores.semeval.values()):
        assert (rates.f, rates.intervals) == (0.0, {"p": None, "r": None, "f": None})


def test_numbers_that_json_does_not_have_become_null() -> None:
    nlp = fixed([("Fever", "X", 0.5), ("Lyon", "X", 0.5)])
    nlp.get_pipe("fixed").entities[0][2] = float("nan")
    one = document("Fever in Lyon", ("X", "Fever"), data={"x": [float("inf"), 1.5], "y": {"z": float("nan")}})
    evaluation, rows = evaluate(nlp, [data(one)], FEW)
    assert [item["probability"] for item in rows[0]["predicted"]] == [None, 0.5]
    assert rows[0]["data"] == {"x": [None, 1.5], "y": {"z": None}}
    assert "null" in report(json.loads(json.dumps(evaluation.as_dict(), allow_nan=False)), rows)


def test_time_grows_with_a_document_and_not_with_its_square(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens of a document are gone through once, not for each of its entities."""
    calls: List[int] = []

    def counted(found: Any, tokens: Any) -> Any:
        calls.append(len(found))
        return on_tokens(found, tokens)

    monkeypatch.setattr("spacy_crf_ner.evaluation.evaluate.on_tokens", counted)
    words = [f"w{number}" for number in range(50)]
    one = document(" ".join(words), *[("X", f"{word} ") for word in words[:-1]])
    evaluate(fixed([("w1", "X", 1.0)]), [data(one)], FEW)
    assert calls == [49]


def test_hashes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"1")
    assert hash_of(tmp_path / "a" / "x") == hashlib.sha256(b"1").hexdigest()
    before = hash_of(tmp_path / "a")
    (tmp_path / "a" / ".hidden").write_bytes(b"2")
    assert hash_of(tmp_path / "a") == before
    (tmp_path / "a" / "x").rename(tmp_path / "a" / "y")
    assert hash_of(tmp_path / "a") != before


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tokens": "mine"}, "--tokens mine"),
        ({"samples": -1}, "--samples -1"),
        ({"context": -1}, "--context -1"),
        ({"context_source": "file"}, "--context-source"),
        ({"level": 1.5}, "--level 1.5"),
        ({"exchanges": 0}, "--exchanges 0"),
    ],
)
def test_settings_out_of_range(wrong: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**wrong)


def test_a_pipeline_that_changes_texts_or_drops_documents_is_an_error() -> None:
    Language.component("another_text", func=lambda doc: Doc(doc.vocab, words=["other"]))
    nlp = spacy.blank("en")
    nlp.add_pipe("another_text")
    with pytest.raises(ValueError, match="another text than it was given"):
        evaluate(nlp, [data(document("Fever"))], FEW)


def test_metrics_are_json_and_do_not_depend_on_the_run() -> None:
    documents = [document("Fever in Lyon", ("X", "Fever"), ("Y", "Lyon"), id=str(i)) for i in range(3)]
    nlp = fixed([("Fever", "X", 1.0)])
    texts = {json.dumps(evaluate(nlp, [data(*documents)], FEW)[0].as_dict(), allow_nan=False) for _ in range(2)}
    (text,) = texts
    found: Optional[Any] = json.loads(text)
    assert found is not None
    assert found["parts"]["dev"]["characters"]["exact"]["micro"]["r"] == 0.5
    assert found["format"] == "spacy_crf_ner.metrics.v1"
