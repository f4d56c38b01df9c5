from typing import Any, List

import pytest
import spacy
from spacy.tokens import Doc, Span
from spacy.training import Example

from spacy_crf_ner.crf.gold import Gold, gold_tags
from spacy_crf_ner.tagging import UNPLACED, tag_names

NLP = spacy.blank("en")
LABELS = {"X": 0, "Y": 1}
NAMES = tag_names(list(LABELS))


def reference(words: List[str], *spans: tuple, **places: Any) -> Doc:
    doc = Doc(NLP.vocab, words=words)
    doc.set_ents([Span(doc, a, b, label=label) for a, b, label in spans], **{"default": "outside", **places})
    return doc


def read(doc: Doc, words: List[str] = [], target: str = "ents", overlap: bool = False, partial: bool = False) -> Gold:
    predicted = Doc(NLP.vocab, words=words or [t.text for t in doc])
    gold = gold_tags(Example(predicted, doc), target, LABELS, overlap, partial)
    assert gold is not None
    return gold


def names(gold: Gold, row: int = 0) -> str:
    return " ".join("?" if tag < 0 else NAMES[tag] for tag in gold.tags[row])


def test_entities_become_biluo() -> None:
    assert names(read(reference(list("abcde"), (0, 1, "X"), (2, 5, "Y")))) == "U-X O B-Y I-Y L-Y"


def test_gold_moves_to_other_tokens_where_it_fits_them() -> None:
    doc = reference(["New", "York", "is", "big"], (0, 2, "X"))
    assert names(read(doc, ["NewYork", "i", "s", "big"])) == "U-X O O O"


def test_gold_that_ends_inside_a_token_is_unknown_there() -> None:
    doc = reference(["New", "York", "is", "big"], (0, 2, "X"), (3, 4, "Y"))
    gold = read(doc, ["New", "Yorkis", "big"])
    assert names(gold) == "? ? U-Y"
    assert gold.left_out == [("X", "its ends lie inside tokens")]


def test_missing_and_blocked_tokens_are_unknown() -> None:
    doc = Doc(NLP.vocab, words=list("abcde"))
    doc.set_ents([Span(doc, 1, 2, "X")], missing=[doc[0:1]], blocked=[doc[3:4]], default="outside")
    assert names(read(doc)) == "? U-X O ? O"


def test_documents_without_annotation_say_nothing() -> None:
    bare = Doc(NLP.vocab, words=["a"])
    assert gold_tags(Example(bare.copy(), bare), "ents", LABELS, False, False) is None
    assert gold_tags(Example(bare.copy(), bare), "group", LABELS, False, False) is None
    bare.spans["group"] = []
    assert names(read(bare, target="group")) == "O"


def test_white_space_is_trimmed() -> None:
    doc = Doc(NLP.vocab, words=["\n", "a", " ", "b", "\n", "\n"])
    doc.spans["g"] = [Span(doc, 0, 5, "X"), Span(doc, 5, 6, "Y")]
    gold = read(doc, target="g")
    assert names(gold) == "O B-X I-X L-X O O"
    assert gold.left_out == [("Y", "it holds white space only")]


def test_overlaps_are_kept_with_a_chain_a_label_but_for_the_same_label() -> None:
    doc = Doc(NLP.vocab, words=list("abcd"))
    doc.spans["g"] = [Span(doc, 0, 4, "X"), Span(doc, 1, 2, "Y"), Span(doc, 2, 3, "X")]
    both = read(doc, target="g", overlap=True)
    assert names(both, 0) == "B-X I-X I-X L-X"
    assert names(both, 1) == "O U-X O O"  # over its own five tags
    assert both.left_out == [("X", "overlaps with a longer one")]
    one = read(doc, target="g")
    assert names(one) == "B-X I-X I-X L-X"
    assert [label for label, _ in one.left_out] == ["Y", "X"]


@pytest.mark.parametrize("overlap", [False, True])
def test_what_a_reader_could_not_place_is_unknown(overlap: bool) -> None:
    doc = Doc(NLP.vocab, words=["ab", "cd", "ef"])
    doc.spans["g"] = []
    doc.spans["g"].attrs[UNPLACED] = [[1, 4, "X"], [0, 2, "Z"]]
    gold = read(doc, target="g", overlap=overlap)
    assert names(gold) == "? ? O"
    if overlap:
        assert names(gold, 1) == "O O O", "the other label's chain knows its tags"
    assert gold.left_out == [("X", "the reader could not place it on tokens")]


def test_partial_annotation_leaves_what_is_not_marked_unknown() -> None:
    assert names(read(reference(list("abc"), (1, 2, "X")), partial=True)) == "? U-X ?"
    told = reference(list("abc"), (1, 2, "X"), missing=[])
    told.set_ents([], missing=[told[0:1]], default="unmodified")
    assert names(read(told, partial=True)) == "? U-X O"


def test_labels_outside_the_list_are_left_out_with_a_reason() -> None:
    gold = read(reference(list("ab"), (0, 1, "Z"), (1, 2, "Y")))
    assert names(gold) == "O U-Y"
    assert gold.left_out == [("Z", "its label is not one of the pipe's")]
