"""What is read from brat is written back: byte for byte where nothing was changed, line by line where something was."""

from pathlib import Path
from typing import Any, Dict, List

import pytest
import spacy
from spacy.tokens import DocBin

from spacy_crf_ner.corpora.document import Document, Entity, Link
from spacy_crf_ner.corpora.files import CorpusError
from spacy_crf_ner.corpora.placing import Placing, from_doc, to_doc
from spacy_crf_ner.corpora.standoff import read_document, read_standoff
from spacy_crf_ner.corpora.standoff_writer import write_document, write_standoff

from ..conftest import corpus

NLP = spacy.blank("en")
NLP.max_length = 10**9
TEXT = "Fever 😀 in Lyon.\r\nNo pain in left and right knees"
ANN = (
    "\ufeffA1\tNegated T3\r\n#1\tAnnotatorNotes T1\thigh\tvery\nA2\tGrade E1 severe\nE1\tEvent:T1 \n\n"
    "T1\tPROBLEM 0 5\tFever\nT2\tPLACE 11 15\tLyon\nT3\tPROBLEM 21 25\tpain\nR1\tIn Arg1:T1 Arg2:T2\t\n"
    "T4\tPART 29 33;44 49\tleft knees\nA3\tNegated T3\n#2\tNote A1\twhy not\nwhat is this\nT9\tX 0 999\tno\n"
    "*\tSame T1 T2\nN1\tReference T1 X:1\tFever\n#3\tNote R1\ton a relation\nR2\tIn Arg1:T9 Arg2:T2"
)


def example() -> Document:
    return read_document(TEXT, {".ann": ANN}, id="a")


def meaning(document: Document) -> tuple:
    entities = [(e.label, e.fragments, e.id, e.attributes, e.notes) for e in document.entities]
    return document.text, sorted(entities, key=str), document.links


def through_spacy(document: Document, **settings: Any) -> Document:
    binary = DocBin(docs=[to_doc(document, NLP.make_doc, Placing(**settings))], store_user_data=True)
    (doc,) = DocBin(store_user_data=True).from_bytes(binary.to_bytes()).get_docs(spacy.blank("en").vocab)
    return from_doc(doc)


def test_what_was_not_changed_is_written_byte_for_byte() -> None:
    assert write_document(example()) == {".ann": ANN}


def test_only_what_was_changed_changes() -> None:
    document = example()
    fever, lyon, pain, knees = document.entities
    lyon.label = "CITY"
    fever.notes[0] = "low"
    pain.attributes = {"Sure": "yes"}
    knees.fragments = [(44, 49)]
    document.entities.append(Entity("NEW", [(15, 20)]))
    new = write_document(document)[".ann"].split("\n")
    # attributes that are gone take the note on one of them along
    old = [line for line in ANN.split("\n") if line.split("\t")[0].strip("\ufeff") not in ("A1", "A3", "#2")]
    assert [(a, b) for a, b in zip(old, new) if a != b] == [
        ("#1\tAnnotatorNotes T1\thigh\tvery", "#1\tAnnotatorNotes T1\tlow"),
        ("T2\tPLACE 11 15\tLyon", "T2\tCITY 11 15\tLyon"),
        ("T4\tPART 29 33;44 49\tleft knees", "T4\tPART 44 49\tknees"),
    ]
    # a new entity, over a line end, in two parts; names that nothing had
    assert new[-3:] == ["T5\tNEW 15 16;18 20\t. No", "A4\tSure T3 yes", ""]


def test_what_speaks_of_a_removed_entity_goes_with_it() -> None:
    document = example()
    document.entities = [entity for entity in document.entities if entity.id != "T3"]
    left = write_document(document)[".ann"]
    assert "T3" not in left
    assert "why not" not in left
    document.entities = [entity for entity in document.entities if entity.id != "T1"]
    left = write_document(document)[".ann"]
    assert [line.split("\t")[0] for line in left.splitlines() if line] == ["T2", "T4", "what is this", "T9", "R2"]


def test_a_score_of_nought_is_a_score() -> None:
    document = Document("a", "Fever 5", [Entity("P", [(0, 5)], score=0.0), Entity("Q", [(6, 7)])])
    assert [entity.score for entity in through_spacy(document).entities] == [0.0, None]


def test_two_files_of_annotations(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.txt").write_text("ab cd")
    (tmp_path / "in" / "x.a1").write_text("T1\tGene 0 2\tab\n")
    (tmp_path / "in" / "x.a2").write_text("T2\tExpression 3 5\tcd\nE1\tExpression:T2 Theme:T1\nT3\tX 0 9\tno\n")
    (document,) = read_standoff(tmp_path / "in")
    assert [(e.label, e.id, e.file) for e in document.entities] == [("Gene", "T1", ""), ("Expression", "T2", "in/x.a2")]
    assert document.links == [Link("event", "Expression", [("", "T2"), ("Theme", "T1")], "E1")]
    assert document.problems[0].where == "in/x.a2:3"
    list(write_standoff([document], tmp_path / "out"))
    assert {path.name: path.read_text() for path in (tmp_path / "out").glob("x.*")} == {
        path.name: path.read_text() for path in (tmp_path / "in").iterdir()
    }


@pytest.mark.parametrize("discontinuous", ["skip", "merge", "split", "first"])
def test_spacys_file_keeps_it_all(discontinuous: str) -> None:
    document = example()
    assert meaning(through_spacy(document, discontinuous=discontinuous)) == meaning(document)


def test_what_is_done_in_spacy_counts() -> None:
    doc = to_doc(example(), NLP.make_doc)
    fever, lyon, pain = doc.spans["entities"]
    assert (fever._.notes, fever._.Grade, pain._.Negated) == (["high\tvery"], "severe", True)
    pain._.Negated = None
    fever._.notes = ["changed"]
    lyon._.Grade = "big"
    doc.spans["entities"] = [fever, lyon, pain, doc[0:2]]
    doc.spans["entities"][3].label_ = "NEW"
    found = {(e.label, e.id): (e.attributes, e.notes) for e in from_doc(doc).entities}
    assert found["PROBLEM", "T1"] == ({"Grade": "severe"}, ["changed"])
    assert found["PROBLEM", "T3"] == ({}, [])
    assert found["PART", "T4"] == ({}, [])
    assert len(found) == 5
    doc.spans["entities"] = [fever]
    assert [e.id for e in from_doc(doc).entities] == ["T1", "T4"]


def test_discontinuous_entities_become_what_is_asked_for() -> None:
    def texts(way: str) -> List[str]:
        doc = to_doc(example(), NLP.make_doc, Placing(discontinuous=way))  # type: ignore[arg-type]
        return [span.text for span in doc.spans["entities"] if span.label_ == "PART"]

    assert texts("skip") == []
    assert texts("merge") == ["left and right knees"]
    assert texts("split") == ["left", "knees"]
    assert texts("first") == ["left"]


def test_entities_inside_tokens_become_what_is_asked_for() -> None:
    document = read_document("unfever today-ish day", {".ann": "T1\tX 2 13\tfever today\nT2\tX 3 5\tev\n"})

    def texts(alignment: str) -> List[str]:
        doc = to_doc(document, lambda text: NLP.make_doc(text), Placing(alignment=alignment))  # type: ignore[arg-type]
        return [span.text for span in doc.spans["entities"]]

    assert texts("expand") == ["unfever today", "unfever"]
    assert texts("contract") == ["today"]
    assert texts("strict") == []


def test_new_folders_can_be_opened_in_brat(tmp_path: Path) -> None:
    text = "Fever\tin\nLyon"
    one = Entity("BIG CITY", [(9, 13)], attributes={"Sure": "very", "Old": True, "No": False}, notes=["a\tb\nc"])
    link = Link("relation", "In", [("Arg1", "x1"), ("Arg2", "x2")])
    document = Document("sub/a", text, [Entity("P", [(0, 13)], id="x1"), one], [link])
    one.id = "x2"
    list(write_standoff([document], tmp_path))
    assert (tmp_path / "sub" / "a.ann").read_text() == (
        "T1\tP 0 8;9 13\tFever in Lyon\nT2\tBIG_CITY 9 13\tLyon\nR1\tIn Arg1:T1 Arg2:T2\n"
        "A1\tSure T2 very\nA2\tOld T2\n#1\tAnnotatorNotes T2\ta b c\n"
    )
    assert (tmp_path / "annotation.conf").read_text() == (
        "[entities]\nBIG_CITY\nP\n\n[relations]\nIn\tArg1:<ANY>, Arg2:<ANY>\n\n[events]\n\n[attributes]\n"
        "No\tArg:<ANY>, Value:False\nOld\tArg:<ANY>\nSure\tArg:<ANY>, Value:very\n"
    )
    (again,) = read_standoff(tmp_path)
    assert [problem.kind for problem in again.problems] == ["parts joined across white space"]
    assert again.entities[0].fragments == [(0, 13)]


@pytest.mark.parametrize("ids", [["a", "a"], ["../a"], ["/a"]])
def test_ids_that_are_no_file_names_are_refused(ids: List[str], tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="cannot be the name of a brat document"):
        list(write_standoff([Document(id, "x") for id in ids], tmp_path / "out"))


@pytest.mark.parametrize(
    "parts",
    [
        ("maccrobat2020", "dev"),
        ("maccrobat2020", "train"),
        ("litbank", "brat"),
        ("wlp_wnut2020", "dev"),
        pytest.param(("wlp_wnut2020", "train"), marks=pytest.mark.slow),
    ],
)
def test_real_corpora_come_back_byte_for_byte(parts: tuple) -> None:
    folder = corpus(*parts)
    n_read = 0
    for document in read_standoff(folder):
        files: Dict[str, str] = write_document(document)
        for ending, content in files.items():
            assert content.encode() == (folder / f"{document.id}{ending}").read_bytes()
        assert meaning(through_spacy(document)) == meaning(document)
        n_read += 1
    assert n_read == len(list(folder.rglob("*.txt")))
