import re
from pathlib import Path
from typing import Dict, List

import pytest
import spacy

from spacy_crf_ner.corpora.document import Link, Report
from spacy_crf_ner.corpora.files import CorpusError
from spacy_crf_ner.corpora.placing import to_doc
from spacy_crf_ner.corpora.readers import Standoff
from spacy_crf_ner.corpora.standoff import read_standoff
from spacy_crf_ner.tagging import UNPLACED

from ..conftest import corpus

NLP = spacy.blank("en")


def brat(folder: Path, text: str, ann: str, name: str = "a") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.txt").write_bytes(text.encode())
    (folder / f"{name}.ann").write_bytes(ann.encode())
    return folder


def problems(folder: Path) -> List[str]:
    report = Report()
    for document in read_standoff(folder):
        to_doc(document, NLP.make_doc, report=report)
    assert report.annotated == report.kept + report.lost + sum(
        p.kind == "the same entity twice" for p in report.problems
    )
    return [str(problem) for problem in report.problems]


def test_entities_attributes_and_notes_in_any_order(tmp_path: Path) -> None:
    brat(
        tmp_path / "c",
        "Fever 😀 in Lyon.\r\nNo pain.",
        "A1\tNegated T3\n#1\tAnnotatorNotes T1\thigh\nA2\tGrade E1 severe\nE1\tEvent:T1 \n"
        "T1\tPROBLEM 0 5\tFever\r\nT2\tPLACE 11 15\tLyon\nT3\tPROBLEM 21 25\tpain\nR1\tIn Arg1:T1 Arg2:T2\n"
        "*\tSame T1 T2\nN1\tReference T1 X:1\tFever\n#2\tNote R1\ton a relation\n",
    )
    (document,) = read_standoff(tmp_path / "c")
    assert [(e.label, document.text[e.start : e.end]) for e in document.entities] == [
        ("PROBLEM", "Fever"),
        ("PLACE", "Lyon"),
        ("PROBLEM", "pain"),
    ]
    fever, _, pain = document.entities
    assert fever.attributes == {"Grade": "severe"}
    assert fever.notes == ["high"]
    assert pain.attributes == {"Negated": True}
    assert document.links == [
        Link("event", "Event", [("", "T1")], "E1"),
        Link("relation", "In", [("Arg1", "T1"), ("Arg2", "T2")], "R1", notes=["on a relation"]),
        Link("equivalence", "Same", [("", "T1"), ("", "T2")]),
        Link("normalisation", "Reference", [("", "T1"), ("reference", "X:1")], "N1", "Fever"),
    ]
    assert not document.problems


def test_nested_folders_and_texts_without_annotation(tmp_path: Path) -> None:
    brat(tmp_path, "Fever", "", "empty")
    brat(tmp_path / "inner", "Fever", "T1\tX 0 5\tFever\n")
    (tmp_path / "bare.txt").write_text("Fever")
    documents = {document.id: document for document in read_standoff(tmp_path)}
    assert set(documents) == {"bare", "empty", "inner/a"}
    assert not to_doc(documents["bare"], NLP.make_doc).has_annotation("ENT_IOB")
    assert to_doc(documents["empty"], NLP.make_doc).has_annotation("ENT_IOB")
    assert "not annotated" in str(documents["bare"].problems[0])


def test_nested_entities_go_to_the_group_and_the_longest_to_ents(tmp_path: Path) -> None:
    brat(tmp_path / "c", "Pain in the knee", "T1\tPART 12 16\tknee\nT2\tPROBLEM 0 16\tPain in the knee\n")
    report = Report()
    doc = to_doc(next(read_standoff(tmp_path / "c")), NLP.make_doc, report=report)
    assert [e.text for e in doc.ents] == ["Pain in the knee"]
    assert [e.text for e in doc.spans["entities"]] == ["Pain in the knee", "knee"]
    assert (report.kept, report.lost) == (2, 0)
    assert [str(p) for p in report.problems] == [
        'c/a.ann:1: entity T1 (PART), "knee", is in the span groups, not in doc.ents.'
    ]


def test_what_cannot_be_placed_is_reported_and_unknown(tmp_path: Path) -> None:
    text = "Ibuprofen200mg for left and right knees  today"
    ann = (
        "T1\tDRUG 0 9\tIbuprofen\n"
        "T2\tPART 19 23;34 39\tleft knees\n"
        "T3\tPART 38 41\ts  \n"
        "T4\tTIME 41 46\ttoday\n"
        "T5\tTIME 41 46\ttoday\n"
        "T6\tTIME 39 41\t  \n"
        "T7\tTIME 39 46\t  today\n"
        "T8\tTIME 28 33;34 39\tright knees\n"
    )
    found = problems(brat(tmp_path / "c", text, ann))
    expected = [
        r"c/a\.ann:8: .*T8.*annotated in parts",
        r'c/a\.ann:1: .*T1 \(DRUG\), "Ibuprofen", begins or ends inside a token: it became "Ibuprofen200"',
        r'c/a\.ann:2: .*T2.*"left … knees", has 2 parts',
        r'c/a\.ann:3: .*T3 \(PART\), "s  ", .*it became "knees"',
        r"c/a\.ann:5: .*T5 \(TIME\) repeats another one",
        r"c/a\.ann:6: .*T6.*white space only",
        r"c/a\.ann:7: .*T7.*white space at its ends was taken off",
        r"c/a\.ann:7: .*T7.*repeats another one",
        r'c/a\.ann:3: .*T3 \(PART\), "knees", is in the span groups',
    ]
    assert len(found) == len(expected)
    for message, pattern in zip(found, expected):
        assert re.match(pattern, message), message
    doc = to_doc(next(read_standoff(tmp_path / "c")), NLP.make_doc)
    assert doc.spans["entities"].attrs[UNPLACED] == [[19, 23, "PART"], [34, 39, "PART"], [39, 41, "TIME"]]
    assert [t.text for t in doc if t.ent_iob == 0] == ["left", " "]


def test_bad_lines_are_reported_with_file_and_line(tmp_path: Path) -> None:
    ann = (
        "T1\tX 0 5\tFever\n"
        "T2\tX 3 90\tout\n"
        "T3\tX 5\tshort\n"
        "T4\tX 4 2\treversed\n"
        "what is this\n"
        "A1\n"
        "T5\tX 0 5\tCough\n"
        "T6 X 0 5 Fever\n"
    )
    found = problems(brat(tmp_path / "c", "Fever today", ann))
    assert [m.split(":")[1] for m in found] == ["2", "3", "4", "7", "8", "5", "6"]
    assert "covers characters 3-90, but the text has 11" in found[0]
    assert 'says "Cough", but its characters are "Fever"' in found[3]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: None, "there is no such folder"),
        (lambda d: d.mkdir(), "no .ann file"),
        (lambda d: (d.mkdir(), (d / "a.ann").write_text("")), r"a\.txt is not beside it"),
        (lambda d: (brat(d, "x", ""), (d / "a.txt").write_bytes(b"na\xefve")), r"a\.txt: byte 2 is not UTF-8"),
    ],
)
def test_corpora_that_cannot_be_read_say_what_to_do(make: object, message: str, tmp_path: Path) -> None:
    make(tmp_path / "c")  # type: ignore[operator]
    with pytest.raises(CorpusError, match=message):
        list(read_standoff(tmp_path / "c"))


def test_the_reader_gives_examples_without_gold_in_the_prediction(tmp_path: Path) -> None:
    for i in range(6):
        brat(tmp_path / "c", f"Fever {i}", "T1\tX 0 5\tFever\nT2\tY 6 7\t\n", f"d{i}")
    examples = list(Standoff(tmp_path / "c")(NLP))
    assert len(examples) == 6
    for example in examples:
        assert not example.predicted.ents
        assert not example.predicted.spans
        assert [e.label_ for e in example.reference.ents] == ["X"] or len(example.reference.ents) == 2
    assert len(list(Standoff(tmp_path / "c", limit=2)(NLP))) == 2
    draws = [[eg.text for eg in Standoff(tmp_path / "c", sample=3, seed=s)(NLP)] for s in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    assert len(set(draws[0])) == 3


def test_span_setter_says_where_entities_go(tmp_path: Path) -> None:
    brat(tmp_path / "c", "Fever Lyon", "T1\tX 0 5\tFever\nT2\tY 6 10\tLyon\n")
    (example,) = Standoff(tmp_path / "c", span_setter={"ents": ["X"], "g": True, "ys": ["Y"]})(NLP)
    assert [e.label_ for e in example.reference.ents] == ["X"]
    assert [e.label_ for e in example.reference.spans["g"]] == ["X", "Y"]
    assert [e.label_ for e in example.reference.spans["ys"]] == ["Y"]
    with pytest.raises(ValueError, match="span_setter"):
        Standoff(tmp_path / "c", span_setter=[])


def test_the_augmenter_is_spacys(tmp_path: Path) -> None:
    from spacy.training.augment import create_lower_casing_augmenter

    brat(tmp_path / "c", "FEVER in Lyon", "T1\tX 0 5\tFEVER\n")
    (example,) = Standoff(tmp_path / "c", augmenter=create_lower_casing_augmenter(1.0))(NLP)
    assert example.reference.text == "fever in lyon"
    assert [e.text for e in example.reference.ents] == ["fever"]


def independent_count(folder: Path) -> Dict[str, int]:
    """Documents and T lines, counted without our reader."""
    ann = sorted(folder.rglob("*.ann"))
    lines = [line for path in ann for line in path.read_text(encoding="utf-8").split("\n")]
    return {"documents": len(list(folder.rglob("*.txt"))), "entities": sum(line.startswith("T") for line in lines)}


@pytest.mark.parametrize("parts", [("maccrobat2020",), ("litbank", "brat"), ("wlp_wnut2020",)])
def test_real_corpora_are_read_in_full(parts: tuple, tmp_path: Path) -> None:
    folder = corpus(*parts)
    if (folder / "SOURCE.txt").exists():
        folders = [folder / "train", folder / "dev"]
    else:
        folders = [folder]
    report, expected = Report(), {"documents": 0, "entities": 0}
    for path in folders:
        for key, n in independent_count(path).items():
            expected[key] += n
        for document in read_standoff(path):
            to_doc(document, NLP.make_doc, report=report)
    repeated = sum(p.kind == "the same entity twice" for p in report.problems)
    assert {"documents": report.documents, "entities": report.annotated} == expected
    assert report.kept + report.lost + repeated == report.annotated
    assert report.lost < 0.002 * report.annotated


def test_a_byte_order_mark_before_annotations_means_nothing(tmp_path: Path) -> None:
    brat(tmp_path / "c", "Fever today", "\ufeffT1\tX 0 5\tFever\n")
    (document,) = read_standoff(tmp_path / "c")
    assert [e.label for e in document.entities] == ["X"]
    assert not document.problems


def test_what_is_wrong_is_reported_also_when_not_all_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in "abc":
        brat(tmp_path / "c", "Fever today", "T1\tX 0 50\tFever\n", name)
    reader = Standoff(tmp_path / "c", limit=1)
    with caplog.at_level("WARNING", logger="spacy"):
        assert len(list(reader(NLP))) == 1
        assert len(list(reader(NLP))) == 1
    assert caplog.text.count("c/a.ann:1: entity T1 covers characters 0-50") == 1
    caplog.clear()
    reader = Standoff(tmp_path / "c")
    with caplog.at_level("WARNING", logger="spacy"):
        next(iter(reader(NLP)))  # as initialization does
        assert len(list(reader(NLP))) == 3
    assert "3 documents, 3 entities annotated, 0 kept" in caplog.text


def test_texts_over_spacys_limit_are_read(tmp_path: Path) -> None:
    brat(tmp_path / "c", "Fever " * 200_000, "T1\tX 0 5\tFever\n")
    nlp = spacy.blank("en")
    (example,) = Standoff(tmp_path / "c")(nlp)
    assert len(example.reference.text) == 1_200_000
