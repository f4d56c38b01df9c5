"""Labels under other names: in Documents and in Docs, with all else as it was."""

from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import pytest
import spacy
from spacy.tokens import Doc, Span, SpanGroup

from spacy_crf_ner.corpora.document import Document, Entity, Link
from spacy_crf_ner.corpora.files import CorpusError
from spacy_crf_ner.corpora.items import Item
from spacy_crf_ner.corpora.placing import from_doc, to_doc
from spacy_crf_ner.corpora.rename import read_map, rename
from spacy_crf_ner.corpora.standoff import read_document
from spacy_crf_ner.corpora.standoff_writer import write_document
from spacy_crf_ner.tagging import UNPLACED

NLP = spacy.blank("en")
ANN = (
    "T1\tA 0 3\tOne\nT2\tB 0 3\tOne\nT3\tB 4 7\ttwo\nT4\tC 8 13\tthree\nA1\tSure T2\n"
    "R1\tX Arg1:T2 Arg2:T3\nR2\tX Arg1:T4 Arg2:T1\n"
)


def document(**more: Any) -> Document:
    return read_document("One two three", {".ann": ANN}, "d", **more)


def entities(item: Item) -> List[Tuple[str, int]]:
    return [(e.label, e.start) for e in item.document.entities]


def test_names_change_at_once() -> None:
    (item,), done = rename([Item(document())], {"A": "B", "B": "A"})
    assert entities(item) == [("B", 0), ("A", 0), ("A", 4), ("C", 8)]
    assert (done.renamed, done.merged, done.dropped) == (3, 0, 0)


def test_labels_that_become_one_count_what_they_have_twice() -> None:
    (item,), done = rename([Item(document())], {"B": "A"})
    assert entities(item) == [("A", 0), ("A", 4), ("C", 8)]
    assert (done.renamed, done.merged, done.links) == (2, 1, 0)
    # the relation goes to the entity that is left
    assert item.document.links[0].arguments == [("Arg1", "T1"), ("Arg2", "T3")]
    written = write_document(item.document)[".ann"]
    assert "T3\tA 4 7\ttwo\n" in written
    assert "T4\tC 8 13\tthree\n" in written
    assert not read_document("One two three", {".ann": written}).problems


def test_entities_that_are_dropped_take_their_links_with_them() -> None:
    (item,), done = rename([Item(document())], {"C": ""})
    assert entities(item) == [("A", 0), ("B", 0), ("B", 4)]
    assert (done.dropped, done.links) == (1, 1)
    assert [link.id for link in item.document.links] == ["R1"]


def test_what_was_twice_before_stays_twice() -> None:
    twice = Document("d", "One", [Entity("A", [(0, 3)]), Entity("A", [(0, 3)])])
    (item,), done = rename([Item(twice)], {"A": "B"})
    assert entities(item) == [("B", 0), ("B", 0)]
    assert done.merged == 0


def test_labels_that_are_not_there_are_an_error() -> None:
    with pytest.raises(CorpusError, match=r"No entity has the label Z. There are A, B, C."):
        rename([Item(document())], {"A": "X", "Z": "Y"})


def through_doc(names: dict, spans: str = "") -> Tuple[Item, Doc]:
    doc = to_doc(document(), NLP.make_doc)
    (item,), _ = rename([Item(from_doc(doc, spans, "d"), doc)], names, spans)
    assert item.doc is doc
    return item, doc


@pytest.mark.parametrize("names", [{"A": "B", "B": "A"}, {"B": "A"}, {"C": ""}, {"A": "C", "B": ""}])
def test_a_doc_says_the_same_as_its_document(names: dict) -> None:
    (expected,), _ = rename([Item(document())], names)
    item, doc = through_doc(names)
    assert sorted(entities(item)) == sorted(entities(expected))
    assert [(s.label_, s.start) for s in doc.spans["entities"]] == sorted(
        entities(expected), key=lambda e: (e[1] // 4, e[0])
    ) or ({(s.label_, s.start_char) for s in doc.spans["entities"]} == set(entities(expected)))
    assert [link.id for link in item.document.links] == [link.id for link in expected.document.links]
    assert {e.label_ for e in doc.ents} <= {e.label for e in expected.document.entities}


def test_all_of_a_doc_that_is_no_label_stays() -> None:
    doc = Doc(NLP.vocab, words=["One", "two", "three", "four", "five"], tags=["X"] * 5)
    doc.set_ents([Span(doc, 0, 1, label="A"), Span(doc, 1, 2, label="B")], missing=[doc[2:3]], blocked=[doc[3:4]])
    spans = [
        Span(doc, 0, 1, label="B"),
        Span(doc, 0, 1, label="A", kb_id="Q1"),
        Span(doc, 2, 4, label="C", span_id="s"),
    ]
    attrs = {"scores": np.array([0.1, 0.2, 0.3], dtype=np.float32), UNPLACED: [[0, 2, "A"], [1, 3, "C"]], "by": "me"}
    doc.spans["g"] = SpanGroup(doc, name="g", attrs=attrs, spans=spans)
    doc.user_data["mine"] = 1
    rename([Item(from_doc(doc, "g"), doc)], {"A": "N", "B": ""})
    assert [(e.start, e.label_) for e in doc.ents] == [(0, "N")]
    assert doc.to_array("ENT_IOB").tolist() == [3, 2, 0, 3, 2]
    group = doc.spans["g"]
    assert [(s.start, s.end, s.label_, s.kb_id_, s.id_) for s in group] == [(0, 1, "N", "Q1", ""), (2, 4, "C", "", "s")]
    assert group.attrs["scores"].tolist() == pytest.approx([0.2, 0.3])
    assert [list(part) for part in group.attrs[UNPLACED]] == [[0, 2, "N"], [1, 3, "C"]]
    assert (group.attrs["by"], doc.user_data["mine"], doc[0].tag_) == ("me", 1, "X")


def test_with_spans_only_one_place_is_changed() -> None:
    _, doc = through_doc({"C": "N"}, "ents")
    assert "N" in {e.label_ for e in doc.ents}
    assert "N" not in {s.label_ for s in doc.spans["entities"]}
    _, doc = through_doc({"C": "N"}, "entities")
    assert "N" not in {e.label_ for e in doc.ents}
    assert "N" in {s.label_ for s in doc.spans["entities"]}


def test_a_map_is_read_from_options_and_files(tmp_path: Path) -> None:
    (tmp_path / "map.txt").write_text("# old and new\nA = B\r\n\nlab value=Lab_value\nX=\n")
    assert read_map(["C=D"], tmp_path / "map.txt") == {"C": "D", "A": "B", "lab value": "Lab_value", "X": ""}
    (tmp_path / "bad.txt").write_text("A=B\nnothing\n")
    with pytest.raises(CorpusError, match=r"bad.txt:2: nothing: give OLD=NEW"):
        read_map([], tmp_path / "bad.txt")
    with pytest.raises(CorpusError, match='A=C: A has the new name "B" already'):
        read_map(["A=B", "A=C"])
    with pytest.raises(CorpusError, match="Say with --map"):
        read_map([])
    with pytest.raises(CorpusError, match="give OLD=NEW"):
        read_map(["=B"])


def test_links_keep_what_they_refer_to() -> None:
    link = Link("normalisation", "Ref", [("", "T1"), ("reference", "T9")], "N1", "x")
    noted = Document("d", "One", [Entity("A", [(0, 3)], "T1"), Entity("B", [(0, 3)], "T9")], [link])
    (item,), done = rename([Item(noted)], {"B": ""})
    assert item.document.links == [link]
    assert done.links == 0


def test_what_joins_a_link_that_is_gone_goes_too() -> None:
    ann = "T1\tA 0 3\tOne\nT2\tB 4 7\ttwo\nE1\tA:T1\nE2\tB:T2 Of:E1\nR1\tX Arg1:E2 Arg2:T2\nR2\tX Arg1:T2 Arg2:T2\n"
    for through in (False, True):
        read = read_document("One two", {".ann": ann}, "d")
        doc = to_doc(read, NLP.make_doc) if through else None
        (item,), done = rename([Item(read, doc)], {"A": ""})
        assert [link.id for link in item.document.links] == ["R2"]
        assert (done.dropped, done.links) == (1, 3)
