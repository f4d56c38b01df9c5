"""Counts equal those made by hand, and what was put in as a mistake is found where it was put."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterable, List, Tuple

import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st

from spacy_crf_ner.corpora.document import Document, Entity, Link
from spacy_crf_ner.corpora.formats import read
from spacy_crf_ner.corpora.statistics import Statistics, labels_alike, one_edit_apart, spread
from spacy_crf_ner.corpora.statistics_page import draw_plots, page, text_lines

from ..conftest import corpus

NLP = spacy.blank("en")


def make(id: str, text: str, *entities: Tuple[str, str], **more: Any) -> Document:
    """A document whose entities are the first places of some texts, or characters."""
    found = []
    for label, said in entities:
        start = text.index(said)
        found.append(Entity(label, [(start, start + len(said))]))
    return Document(id, text, found, **more)


def count(*documents: Document, **settings: Any) -> Dict[str, Any]:
    counted = Statistics(NLP.make_doc, **settings)
    for document in documents:
        counted.add(document)
    for document in documents:
        counted.look_again(document)
    return counted.to_dict()


def listed(found: Dict[str, Any]) -> Dict[str, List[str]]:
    return {kind: what["listed"] for kind, what in found["suspicious"].items() if what["count"]}


def test_numbers_are_those_counted_by_hand() -> None:
    first = make("a", "Aspirin for fever in New York .", ("DRUG", "Aspirin"), ("PLACE", "New York"), ("X", "York"))
    first.links = [Link("relation", "In", [])]
    second = make("b", "No fever .", ("PROBLEM", "fever"), tokens=[(0, 2), (3, 8), (9, 10)], sentences=[0])
    third = make("c", "Nobody looked .", annotated=False)
    found = count(first, second, third)
    assert (found["documents"], found["annotated_documents"], found["entities"]) == (3, 2, 4)
    assert found["tokens"] == 7 + 3 + 3
    assert (found["sentences"], found["documents_with_sentences"]) == (1, 1)
    assert found["characters"] == 31 + 10 + 15
    place = found["labels"]["PLACE"]
    assert place["tokens"] == {"min": 2, "mean": 2, "median": 2, "p95": 2, "max": 2}
    assert place["characters"]["max"] == 8
    assert place["share"] == 0.25
    assert found["document_entities"] == {"min": 1, "mean": 2.0, "median": 1, "p95": 3, "max": 3}
    assert found["overlaps"]["pairs"] == {"nested": 1, "crossing": 0, "same place": 0}
    assert found["overlaps"]["nested"] == [{"outer": "PLACE", "inner": "X", "pairs": 1}]
    assert found["links"] == {"relation": 1}
    assert {tuple(pair["labels"]): pair["documents"] for pair in found["together"]} == {
        ("DRUG", "PLACE"): 1,
        ("DRUG", "X"): 1,
        ("PLACE", "X"): 1,
    }


spans = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 6), st.sampled_from("AB")), max_size=9)


@given(spans)
def test_overlaps_are_those_of_all_pairs(places: List[Tuple[int, int, str]]) -> None:
    entities = [Entity(label, [(start, start + length)]) for start, length, label in places]
    pairs: Counter = Counter()
    overlapping = set()
    for i, one in enumerate(entities):
        for j, other in enumerate(entities[:i]):
            if one.end <= other.start or other.end <= one.start:
                continue
            overlapping |= {i, j}
            if (one.start, one.end) == (other.start, other.end):
                pairs["same place"] += one.label != other.label
            elif (one.start <= other.start and other.end <= one.end) or (
                other.start <= one.start and one.end <= other.end
            ):
                pairs["nested"] += 1
            else:
                pairs["crossing"] += 1
    found = count(Document("a", "x" * 20, entities))["overlaps"]
    assert found["pairs"] == {kind: pairs[kind] for kind in ("nested", "crossing", "same place")}
    assert found["entities"] == len(overlapping)


def test_each_mistake_is_found_where_it_is_and_nothing_else() -> None:
    clean = make("clean", "Fever in Lyon (France) at 5 p.m. today", ("PROBLEM", "Fever"), ("PLACE", "Lyon (France)"))
    clean.entities.append(Entity("TIME", [(26, 32)]))
    assert not listed(count(clean))
    twice = make("twice", "One dose of Ramipril", ("DRUG", "Ramipril"), ("DRUG", "Ramipril"))
    expected = {
        "same_entity": (twice, 'twice, characters 12-20: DRUG "Ramipril"'),
        "edge_space": (make("s", "No pain at all", ("PROBLEM", "pain ")), 's, characters 3-8: PROBLEM "pain "'),
        "edge_punctuation": (make("p", "No pain, today", ("PROBLEM", "pain,")), 'p, characters 3-8: PROBLEM "pain,"'),
        "not_on_tokens": (
            make("t", "feverish", ("PROBLEM", "fever")),
            't, characters 0-5: PROBLEM "fever", in "feverish"',
        ),
        "empty": (make("e", " \n"), "e"),
        "only_space": (make("o", "a  b", ("X", "  ")), 'o, characters 1-3: X "  "'),
    }
    for kind, (document, place) in expected.items():
        assert listed(count(document)) == {kind: [place]}
    long = make("l", "one two three four", ("X", "two three four"))
    assert listed(count(long, long=2)) == {"very_long": ['l, characters 4-18: 3 tokens, X "two three four"']}
    assert not listed(count(long, long=3))


def test_what_only_the_whole_corpus_shows() -> None:
    one = make("1", "Lyon won . Lyon lost .", ("TEAM", "Lyon"))
    two = make("2", "He was in Lyon .", ("PLACE", "Lyon"))
    three = make("3", "In Lyon", ("PLACE", "Lyon"))
    found = listed(count(one, two, three))
    assert found == {
        "several_labels": ['"Lyon": 2 × PLACE, 1 × TEAM; TEAM at 1, characters 0-4'],
        "not_everywhere": ['"Lyon": 2 × PLACE, 1 × TEAM, 1 × nothing: 1, characters 11-15'],
    }
    again = make("4", "In Lyon", ("PLACE", "Lyon"))
    other = make("5", "In Lyon", ("PLACE", "In Lyon"))
    found = listed(count(three, again, other))
    assert found["same_text"] == ["4 has the text of 3", "5 has the text of 3"]
    assert found["same_text_differs"] == ["5 and 3"]
    unlooked = make("6", "In Lyon", annotated=False)
    assert "not_everywhere" not in listed(count(three, unlooked))


def test_the_longest_text_counts_and_parts_of_words_do_not() -> None:
    known = make("k", "York or New York", ("P", "York"), ("Q", "New York"))
    other = make("o", "New\nYork , Yorkshire and New York")
    found = count(known, other)["suspicious"]["not_everywhere"]
    assert found["listed"] == ['"New York": 1 × Q, 2 × nothing: o, characters 0-8; o, characters 25-33']


@pytest.mark.parametrize(
    ("labels", "alike"),
    [
        (["Date", "DATE"], True),
        (["Lab-Value", "lab_value"], True),
        (["Disease", "Diseases"], True),
        (["Problem", "Porblem"], True),
        (["Arg1", "Arg2"], False),
        (["PER", "PERS"], False),
        (["Height", "Weight"], False),
        (["PER", "ORG"], False),
        (["LOCderiv", "LOCpart"], False),
    ],
)
def test_labels_that_are_spelled_alike(labels: List[str], alike: bool) -> None:
    assert bool(list(labels_alike(dict.fromkeys(labels)))) == alike


def edit_distance(a: str, b: str) -> int:
    """Optimal string alignment, by the textbook's table."""
    table = {(i, -1): i + 1 for i in range(-1, len(a))} | {(-1, j): j + 1 for j in range(-1, len(b))}
    for i in range(len(a)):
        for j in range(len(b)):
            change = table[i - 1, j - 1] + (a[i] != b[j])
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, change)
            if i and j and a[i] == b[j - 1] and a[i - 1] == b[j]:
                table[i, j] = min(table[i, j], table[i - 2, j - 2] + 1)
    return table[len(a) - 1, len(b) - 1]


@given(st.text("ab", max_size=5), st.text("ab", max_size=5))
def test_one_edit_apart_is_what_the_table_says(a: str, b: str) -> None:
    assert one_edit_apart(a, b) == (edit_distance(a, b) == 1)


@given(st.lists(st.integers(0, 9), min_size=1))
def test_spread_is_that_of_the_sorted_list(lengths: List[int]) -> None:
    order = sorted(lengths)
    found = spread(Counter(lengths))
    assert found is not None
    assert (found["min"], found["max"]) == (order[0], order[-1])
    assert found["median"] == order[(len(order) + 1) // 2 - 1]
    assert found["mean"] == pytest.approx(sum(lengths) / len(lengths), abs=0.01)


def test_no_more_is_listed_than_asked_for() -> None:
    documents = [make(str(i), " ") for i in range(7)]
    assert count(*documents, listed=3)["suspicious"]["empty"] == {"count": 7, "listed": ["0", "1", "2"]}
    assert len(count(*documents, listed=0)["suspicious"]["empty"]["listed"]) == 7


def png_size(content: bytes) -> Tuple[int, int]:
    assert content.startswith(b"\x89PNG")
    return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")


def counted(documents: Iterable[Document]) -> Statistics:
    found = Statistics(NLP.make_doc)
    for document in documents:
        found.add(document)
    return found


def test_the_page_holds_everything_and_asks_for_nothing() -> None:
    statistics = counted([make("a <b>", "Fever & pain,", ("P<1>", "Fever"), ("$x_1$", "pain,"))])
    plots = draw_plots(statistics)
    drawn = {"labels", "entity_lengths", "document_lengths", "together"}
    assert set(plots) == drawn | {f"{name}-dark" for name in drawn}
    assert all(min(png_size(content)) > 300 for content in plots.values())
    made = page(statistics.to_dict(), plots, "a & b")
    assert "http" not in made
    assert made.count("data:image/png;base64,") == 8
    assert "<td>P&lt;1&gt;</td>" in made
    assert "a &lt;b&gt;, characters 8-13" in made
    assert "<title>a &amp; b</title>" in made


@pytest.mark.parametrize(
    "documents", [[], [make("e", "")], [make("n", "No entity .")], [make("u", "x", annotated=False)]]
)
def test_a_corpus_without_anything_is_described_too(documents: List[Document]) -> None:
    statistics = counted(documents)
    found = statistics.to_dict()
    assert json.loads(json.dumps(found)) == found
    assert "0 entities, 0 labels." in list(text_lines(found))
    assert "<h1>t</h1>" in page(found, draw_plots(statistics), "t")


@pytest.mark.parametrize(
    ("parts", "name", "documents", "entities"),
    [
        (("litbank", "brat"), "standoff", 80, 11314),
        (("wnut17", "emerging.dev.conll"), "columns", 1009, 836),
        (("healthsea_spacy", "dev.spacy"), "spacy", None, None),
    ],
)
def test_real_corpora_are_counted_in_full(parts: Any, name: str, documents: int, entities: int) -> None:
    path: Path = corpus(*parts)
    read_once = list(read(path, name))
    found = counted(read_once).to_dict()
    assert found["documents"] == (documents or len(read_once))
    assert found["entities"] == (entities or sum(len(document.entities) for document in read_once))
    assert sum(label["entities"] for label in found["labels"].values()) == found["entities"]
