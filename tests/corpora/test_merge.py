"""Several corpora as one: every document once, no id twice, no annotation changed in silence."""

from typing import Any, List, Tuple

import pytest

from spacy_crf_ner.corpora.document import Document, Entity, Link
from spacy_crf_ner.corpora.files import CorpusError
from spacy_crf_ner.corpora.items import Item
from spacy_crf_ner.corpora.merge import merge
from spacy_crf_ner.corpora.standoff import read_document
from spacy_crf_ner.corpora.standoff_writer import write_document


def make(id: str, text: str, *entities: Tuple[str, int, int], **more: Any) -> Item:
    return Item(Document(id, text, [Entity(label, [(start, end)]) for label, start, end in entities], **more))


def said(items: List[Item]) -> List[tuple]:
    return [(i.document.id, [(e.label, e.start, e.end) for e in i.document.entities]) for i in items]


def test_ids_that_clash_get_the_name_of_their_corpus() -> None:
    one, two = [make("1", "a"), make("2", "b")], [make("1", "c"), make("3", "d"), make("two/1", "e")]
    items, done = merge([("one", one), ("two", two)])
    assert [item.document.id for item in items] == ["1", "2", "two/1", "3", "two/two/1"]
    assert done.renamed == 2
    with pytest.raises(CorpusError, match="--ids error: 1 in two: documents before them"):
        merge([("one", one), ("two", two[:2])], ids="error")


def test_an_id_is_free_also_where_the_prefix_is_taken() -> None:
    items, _ = merge([("c", [make("c/1", "a"), make("1", "b"), make("1", "d"), make("1", "e")])])
    assert [item.document.id for item in items] == ["c/1", "1", "c/1-2", "c/1-3"]


def test_the_same_text_is_there_once() -> None:
    one = [make("1", "In Lyon", ("P", 3, 7)), make("2", "b"), make("3", "b")]
    two = [make("9", "In Lyon", ("P", 3, 7)), make("8", "new"), make("7", "b")]
    items, done = merge([("one", one), ("two", two)])
    # what stands twice in one corpus stays
    assert [item.document.id for item in items] == ["1", "2", "3", "8"]
    assert done.same == 2


@pytest.mark.parametrize(
    ("conflicts", "expected"), [("first", [("P", 3, 7)]), ("union", [("X", 0, 2), ("P", 3, 7), ("Q", 3, 7)])]
)
def test_other_entities_of_the_same_text(conflicts: Any, expected: list) -> None:
    one = [make("1", "In Lyon", ("P", 3, 7))]
    two = [make("2", "In Lyon", ("P", 3, 7), ("Q", 3, 7), ("X", 0, 2))]
    items, done = merge([("one", one), ("two", two)], conflicts=conflicts)
    assert said(items) == [("1", expected)]
    assert (done.joined, done.left) == ((1, 0) if conflicts == "union" else (0, 1))
    with pytest.raises(CorpusError, match=r"2 in two, which is 1. Say with --conflicts"):
        merge([("one", one), ("two", two)])


@pytest.mark.parametrize("conflicts", ["error", "union", "first"])
def test_a_text_that_nobody_has_annotated_conflicts_with_nothing(conflicts: Any) -> None:
    bare, full = make("1", "In Lyon", annotated=False), make("2", "In Lyon", ("P", 3, 7))
    for order in ([bare, full], [full, bare]):
        items, done = merge([("one", order[:1]), ("two", order[1:])], conflicts=conflicts)
        assert said(items) == [(order[0].document.id, [("P", 3, 7)])]
        assert done.same == 1


def test_what_joins_entities_goes_with_them_under_free_names() -> None:
    text = "Aspirin helps"
    first = read_document(text, {".ann": "T1\tDRUG 0 7\tAspirin\nR1\tX Arg1:T1 Arg2:T1\n"}, "1")
    other = read_document(
        text, {".ann": "T1\tVERB 8 13\thelps\nT2\tDRUG 0 7\tAspirin\nR1\tDoes Arg1:T2 Arg2:T1\nA1\tSure T1\n"}, "2"
    )
    items, _ = merge([("one", [Item(first)]), ("two", [Item(other)])], conflicts="union")
    document = items[0].document
    drug, verb = document.entities
    assert (drug.id, verb.label) == ("T1", "VERB")
    assert verb.id not in ("", "T1")
    assert document.links[1] == Link("relation", "Does", [("Arg1", "T1"), ("Arg2", verb.id)], document.links[1].id)
    written = write_document(document)[".ann"]
    assert written.startswith("T1\tDRUG 0 7\tAspirin\nR1\tX Arg1:T1 Arg2:T1\n")
    again = read_document(text, {".ann": written})
    assert not again.problems
    assert [(e.label, e.start, e.attributes) for e in again.entities] == [("DRUG", 0, {}), ("VERB", 8, {"Sure": True})]
    assert len(again.links) == 2


def test_choices_that_are_none() -> None:
    with pytest.raises(CorpusError, match="--ids x"):
        merge([], ids="x")  # type: ignore[arg-type]
    with pytest.raises(CorpusError, match="--conflicts x"):
        merge([], conflicts="x")  # type: ignore[arg-type]
