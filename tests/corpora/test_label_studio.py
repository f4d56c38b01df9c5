"""Label Studio's exports are read as they are meant, what is wrong is counted, and what was read is written back."""

import csv
import gzip
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Dict, List, Sequence

import pytest
import spacy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spacy.tokens import DocBin
from spacy.util import registry

from spacy_crf_ner.corpora.document import Document, Entity, Link
from spacy_crf_ner.corpora.files import CorpusError
from spacy_crf_ner.corpora.formats import detect
from spacy_crf_ner.corpora.json_stream import json_values
from spacy_crf_ner.corpora.label_studio import LabelStudio, read_label_studio, write_label_studio
from spacy_crf_ner.corpora.label_studio.labelling import read_configuration
from spacy_crf_ner.corpora.offsets import Offsets
from spacy_crf_ner.corpora.placing import from_doc, to_doc

from ..conftest import corpus

TEXT = "Fever 😀 in Lyon.\r\nNo pain"
NLP = spacy.blank("en")


def region(start: int, end: int, labels: Sequence[str] = ("X",), id: str = "a", **more: Any) -> Dict[str, Any]:
    value = {"start": start, "end": end, "labels": [*labels], "text": TEXT[start:end], **more.pop("value", {})}
    value = {k: v for k, v in value.items() if v is not None}
    return {"id": id, "from_name": "label", "to_name": "text", "type": "labels", "value": value, **more}


def task(*results: Any, id: Any = 1, data: Any = None, **more: Any) -> Dict[str, Any]:
    annotation = {"id": 5, "completed_by": 2, "result": [*results], "was_cancelled": False}
    return {"id": id, "data": data or {"text": TEXT, "source": "x"}, "annotations": [annotation], **more}


def read(path: Path, tasks: Any, **said: Any) -> List[Document]:
    path.write_text(json.dumps(tasks))
    return list(read_label_studio(path, settings=LabelStudio(**said)))


def found(document: Document) -> List[tuple]:
    return [(e.label, *e.fragments[0]) for e in document.entities]


def kinds(documents: Sequence[Document]) -> List[str]:
    return [problem.kind for document in documents for problem in document.problems]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.json"


# Forms of export


def forms(tmp_path: Path) -> Dict[str, Path]:
    """The same annotation of the same text in each form in which it can come."""
    results = [region(0, 5, ["A"]), region(11, 15, ["B", "C"], "b")]
    whole = task(*results)
    said = {"annotator": 2, "annotation_id": 5, "created_at": "2024", "lead_time": 1.5}
    least = {**whole["data"], "id": 1, "label": [result["value"] for result in results], **said}
    old = {"id": 1, "data": whole["data"], "completions": whole["annotations"]}
    stored = {**whole["annotations"][0], "task": {"id": 1, "data": whole["data"]}}
    made = {name: tmp_path / f"{name}.txt" for name in ("json", "min", "old", "one", "lines", "csv", "tsv")}
    made["json"].write_text(json.dumps([whole]))
    made["min"].write_text("\ufeff" + json.dumps([least], indent=2))
    made["old"].write_text(json.dumps([old]))
    made["one"].write_text(json.dumps(whole))
    made["lines"].write_text(json.dumps(whole) + "\n")
    for name, delimiter in (("csv", ","), ("tsv", "\t")):
        with made[name].open("w", newline="") as file:
            row = {**least, "label": json.dumps(least["label"])}
            rows = csv.DictWriter(file, sorted(row), delimiter=delimiter, quoting=csv.QUOTE_NONNUMERIC)
            rows.writeheader()
            rows.writerow(row)
    made["target"] = tmp_path / "target"
    made["target"].mkdir()
    (made["target"] / "5").write_text(json.dumps(stored))
    made["gz"] = tmp_path / "x.gz"
    made["gz"].write_bytes(gzip.compress(made["json"].read_bytes()))
    made["zip"] = tmp_path / "x.zip"
    with zipfile.ZipFile(made["zip"], "w") as archive:
        archive.write(made["min"], "a/b.txt")
        archive.writestr("config.xml", "<View/>")
    return made


def test_all_forms_say_the_same_and_are_recognised_by_what_is_in_them(tmp_path: Path) -> None:
    for name, path in forms(tmp_path).items():
        (document,) = read_label_studio(path)
        assert detect(path) == "label_studio", name
        assert (document.id, document.text, document.data["source"]) == ("1", TEXT, "x"), name
        assert found(document) == [("A", 0, 5), ("B", 11, 15), ("C", 11, 15)], name
        assert {entity.origin for entity in document.entities} == {"2"}, name
        assert not document.problems, name


def test_annotations_in_files_of_their_own_come_together_by_task(tmp_path: Path) -> None:
    for number, (of, end) in enumerate([(1, 5), (2, 5), (1, 3)]):
        annotation = {"id": number, "completed_by": number, "result": [region(0, end)], "task": task(id=of)}
        del annotation["task"]["annotations"]
        (tmp_path / f"{number}.json").write_text(json.dumps(annotation))
    documents = list(read_label_studio(tmp_path, settings=LabelStudio(annotators="all")))
    assert [(document.id, found(document)) for document in documents] == [
        ("1", [("X", 0, 5), ("X", 0, 3)]),
        ("2", [("X", 0, 5)]),
    ]


def test_rows_of_one_task_come_together(path: Path) -> None:
    row = {"id": 7, "text": TEXT, "annotation_id": 1, "annotator": "a@b.c", "lead_time": 1}
    rows = [{**row, "label": [region(0, end)["value"]], "annotator": str(end)} for end in (5, 3, 5)]
    (document,) = read(path, [*rows], annotators="majority")
    assert found(document) == [("X", 0, 5)]
    assert document.entities[0].origin == "majority of 3"


def test_a_large_file_is_read_a_task_at_a_time(tmp_path: Path) -> None:
    class Counting:
        def __init__(self) -> None:
            self.read_so_far = 0
            self.text = json.dumps([task(data={"text": "x" * 100_000}, id=n) for n in range(100)])

        def read(self, size: int = -1) -> str:
            part = self.text[self.read_so_far : self.read_so_far + size]
            self.read_so_far += len(part)
            return part

    file = Counting()
    for number, found in enumerate(json_values(file, "x"), start=1):
        assert found.value["id"] == number - 1
        assert file.read_so_far <= number * 100_300 + 2**18


# Annotators and models


def annotated(*said: Any) -> Dict[str, Any]:
    """A task with annotations of (annotator, ends of entities, more)."""
    annotations = [
        {"id": n, "completed_by": who, "result": [region(0, end, id=f"r{end}") for end in ends], **more}
        for n, (who, ends, more) in enumerate(said)
    ]
    return {"id": 1, "data": {"text": TEXT}, "annotations": annotations}


def test_who_counts(path: Path) -> None:
    said = annotated(
        (1, [5, 3], {"created_at": "2024-02-01"}),
        ({"id": 9, "email": "x@y.z"}, [5, 4], {"created_at": "2024-01-01"}),
        (3, [5, 4, 3], {"created_at": "2024-03-01"}),
        (4, [2], {"was_cancelled": True}),
    )
    ends = {way: read(path, [said], annotators=way)[0] for way in ("first", "all", "majority")}
    assert {way: [entity.end for entity in document.entities] for way, document in ends.items()} == {
        "first": [5, 4],
        "all": [5, 3, 5, 4, 5, 4, 3],
        "majority": [5, 3, 4],
    }
    assert [entity.origin for entity in ends["all"].entities] == ["1", "1", "x@y.z", "x@y.z", "3", "3", "3"]
    assert len({entity.id for entity in ends["all"].entities}) == 7
    assert kinds([ends["first"]]) == ["cancelled annotation", "further annotation"]
    said["annotations"][2]["ground_truth"] = True
    assert [entity.origin for entity in read(path, [said])[0].entities] == ["3"] * 3


def test_a_task_without_annotation_is_not_annotated_and_one_without_entities_is(path: Path) -> None:
    documents = read(path, [annotated(), annotated((1, [], {})), annotated((1, [5], {"was_cancelled": True}))])
    assert [document.annotated for document in documents] == [False, True, False]
    assert [document.id for document in documents] == ["1", "1-2", "1-3"]


def test_predictions(path: Path) -> None:
    models = [
        {"model_version": "m2", "score": 0.5, "created_at": "2", "result": [region(0, 5, score=0.9)]},
        {"model_version": "m1", "created_at": "1", "result": [region(0, 3)]},
    ]
    tasks = [{**annotated((1, [2], {})), "predictions": models}, {**annotated(), "id": 2, "predictions": models}]
    made = {way: read(path, tasks, predictions=way) for way in ("none", "missing", "all")}
    said = {way: [[(e.end, e.origin) for e in d.entities] for d in documents] for way, documents in made.items()}
    assert said["none"] == [[(2, "1")], []]
    assert said["missing"] == [[(2, "1")], [(5, "m2")]]
    assert said["all"] == [[(2, "1"), (3, "m1"), (5, "m2")], [(3, "m1"), (5, "m2")]]
    assert made["missing"][1].entities[0].score == 0.9


# Offsets

# behind the emoji, in UTF-16 units
QUOTED = region(22, 26, id="c", value={"text": "pain"})


@pytest.mark.parametrize(
    ("results", "where", "remark"),
    [
        ([region(11, 15)], [(11, 15)], []),
        ([region(12, 16, value={"text": "Lyon"})], [(11, 15)], ["offsets in UTF-16 units"]),
        ([region(6, 8, value={"text": "😀"})], [(6, 7)], ["offsets in UTF-16 units"]),
        # one of three, in another way
        ([region(0, 5), region(11, 15, id="b"), QUOTED], [(0, 5), (11, 15), (21, 25)], ["offsets repaired"]),
        # the line end counts once; the last character counts
        ([region(20, 24, value={"text": "pain"})], [(21, 25)], ["offsets repaired"]),
        ([region(11, 14, value={"text": "Lyon"})], [(11, 15)], ["offsets repaired"]),
        # line ends as Label Studio quotes them
        ([region(11, 19, value={"text": r"Lyon.\n\nN"})], [(11, 19)], []),
        ([region(3, 7, value={"text": "Lyon"})], [(11, 15)], ["offsets repaired"]),
        ([region(3, 4, value={"text": "n"})], [], ["text that differs"]),
        ([region(0, 5, value={"text": "Paris"})], [], ["text that differs"]),
        ([region(11, 15, value={"text": None})], [(11, 15)], ["offsets that nothing checks"]),
        ([region(0, 99, value={"text": None})], [], ["offsets out of range"]),
        ([region(5, 5, value={"text": None})], [], ["empty or reversed"]),
    ],
)
def test_offsets_are_checked_against_what_results_quote(
    path: Path, results: List[Any], where: List[Any], remark: List[str]
) -> None:
    (document,) = read(path, [task(*results)])
    assert [entity.fragments[0] for entity in document.entities] == where
    assert kinds([document]) == remark


def test_how_offsets_count_can_be_said(path: Path) -> None:
    bare = [region(12, 16, value={"text": None})]
    (document,) = read(path, [task(*bare)], offsets="utf-16")
    assert found(document) == [("X", 11, 15)]
    assert not document.problems


@given(st.text(st.characters(codec="utf-8"), min_size=1), st.data())
@settings(max_examples=300, deadline=None)
def test_utf_16_offsets_are_those_of_an_encoder(text: str, data: Any) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    offsets = Offsets(text)
    units = [len(text[:i].encode("utf-16-le")) // 2 for i in (start, end)]
    assert offsets.span(*units, "utf-16") == (start, end)
    assert [offsets.counted(i, "utf-16") for i in (start, end)] == units
    assert offsets.says((start, end), text[start:end])


# What else results say


def test_what_is_said_of_regions_and_tasks(path: Path) -> None:
    place = {"start": 0, "end": 5, "text": "Fever"}
    results = [
        region(0, 5, ["A", "B"], meta={"text": ["sure"]}, score=0.5),
        region(11, 15, id="b"),
        {"id": "a", "from_name": "sure", "to_name": "text", "type": "choices", "value": {**place, "choices": ["no"]}},
        {"id": "a", "from_name": "why", "to_name": "text", "type": "textarea", "value": {**place, "text": ["x", "y"]}},
        {"id": "a", "from_name": "stars", "to_name": "text", "type": "rating", "value": {**place, "rating": 4}},
        {"id": "t", "from_name": "mood", "to_name": "text", "type": "choices", "value": {"choices": ["good"]}},
        {"id": "u", "from_name": "source", "to_name": "text", "type": "choices", "value": {"choices": ["p", "q"]}},
        {"type": "relation", "from_id": "a", "to_id": "b", "direction": "left", "labels": ["in", "of"]},
        {"type": "relation", "from_id": "a", "to_id": "gone", "direction": "right"},
    ]
    (document,) = read(path, [task(*results)])
    first, second, _ = document.entities
    assert first.attributes == second.attributes == {"sure": "no", "why": ["x", "y"], "stars": 4}
    assert (first.notes, first.score, first.id, second.id) == (["sure"], 0.5, "a", "a#2")
    assert document.data["mood"] == "good"
    assert (document.data["source"], document.data["source_result"]) == ("x", ["p", "q"])
    ends = [("Arg1", "a"), ("Arg2", "b")]
    assert document.links == [Link("relation", n, ends, attributes={"direction": "left"}) for n in ("in", "of")]
    assert kinds([document]) == ["target that is not there"]


def test_several_texts_are_documents_of_one_group(path: Path, tmp_path: Path) -> None:
    data = {"title": "Lyon 😀", "body": "In Lyon", "n": 3}
    results = [
        region(0, 4, to_name="t", value={"text": "Lyon"}),
        region(3, 7, id="b", to_name="b", value={"text": "Lyon"}),
    ]
    (tmp_path / "c.xml").write_text(
        '<View><Text name="t" value="$title"/><Text name="b" value="$body"/>'
        '<Labels name="label" toName="t,b"><Label value="X"/></Labels></View>'
    )
    for said in ({"configuration": tmp_path / "c.xml"}, {}):
        documents = read(path, [task(*results, data=data)], **said)
        if said:
            assert [(d.id, d.text, d.group) for d in documents] == [
                ("1-title", "Lyon 😀", "1"),
                ("1-body", "In Lyon", "1"),
            ]
            assert all(document.data["n"] == 3 and "title" not in document.data for document in documents)
        assert [e.fragments[0] for d in documents for e in d.entities] in ([(0, 4), (3, 7)],) or not said
    (document,) = read(path, [task(*results, data=data)], configuration=tmp_path / "c.xml", text="body")
    assert (document.id, found(document)) == ("1", [("X", 3, 7)])


def test_regions_of_html_are_counted_where_the_text_is_not_plain(path: Path) -> None:
    where = {"start": "/p[1]/text()[1]", "end": "/p[1]/text()[1]", "startOffset": 0, "endOffset": 5}
    value = {**where, "globalOffsets": {"start": 0, "end": 5}, "text": "Fever", "hypertextlabels": ["X"]}
    result = {"id": "h", "from_name": "label", "to_name": "text", "type": "hypertextlabels", "value": value}
    plain, html = read(path, [task(result), task(result, id=2, data={"text": "<p>Fever</p>"})])
    assert found(plain) == [("X", 0, 5)]
    assert (html.entities, kinds([html]), html.unread) == ([], ["region of HTML"], 1)


def test_what_is_malformed_is_counted_and_the_rest_goes_on(path: Path) -> None:
    bad = [
        3,
        {"id": "x"},
        region(0, 5, [], id="n"),
        region(0, 5, value={"start": "a"}),
        {"type": "rectanglelabels", "value": {"x": 1, "rectanglelabels": ["X"]}},
    ]
    documents = read(path, [7, task(id=2, data={"no": 5}), task(*bad, region(0, 5)), {"id": 9, "data": []}])
    assert [(document.id, found(document)) for document in documents] == [
        ("1", [("X", 0, 5)]),
    ]
    assert kinds(documents) == [
        "malformed task",
        "task without text",
        "malformed result",
        "region without a label",
        "malformed result",
        "region that is not of text",
        "malformed task",
    ]
    assert documents[0].problems[2].where == f"{path}, task 1"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"id": 1, "data"', "it is not JSON"),
        ("[" * 5000, "nested too deeply"),
        ("Dear diary", "it is no export of Label Studio"),
        ("[3, 4]", "No task could be read"),
        ("", "it is no export of Label Studio"),
    ],
)
def test_what_is_no_export_is_told(path: Path, content: str, message: str) -> None:
    path.write_text(content)
    with pytest.raises(CorpusError, match=message):
        list(read_label_studio(path))


@pytest.mark.parametrize("setting", [{"annotators": "some"}, {"predictions": "yes"}, {"offsets": "bytes"}])
def test_settings_are_checked(setting: Dict[str, str]) -> None:
    with pytest.raises(CorpusError, match="is not one of"):
        LabelStudio(**setting)


def test_it_is_a_corpus(path: Path) -> None:
    path.write_text(json.dumps([task(region(0, 5)), task(region(12, 16, value={"text": "Lyon"}), id=2)]))
    reader = registry.get("readers", "spacy_crf_ner.LabelStudio.v1")
    examples = list(reader(path)(NLP))
    assert [[e.text for e in example.reference.ents] for example in examples] == [["Fever"], ["Lyon"]]
    with pytest.raises(CorpusError, match="is not one of"):
        reader(path, annotators="some")


# Writing


TEXTS = st.text(st.sampled_from("ab é😀👨\n\r\t𝔸<&"), min_size=4, max_size=30)
NAMES = st.text("abcXYZ019_-", min_size=10, max_size=10)


@st.composite
def exports(draw: Any) -> Dict[str, Any]:
    """A task as Label Studio exports it: several texts, nested regions, several labels, attributes, relations."""
    data = {key: draw(TEXTS) for key in draw(st.sampled_from([["text"], ["title", "body"]]))}
    results: List[Dict[str, Any]] = []
    for id in draw(st.lists(NAMES, unique=True, max_size=6)):
        key = draw(st.sampled_from([*data]))
        start = draw(st.integers(0, len(data[key]) - 1))
        end = draw(st.integers(start + 1, len(data[key])))
        quoted = data[key][start:end].replace("\n", "\\n").replace("\r", "\\n")
        place = {"start": start, "end": end, "text": quoted}
        head = {"id": id, "to_name": key, "origin": draw(st.sampled_from(["manual", "prediction-changed"]))}
        control, labels = draw(st.sampled_from([("one", "AB"), ("two", "CD")]))
        value = {**place, "labels": draw(st.lists(st.sampled_from(labels), min_size=1, max_size=2, unique=True))}
        main = {**head, "from_name": control, "type": "labels", "value": value}
        for name, said in (("score", 0.5), ("meta", {"text": ["note 😀"]}), ("readonly", True), ("parentID", "zzz")):
            main.update({name: said} if draw(st.booleans()) else {})
        results.append(main)
        for name, kind, said in (
            ("why", "textarea", ["x"]),
            ("sure", "choices", ["no", "yes"]),
            ("stars", "rating", 3),
        ):
            if draw(st.booleans()):
                about = {**place, "text" if kind == "textarea" else kind: said}
                results.append({**head, "from_name": name, "type": kind, "value": about})
    ids = [result["id"] for result in results if result["type"] == "labels"]
    pairs = [(one, other) for one in ids for other in ids if one != other]
    for one, other in draw(st.lists(st.sampled_from(pairs), max_size=3, unique=True)) if pairs else []:
        labels = draw(st.lists(st.sampled_from("pq"), max_size=2, unique=True))
        direction = draw(st.sampled_from(["right", "left", "bi"]))
        relation = {"from_id": one, "to_id": other, "type": "relation", "direction": direction}
        results.append({**relation, **({"labels": labels} if labels else {})})
    if draw(st.booleans()):
        said = {"id": "mood", "from_name": "mood", "to_name": next(iter(data)), "type": "choices", "origin": "manual"}
        results.append({**said, "value": {"choices": ["good"]}})
    annotation = {"id": 1, "completed_by": 1, "result": results}
    return {"id": draw(st.integers(1, 99)), "data": {**data, "more": [1, {"x": "y"}]}, "annotations": [annotation]}


def canonical(results: Sequence[Dict[str, Any]]) -> List[str]:
    return sorted(json.dumps(result, sort_keys=True) for result in results)


def through_spacy(document: Document) -> Document:
    binary = DocBin(docs=[to_doc(document, NLP.make_doc)], store_user_data=True)
    (doc,) = DocBin(store_user_data=True).from_bytes(binary.to_bytes()).get_docs(NLP.vocab)
    return from_doc(doc)


@given(st.lists(exports(), min_size=1, max_size=3, unique_by=lambda made: made["id"]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_read_gives_the_same_results(tmp_path: Path, tasks: List[Dict[str, Any]]) -> None:
    source, target, again = (tmp_path / f"{name}.json" for name in "abc")
    source.write_text(json.dumps(tasks))
    documents = list(read_label_studio(source))
    assert not [problem for document in documents for problem in document.problems if problem.lost]
    list(write_label_studio(documents, target, LabelStudio(as_annotations=True)))
    written = json.loads(target.read_text())
    assert [made["id"] for made in written] == [made["id"] for made in tasks]
    for old, new in zip(tasks, written):
        (annotation,) = new["annotations"]
        assert canonical(annotation["result"]) == canonical(old["annotations"][0]["result"])
        used = {r["to_name"] for r in annotation["result"] if "to_name" in r} or {"text"}
        assert {k: v for k, v in old["data"].items() if k in used | {"more"}} == {
            k: v for k, v in new["data"].items() if k in used | {"more"}
        }
    # and the configuration names every tag and label that results have
    made = read_configuration(target.with_suffix(".xml")) if any(d.entities for d in documents) else None
    for result in (r for new in written for r in new["annotations"][0]["result"] if "from_name" in r and made):
        control = made.controls[result["from_name"]]
        assert control.type == result["type"]
        assert result["to_name"] in control.to_names
        assert control.values is None or set(result["value"].get(control.type, ())) <= control.values
    list(write_label_studio(read_label_studio(target), again, LabelStudio(as_annotations=True)))
    assert json.loads(again.read_text()) == written


def test_spacys_file_keeps_what_is_needed_to_write_it_back(path: Path, tmp_path: Path) -> None:
    results = [
        region(0, 5, ["A", "B"], origin="prediction"),
        region(11, 15, id="b", from_name="two", meta={"text": ["n"]}),
    ]
    results.append({"type": "relation", "from_id": "a", "to_id": "b", "direction": "right", "labels": ["in"]})
    documents = read(path, [task(*results)])
    for document in documents, [through_spacy(document) for document in documents]:
        list(write_label_studio(document, tmp_path / "o.json", LabelStudio(as_annotations=True)))
        (written,) = json.loads((tmp_path / "o.json").read_text())
        assert canonical(written["annotations"][0]["result"]) == canonical(results)
        assert written["data"] == {"text": TEXT, "source": "x"}


def test_predictions_have_scores_and_versions(tmp_path: Path) -> None:
    entities = [Entity("A", [(0, 5)], score=0.5), Entity("B", [(11, 15)], score=1.0), Entity("B", [(6, 7)], origin="m")]
    list(write_label_studio([Document("d", TEXT, entities, group="g")], tmp_path / "o.json"))
    (written,) = json.loads((tmp_path / "o.json").read_text())
    assert written["data"] == {"document_id": "d", "group": "g", "text": TEXT}
    ours, other = written["predictions"]
    assert (ours["model_version"], ours["score"], other["model_version"], "score" in other) == (
        "spacy_crf_ner",
        0.75,
        "m",
        False,
    )
    assert [(r["value"], r["score"]) for r in ours["result"]] == [
        ({"start": 0, "end": 5, "text": "Fever", "labels": ["A"]}, 0.5),
        ({"start": 11, "end": 15, "text": "Lyon", "labels": ["B"]}, 1.0),
    ]
    list(write_label_studio([Document("d", TEXT, entities)], tmp_path / "o.json", LabelStudio(offsets="utf-16")))
    (written,) = json.loads((tmp_path / "o.json").read_text())
    assert [r["value"]["start"] for p in written["predictions"] for r in p["result"]] == [0, 12, 6]


def test_a_given_configuration_is_kept_to(tmp_path: Path) -> None:
    config = tmp_path / "c.xml"
    config.write_text(
        '<View><Labels name="tags" toName="note"><Label value="A"/><Label value="alias" alias="B"/></Labels>'
        '<Text name="note" value="$content"/></View>'
    )
    entities = [Entity("A", [(0, 5)], attributes={"x": 1}), Entity("B", [(11, 15)]), Entity("C", [(6, 7)])]
    document = Document("d", TEXT, entities, source="s")
    list(write_label_studio([document], tmp_path / "o.json", LabelStudio(configuration=config)))
    (written,) = json.loads((tmp_path / "o.json").read_text())
    assert written["data"]["content"] == TEXT
    names = [(r["from_name"], r["to_name"], r["value"]["labels"]) for r in written["predictions"][0]["result"]]
    assert names == [("tags", "note", ["A"]), ("tags", "note", ["B"])]
    assert kinds([document]) == ["attribute that cannot be written", "label that the configuration lacks"]
    assert (len(document.entities), document.unread) == (2, 1)
    assert not (tmp_path / "o.xml").exists()
    with pytest.raises(CorpusError, match="--to-name"):
        list(write_label_studio([document], tmp_path / "o.json", LabelStudio(configuration=config, to_name="z")))
    config.write_text("<View/>")
    with pytest.raises(CorpusError, match="labels no text"):
        list(write_label_studio([document], tmp_path / "o.json", LabelStudio(configuration=config)))


@pytest.mark.parametrize(
    "file", ["ls_dutch_biographies/testing_ls_full.json", "ls_norwegian_nerine/label_studio_export.json"]
)
def test_real_exports_come_back(file: str, tmp_path: Path) -> None:
    source = corpus(*file.split("/"))
    documents = list(read_label_studio(source))
    assert not [problem for document in documents for problem in document.problems]
    list(write_label_studio(documents, tmp_path / "o.json", LabelStudio(as_annotations=True)))
    written = json.loads((tmp_path / "o.json").read_text())
    for old, new in zip(json.loads(source.read_text()), written):
        assert old["data"] == new["data"]
        assert canonical(new["annotations"][0]["result"]) == canonical(old["annotations"][0]["result"])


# Fuzz


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**30),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


def mutated(draw: Any, value: Any) -> Any:
    """The value with one thing in it changed, gone, or twice."""
    if isinstance(value, (dict, list)) and value and draw(st.integers(0, 29)):
        copy = value.copy()
        key = draw(st.sampled_from([*value] if isinstance(value, dict) else range(len(value))))
        way = draw(st.integers(0, 29))
        if way == 0:
            del copy[key]
        elif way == 1 and isinstance(copy, list):
            copy.append(copy[key])
        elif way == 1:
            copy[draw(st.sampled_from(["text", "start", "result", "labels", "id"]))] = copy[key]
        else:
            copy[key] = mutated(draw, copy[key])
        return copy
    return draw(JSON)


def rich() -> Dict[str, Any]:
    """A task with something of everything that is read."""
    place = {"start": 0, "end": 5, "text": "Fever"}
    page = {"start": "/text()[1]", "end": "/text()[1]", "startOffset": 0, "endOffset": 5, "text": "Fever"}
    results = [
        region(0, 5, ["A", "B"], meta={"text": ["sure"]}, score=0.5, origin="manual"),
        region(12, 16, id="b", value={"text": "Lyon"}),
        region(21, 25, id="c", to_name="title", value={"text": "Lyon", "start": 0, "end": 4}),
        {**region(0, 5, id="d"), "type": "hypertextlabels", "value": {**page, "hypertextlabels": ["X"]}},
        {"id": "a", "from_name": "sure", "to_name": "text", "type": "choices", "value": {**place, "choices": ["no"]}},
        {"id": "a", "from_name": "why", "to_name": "text", "type": "textarea", "value": {**place, "text": ["x", "y"]}},
        {"id": "t", "from_name": "mood", "to_name": "text", "type": "choices", "value": {"choices": ["good"]}},
        {"type": "relation", "from_id": "a", "to_id": "b", "direction": "left", "labels": ["in", "of"]},
        {"type": "relation", "from_id": "a", "to_id": "c"},
    ]
    made = task(*results, data={"text": TEXT, "title": "Lyon", "more": [1, {"x": "y"}]})
    second = {"id": 6, "completed_by": {"email": "a@b.c"}, "created_at": 3, "result": results[:2]}
    return {**made, "annotations": made["annotations"] + [second]}


@st.composite
def broken(draw: Any) -> str:
    made: Any = [rich()]
    form = draw(st.integers(0, 3))
    if form == 1:
        regions = [r["value"] for r in made[0]["annotations"][0]["result"] if "value" in r]
        made = [{"id": 1, **made[0]["data"], "label": regions[:4], "annotation_id": 1, "annotator": 2, "lead_time": 1}]
    elif form == 2:
        made = {**made[0]["annotations"][0], "task": {"id": 1, "data": made[0]["data"]}}
    elif form == 3:
        made[0]["predictions"] = made[0]["annotations"]
    for _ in range(draw(st.integers(1, 4))):
        made = mutated(draw, made)
    text = json.dumps(made)
    if not draw(st.integers(0, 9)):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.text('[]{},:"\\ud8', max_size=3)) + text[at + draw(st.integers(0, 5)) :]
    return text


def fuzz(tmp_path: Path, text: str, way: int) -> None:
    (tmp_path / "x.json").write_text(text)
    said = LabelStudio(
        annotators=("first", "all", "majority")[way % 3], predictions="all", as_annotations=bool(way % 2)
    )
    try:
        documents = list(read_label_studio(tmp_path / "x.json", settings=said))
    except CorpusError as error:
        if "x.json" not in str(error):
            raise
        return
    for document in documents:
        assert all(0 <= e.start < e.end <= len(document.text) for e in document.entities)
        assert document.unread == sum(problem.lost for problem in document.problems)
        through_spacy(document)
    list(write_label_studio(documents, tmp_path / "y.json", said))


@given(broken(), st.integers(0, 5))
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_malformed_files_are_told_of(tmp_path: Path, text: str, way: int) -> None:
    fuzz(tmp_path, text, way)


@pytest.mark.slow
def test_many_malformed_files_are_told_of(tmp_path: Path) -> None:
    """FUZZ_EXAMPLES says how many."""
    count = int(os.environ.get("FUZZ_EXAMPLES", "2000"))

    @given(broken(), st.integers(0, 5))
    @settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def run(text: str, way: int) -> None:
        fuzz(tmp_path, text, way)

    run()


@pytest.mark.slow
@pytest.mark.skipif("LABEL_STUDIO" not in os.environ, reason="LABEL_STUDIO does not name Label Studio's program")
def test_a_real_label_studio_gives_back_what_it_was_given() -> None:
    script = Path(__file__).parents[2] / "scripts" / "label_studio_round_trip.py"
    subprocess.run([sys.executable, str(script), os.environ["LABEL_STUDIO"]], check=True)
