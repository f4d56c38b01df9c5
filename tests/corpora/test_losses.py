"""A document with everything in it goes through each format: what does not come back is said, and nothing else."""

from pathlib import Path
from typing import Any, Dict, List, Set, Tuple

import pytest
import spacy
from spacy.tokens import DocBin, Span

from spacy_crf_ner.cli.writing import write_documents
from spacy_crf_ner.corpora.document import Document, Entity, Link, Report, fields_of
from spacy_crf_ner.corpora.formats import FORMATS, Options, read
from spacy_crf_ner.corpora.label_studio import LabelStudio
from spacy_crf_ner.corpora.losses import lost_in_columns
from spacy_crf_ner.corpora.placing import to_doc
from spacy_crf_ner.corpora.standoff import read_document
from spacy_crf_ner.corpora.standoff_writer import write_document

NLP = spacy.blank("en")
TEXT = "Fever 😀 in\tLyon.\r\nNo pain, left  knee and hip.\n\tRamipril 5 mg\u2028daily\u00a0New York City."


def place(words: str) -> Tuple[int, int]:
    return TEXT.index(words), TEXT.index(words) + len(words)


def everything() -> Document:
    entities = [
        Entity("PROBLEM", [place("Fever")], "T1", attributes={"Negated": True}, notes=["high"], score=0.25, origin="m"),
        Entity("PLACE", [place("Lyon")], "T2", score=0.0, origin="m"),
        Entity("PART", [place("knee"), place("hip")], "T3", score=0.1234567890123, attributes={"Side": "left"}),
        Entity("DRUG", [place("Ramipril 5 mg")], "T4"),
        Entity("NAME", [place("Ramipril")], "T5", score=1.0),
        Entity("PLACE", [place("New York City")], "T6"),
        Entity("ORG", [place("New York City")], "T7"),
    ]
    links = [
        Link("relation", "In", [("Arg1", "T1"), ("Arg2", "T2")], "R1", attributes={"Sure": "yes"}, notes=["so"]),
        Link("event", "Happen", [("", "T4"), ("Who", "T5")], "E1"),
        Link("equivalence", "Same", [("", "T6"), ("", "T7")]),
        Link("normalisation", "Reference", [("", "T2"), ("reference", "geo:1")], "N1", "Lyon"),
    ]
    return Document("doc-1", TEXT, entities, links, group="g1", data={"year": 1999})


def through(name: str, document: Document, folder: Path) -> Tuple[Document, Set[str]]:
    """What comes back, and what kinds of things were said on the way out."""
    form, report = FORMATS[name], Report()
    path = folder / {"spacy": "a.spacy", "standoff": "brat"}.get(name, "a.json")
    if form.write_documents is not None:
        report = write_documents(form, [document], path)
    else:
        assert form.write is not None
        document.problems += form.lost(document) if form.lost is not None else []
        form.write([to_doc(document, NLP.make_doc, report=report)], path, Options())
    (again,) = read(path, name, Options(label_studio=LabelStudio(predictions="all")))
    return again, set(report.kinds)


def meaning(document: Document) -> Dict[str, Any]:
    entities: List[Dict[str, Any]] = [
        {k: v for k, v in fields_of(e).items() if k not in ("line", "file")} for e in document.entities
    ]
    entities.sort(key=lambda e: (e["fragments"], e["label"]))
    return {**vars(document), "entities": entities}


def test_what_a_format_says_it_keeps_comes_back(tmp_path: Path) -> None:
    for name, beside in (("jsonl", set()), ("spacy", {"overlap with a longer entity", "discontinuous entity"})):
        again, kinds = through(name, everything(), tmp_path)
        assert kinds == beside
        before, after = meaning(everything()), meaning(again)
        for key in ("id", "text", "entities", "links", "group", "data", "annotated"):
            assert after[key] == before[key], (name, key)


def test_brat_keeps_scores_and_origins_as_notes_and_says_what_it_lacks(tmp_path: Path) -> None:
    again, kinds = through("standoff", everything(), tmp_path)
    before, after = meaning(everything()), meaning(again)
    assert [after[key] for key in ("id", "text", "entities")] == [before[key] for key in ("id", "text", "entities")]
    assert sorted(map(str, again.links)) == sorted(map(str, everything().links))
    assert (again.group, again.data) == ("", {})
    assert kinds == {"said of a document, not written"}
    # and the files of that come back byte for byte, and change where a score does
    (content,) = write_document(again).values()
    assert content == (tmp_path / "brat" / "doc-1.ann").read_text(encoding="utf-8")
    again.entities[0].score = 0.5
    assert content.replace("\t0.25\n", "\t0.5\n") == write_document(again)[".ann"] != content


def test_a_note_that_is_no_score_stays_a_note() -> None:
    ann = "T1\tP 0 5\tFever\n#1\tPredictionScore T1\tgood\n#2\tPredictionScore T1\t0.5\n#3\tPredictionScore T1\t0.6\n"
    document = read_document("Fever", {".ann": ann})
    assert (document.entities[0].notes, document.entities[0].score) == (["good", "0.6"], 0.5)
    assert write_document(document) == {".ann": ann}


def test_what_brat_writes_otherwise_is_said(tmp_path: Path) -> None:
    entities = [
        Entity("MULTI PART", [(0, 1)], "T1"),
        Entity("A", [(0, 1)], "T2", attributes={"n": 3, "flag": True, "off": False, "none": None}),
        Entity("B", [(0, 1)], "T3", notes=["a\nb"]),
        Entity("C", [(0, 1)], "T4", notes=["a b"], attributes={"s": "t u"}),
    ]
    same = Link("equivalence", "Same", [("", "T1"), ("", "T2")], notes=["sure"])
    report = write_documents(FORMATS["standoff"], [Document("a", "x", entities, [same])], tmp_path / "o")
    said = sorted((problem.kind, problem.message.split(" ")[1]) for problem in report.problems)
    assert said == [
        ("name that brat cannot have", "T1"),
        ("said of a relation, not written", "relations"),
        ("text that became one line", "T3"),
        ("value that became text", "T2"),
    ]
    assert not report.lost


def test_columns_say_all_that_they_lack(tmp_path: Path) -> None:
    document = everything()
    again, kinds = through("columns", document, tmp_path)
    assert kinds >= {
        "said of an entity, not written",
        "relations and the like, not written",
        "said of a document, not written",
        "white space that is not kept",
        "discontinuous entity",
    }
    said = [problem for problem in document.problems if problem.kind == "said of an entity, not written"]
    assert len(said) == sum(
        bool(e.attributes or e.notes or e.origin or e.score is not None) for e in everything().entities
    )
    words = [again.text[slice(*entity.fragments[0])] for entity in again.entities]
    assert words == ["Fever", "Lyon", "Ramipril 5 mg", "Ramipril", "New York City", "New York City"]
    # what was read from columns is all there
    assert not list(lost_in_columns(again))


def test_label_studio_says_which_links_it_does_not_keep(tmp_path: Path) -> None:
    again, kinds = through("label_studio", everything(), tmp_path)
    assert (again.id, again.group, again.text) == ("doc-1", "g1", TEXT)
    scores = {entity.id: entity.score for entity in again.entities if entity.id in {"T1", "T2", "T5"}}
    assert scores == {"T1": 0.25, "T2": 0.0, "T5": 1.0}
    assert kinds == {
        "discontinuous entity",
        "link that became relations",
        "link that cannot be written",
        "said of a relation, not written",
    }
    apart = everything()
    apart.entities[1].origin = "other"
    report = write_documents(FORMATS["label_studio"], [apart], tmp_path / "b.json")
    said = {p.message.split(" (")[0] for p in report.problems if p.kind == "link that cannot be written"}
    assert said == {"relation R1", "normalisation N1"}


@pytest.mark.parametrize("label", ["A\tB", "A\nB"])
def test_a_label_does_not_break_the_columns(label: str, tmp_path: Path) -> None:
    again, _ = through("columns", Document("a", "one two", [Entity(label, [(0, 3)])]), tmp_path)
    assert [(entity.label, entity.fragments) for entity in again.entities] == [("A B", [(0, 3)])]


def test_what_is_not_read_of_a_doc_is_said(tmp_path: Path) -> None:
    doc = NLP("Fever in Rome")
    doc.set_ents([Span(doc, 0, 1, label="X", kb_id="Q1"), Span(doc, 2, 3, label="Y")])
    doc.spans["same"] = [Span(doc, 2, 3, label="Y"), Span(doc, 0, 1, label="X")]
    doc.spans["more"] = [Span(doc, 0, 3, label="Z"), Span(doc, 2, 3, label="Y")]
    DocBin(docs=[doc], store_user_data=True).to_disk(tmp_path / "x.spacy")
    kinds = ("spans that were not asked for", "ids of spans, not read")
    (document,) = read(tmp_path / "x.spacy")
    assert [problem.kind for problem in document.problems] == [*kinds]
    assert document.problems[0].message.startswith("more has 1 spans that ents has not")
    (document,) = read(tmp_path / "x.spacy", options=Options(spans="more"))
    said = [problem.message.partition(":")[0] for problem in document.problems]
    assert said == ["ents has 1 spans that more has not", "same has 1 spans that more has not"]
