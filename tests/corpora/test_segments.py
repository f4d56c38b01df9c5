"""Segments are the document: nothing cut, nothing lost, nothing twice."""

import re
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple

import numpy as np
import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.language import Language
from spacy.tokens import Doc, DocBin, Span, SpanGroup, Token
from spacy.training import Corpus, Example

from spacy_crf_ner.context import get_context, set_context
from spacy_crf_ner.corpora.readers import Standoff
from spacy_crf_ner.corpora.segments import Segments, find_cuts
from spacy_crf_ner.crf.gold import gold_tags
from spacy_crf_ner.tagging import UNPLACED

NLP = spacy.blank("en")
WORDS = ["fever", "in", "Lyon", ".", "\n\n", "Aspirin", "\n"]
for holder, name in ((Span, "note"), (Token, "weight"), (Doc, "author")):
    holder.set_extension(f"segments_{name}", default=None, force=True)


def examples_of(docs: Iterable[Doc]) -> Any:
    def corpus(nlp: Language) -> Iterator[Example]:
        for doc in docs:
            bare = Doc(doc.vocab, words=[t.text for t in doc], spaces=[bool(t.whitespace_) for t in doc])
            if any(get_context(doc)):
                set_context(bare, *get_context(doc))
            yield Example(bare, doc)

    return corpus


def cut(docs: Iterable[Doc], **settings: Any) -> List[Example]:
    return list(Segments(examples_of(docs), **settings)(NLP))


@st.composite
def documents(draw: st.DrawFn) -> Doc:
    n = draw(st.integers(0, 24))
    words = draw(st.lists(st.sampled_from(WORDS), min_size=n, max_size=n))
    spaces = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    known = draw(st.booleans())
    starts = [i == 0 or draw(st.integers(0, 3)) == 0 for i in range(n)] if known else None
    doc = Doc(NLP.vocab, words=words, spaces=spaces, sent_starts=starts)

    def span(first: int = 0) -> Span:
        start = draw(st.integers(first, n - 1))
        return Span(doc, start, draw(st.integers(start + 1, min(n, start + 6))), label=draw(st.sampled_from("AB")))

    ents: List[Span] = []
    while n and draw(st.booleans()) and (not ents or ents[-1].end < n):
        ents.append(span(ents[-1].end if ents else 0))
    outside = [doc[i : i + 1] for i in range(n) if draw(st.booleans()) and not any(e.start <= i < e.end for e in ents)]
    doc.set_ents(ents, outside=outside, default="missing")
    if draw(st.booleans()):
        spans = [span() for _ in range(draw(st.integers(0, 3)) if n else 0)]
        attrs: Dict[str, Any] = {"scores": np.arange(len(spans)), "made_by": "me"}
        if n and draw(st.booleans()):
            lost = span()
            attrs[UNPLACED] = [[lost.start_char, lost.end_char, "A"]]
        doc.spans["all"] = SpanGroup(doc, name="all", spans=spans, attrs=attrs)
    return doc


Placed = List[Tuple[int, int, str]]


def placed(docs: List[Doc], spans_of: Any) -> Placed:
    """Spans by their tokens in all documents one after another."""
    starts = np.cumsum([0, *map(len, docs)])
    return sorted((a + s.start, a + s.end, s.label_) for a, doc in zip(starts.tolist(), docs) for s in spans_of(doc))


@given(documents(), st.sampled_from([None, r"\n\s*\n", r"\.", r"(?=Aspirin)", "ve"]), st.none() | st.integers(1, 9))
def test_segments_together_are_the_document(doc: Doc, pattern: Optional[str], longest: Optional[int]) -> None:
    examples = cut([doc], pattern=pattern, max_tokens=longest)
    for parts in ([eg.reference for eg in examples], [eg.predicted for eg in examples]):
        assert "".join(part.text_with_ws for part in parts) == doc.text_with_ws
        assert [t.text for part in parts for t in part] == [t.text for t in doc]
    parts = [eg.reference for eg in examples]
    assert placed(parts, lambda d: d.ents) == placed([doc], lambda d: d.ents)
    iob = [t.ent_iob for t in doc]
    assert [t.ent_iob for part in parts for t in part] == iob
    starts = {int(a) for a in np.cumsum([0, *map(len, parts)])}
    assert all(t.is_sent_start == u.is_sent_start or i in starts for i, (t, u) in enumerate(_pairs(doc, parts)))
    assert ["all" in part.spans for part in parts] == ["all" in doc.spans] * len(parts)
    if "all" not in doc.spans:
        return
    group = doc.spans["all"]
    assert placed(parts, lambda d: d.spans["all"]) == placed([doc], lambda d: d.spans["all"])
    scored = [
        (s.text, s.label_, p) for part in parts for s, p in zip(part.spans["all"], part.spans["all"].attrs["scores"])
    ]
    assert sorted(scored) == sorted((s.text, s.label_, p) for s, p in zip(group, group.attrs["scores"]))
    texts = [doc.text[a:b] for a, b, _ in group.attrs.get(UNPLACED, [])]
    assert [part.text[a:b] for part in parts for a, b, _ in part.spans["all"].attrs.get(UNPLACED, [])] == texts
    assert all(part.spans["all"].attrs["made_by"] == "me" for part in parts)


def _pairs(doc: Doc, parts: List[Doc]) -> Iterator[Tuple[Token, Token]]:
    return zip(doc, (token for part in parts for token in part))


def blocks(doc: Doc) -> List[Tuple[int, int]]:
    """By brute force: the runs of tokens between which it may be cut."""
    spans = [(s.start_char, s.end_char) for s in [*doc.ents, *(s for g in doc.spans.values() for s in g)]]
    spans += [(a, b) for g in doc.spans.values() for a, b, _ in g.attrs.get(UNPLACED, [])]
    ends = [
        i
        for i in range(1, len(doc))
        if not any(a < doc[i].idx and doc[i - 1].idx + len(doc[i - 1]) < b for a, b in spans)
    ]
    return list(zip([0, *ends], [*ends, len(doc)]))


@given(documents(), st.integers(1, 9))
def test_segments_are_short_and_end_with_a_sentence_if_they_can(doc: Doc, longest: int) -> None:
    cuts = find_cuts(doc, None, longest)
    runs = blocks(doc)
    begins = {start for start, _ in runs}
    ends = [0, *cuts, len(doc)]
    assert set(cuts) <= begins
    for start, end in zip(ends, ends[1:]):
        assert end - start <= longest or (start, end) in runs
        if end == len(doc) or end - start > longest:
            continue
        sentences = [i for i in range(start + 1, start + longest + 1) if i in begins and doc[i].is_sent_start is True]
        others = [i for i in range(start + 1, start + longest + 1) if i in begins]
        known = doc.has_annotation("SENT_START")
        assert end == max(sentences if known and sentences else others)


@given(documents(), st.sampled_from([r"\n\s*\n", r"\.", r"(?=Aspirin)"]))
def test_each_place_of_the_pattern_ends_a_segment(doc: Doc, pattern: str) -> None:
    begins = {start for start, _ in blocks(doc)} - {0}
    found = [match.end() for match in re.finditer(pattern, doc.text)]
    expected = {next((t.i for t in doc if t.idx >= end), None) for end in found}
    assert set(find_cuts(doc, re.compile(pattern), None)) == expected & begins


def test_entities_in_segments_are_those_that_the_loss_sees() -> None:
    doc = NLP("Aspirin for fever.\n\nNo knee pain in Lyon.")
    doc.spans["entities"] = [
        Span(doc, 0, 1, label="DRUG"),
        Span(doc, 6, 8, label="PROBLEM"),
        Span(doc, 7, 8, label="P"),
    ]
    doc.spans["none"] = []
    doc.spans["entities"].attrs[UNPLACED] = [[doc[9].idx, doc[9].idx + 4, "PLACE"]]
    labels = {"DRUG": 0, "PROBLEM": 1, "PLACE": 2}
    whole = gold_tags(Example(NLP.make_doc(doc.text), doc), "entities", labels, False, False)
    tags = [gold_tags(eg, "entities", labels, False, False).tags[0] for eg in cut([doc], pattern=r"\n\s*\n")]
    assert len(tags) == 2
    np.testing.assert_array_equal(np.concatenate(tags), whole.tags[0])
    none = [gold_tags(eg, "none", labels, False, False).tags for eg in cut([doc], pattern=r"\n\s*\n")]
    assert all((tags == 0).all() or len(set(tags.ravel())) == 1 for tags in none)
    assert all(gold_tags(eg, "absent", labels, False, False) is None for eg in cut([doc], max_tokens=3))


def test_extensions_belong_to_their_segment() -> None:
    doc = NLP("Aspirin for fever. No knee pain in Lyon.")
    doc.user_data["id"] = "a"
    doc.cats["HISTORY"] = 1.0
    doc._.segments_author = "her"
    doc[0:1]._.segments_note, doc[5:7]._.segments_note = "first", "second"
    doc[5]._.segments_weight = 3
    first, second = (eg.reference for eg in cut([doc], pattern=r"\.(?= No)"))
    assert (first[0:1]._.segments_note, second[1:3]._.segments_note) == ("first", "second")
    assert second[1]._.segments_weight == 3
    assert [len([key for key in part.user_data if key[0] == "._."]) for part in (first, second)] == [2, 3]
    for part in (first, second):
        assert (part._.segments_author, part.user_data["id"], part.cats) == ("her", "a", {"HISTORY": 1.0})
    again = list(DocBin(docs=[first, second], store_user_data=True).get_docs(NLP.vocab))
    assert again[1][1:3]._.segments_note == "second"


def test_context_is_that_of_the_document() -> None:
    doc = NLP("one two three four five six")
    set_context(doc, "before", "after")
    found = lambda **settings: [get_context(eg.predicted) for eg in cut([doc], max_tokens=2, **settings)]  # noqa: E731
    assert found() == [("before", ""), ("", ""), ("", "after")]
    assert found(context_words=1) == [("before", "three"), ("two", "five"), ("four", "after")]
    assert found(context_words=2) == [("before", "three four"), ("one two", "five six"), ("three four", "after")]
    assert found(context_words=3)[1] == ("before one two", "five six after")
    assert [get_context(eg.predicted) for eg in cut([doc])] == [("before", "after")]


def test_two_tokenisations_are_cut_at_the_same_characters() -> None:
    text = "Aspirin 5mg/d. No fever. Lyon-Paris and back."
    gold = ["Aspirin ", "5", "mg", "/d", ". ", "No ", "fever", ". ", "Lyon", "-", "Paris ", "and ", "back", "."]
    guess = ["Aspirin ", "5mg/d. ", "No ", "fever", ". ", "Lyon-Paris ", "and ", "back."]
    reference, predicted = (
        Doc(NLP.vocab, words=[word.strip() for word in words], spaces=[word.endswith(" ") for word in words])
        for words in (gold, guess)
    )
    assert reference.text == text
    for longest in (1, 3, 4):
        parts = list(Segments(lambda nlp: [Example(predicted, reference)], max_tokens=longest)(NLP))
        assert len(parts) > 2
        assert all(eg.predicted.text == eg.reference.text for eg in parts)
        assert [t.text for eg in parts for t in eg.predicted] == [t.text for t in predicted]


def test_empty_segments_are_dropped_and_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spacy.util.logger.propagate", True)
    caplog.set_level("INFO", logger="spacy")
    doc = NLP("Aspirin.\n\nNothing.\n\nFever.\n\nNothing.")
    doc.ents = [Span(doc, 0, 1, label="DRUG"), Span(doc, 6, 7, label="PROBLEM")]
    reader = Segments(examples_of([doc]), pattern=r"\n\s*\n", drop_empty=True)
    for _ in range(2):
        assert [eg.reference.text.strip() for eg in reader(NLP)] == ["Aspirin.", "Fever."]
    assert [r.getMessage() for r in caplog.records] == [
        "spacy_crf_ner.Segments.v1: 4 segments were made of 1 documents, and 2 without an entity dropped."
    ]
    assert cut([doc], pattern=r"\n\s*\n", drop_empty=True, target_spans="entities") == []


def test_it_wraps_the_readers_that_there_are(tmp_path: Path) -> None:
    (tmp_path / "brat").mkdir()
    (tmp_path / "brat" / "a.txt").write_text("Aspirin for fever.\n\n\nNo knee pain.")
    (tmp_path / "brat" / "a.ann").write_text("T1\tDRUG 0 7\tAspirin\nT2\tPROBLEM 24 33\tknee pain\n")
    readers = [Standoff(tmp_path / "brat")]
    docs = [eg.reference for eg in readers[0](NLP)]
    DocBin(docs=docs).to_disk(tmp_path / "a.spacy")
    readers.append(Corpus(tmp_path / "a.spacy"))
    for reader in readers:
        parts = list(Segments(reader, pattern=r"\n\s*\n")(NLP))
        assert [[s.text for s in eg.reference.spans["entities"]] for eg in parts] == [["Aspirin"], ["knee pain"]]
        assert [[s.text for s in eg.reference.ents] for eg in parts] == [["Aspirin"], ["knee pain"]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pattern": "("}, "is no regular expression"),
        ({"pattern": '"\n\\s*\n"'}, "written twice"),
        ({"max_tokens": 0}, "max_tokens = 0 must be at least 1"),
        ({"context_words": -1}, "context_words = -1"),
    ],
)
def test_wrong_settings_are_named(settings: Dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Segments(examples_of([]), **settings)
