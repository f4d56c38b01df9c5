"""Groups stay whole, shares are met, labels are balanced, and a seed decides."""

from typing import Dict, List, Optional

import numpy as np
import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st

from spacy_crf_ner.corpora.document import Document, Entity
from spacy_crf_ner.corpora.files import CorpusError
from spacy_crf_ner.corpora.formats import Options
from spacy_crf_ner.corpora.items import Item, read_items
from spacy_crf_ner.corpora.split import (
    count_labels,
    deal,
    describe,
    folds,
    group_items,
    shared_texts,
    stratify,
    worst_balance,
)

from ..conftest import corpus


def make(id: str, labels: str = "", text: Optional[str] = None, group: str = "", **data: str) -> Item:
    """A document with an entity for each letter of `labels`."""
    entities = [Entity(label, [(0, 1)]) for label in labels]
    return Item(Document(id, text if text is not None else f"x {id}", entities, group=group, data=data))


def alone(items: List[Item]) -> List[List[int]]:
    return [[i] for i in range(len(items))]


def test_shares_are_kept_and_every_part_gets_something() -> None:
    items = [make(str(i)) for i in range(10)]
    parts = deal(items, alone(items), {"train": 0.96, "dev": 0.02, "test": 0.02}, 0)
    assert {name: len(part) for name, part in parts.items()} == {"train": 8, "dev": 1, "test": 1}
    assert sorted(i for part in parts.values() for i in part) == list(range(10))
    assert deal(items, alone(items), {"train": 1.0, "dev": 0.0}, 0)["dev"] == []
    with pytest.raises(CorpusError, match="sum to 1"):
        deal(items, alone(items), {"train": 0.5, "dev": 0.2}, 0)
    with pytest.raises(CorpusError, match="1 documents cannot be split into 2"):
        deal(items[:1], [[0]], {"train": 0.5, "dev": 0.5}, 0)
    with pytest.raises(CorpusError, match=r"10 documents cannot be split into 3 parts.*: 2 groups"):
        deal(items, [list(range(5)), list(range(5, 10))], {"a": 0.5, "b": 0.3, "c": 0.2}, 0)


@given(
    st.lists(st.tuples(st.integers(1, 5), st.text("ABC", max_size=4)), min_size=3, max_size=30),
    st.sampled_from([{"train": 0.8, "dev": 0.2}, {"a": 0.5, "b": 0.3, "c": 0.2}]),
    st.booleans(),
    st.integers(0, 3),
)
def test_groups_are_never_cut_and_every_document_is_in_one_part(
    sizes: List[tuple], shares: Dict[str, float], stratified: bool, seed: int
) -> None:
    items, groups = [], []
    for number, (size, labels) in enumerate(sizes):
        groups.append(list(range(len(items), len(items) + size)))
        items += [make(f"{number}-{i}", labels) for i in range(size)]
    parts = deal(items, groups, shares, seed, stratified)
    assert sorted(i for part in parts.values() for i in part) == list(range(len(items)))
    for group in groups:
        assert sum(bool(set(group) & set(part)) for part in parts.values()) == 1
    assert all(parts.values())
    assert parts == deal(items, groups, shares, seed, stratified)


def test_documents_of_all_kinds_are_drawn_as_often() -> None:
    items = [make(str(i)) for i in range(10)]
    found = np.zeros(10)
    for seed in range(2000):
        found[deal(items, alone(items), {"train": 0.7, "dev": 0.3}, seed)["dev"]] += 1
    # 600 of 2,000, with a standard deviation of 20
    assert (abs(found - 600) < 5 * 20).all()


def test_groups_come_from_data_ids_files_and_texts() -> None:
    items = [
        make("p1-a", patient="1"),
        make("p2-a", patient="2"),
        make("p1-b", patient="2", text="same"),
        make("p3-a", patient="3", text="same"),
        make("q", patient="4", group="g"),
        make("p4", patient="5", group="g"),
    ]
    assert group_items(items, "patient", False) == [[0], [1, 2], [3], [4], [5]]
    assert group_items(items, "patient") == [[0], [1, 2, 3], [4], [5]]
    assert group_items(items, r"/^(p\d|q)/", False) == [[0, 2], [1], [3], [4], [5]]
    assert group_items(items, "/^[pq]/", False) == [[0, 1, 2, 3, 5], [4]]
    assert group_items(items, None) == [[0], [1], [2, 3], [4, 5]]
    sourced = [Item(Document(f"{i}", f"{i}", source=f"{name}/x.ann")) for i, name in enumerate("abа"[:2] + "a")]
    assert group_items(sourced, r"/^(\w+)/x/") == [[0, 2], [1]]


def test_a_document_without_a_group_is_named() -> None:
    items = [make("one", patient="1"), *(make(f"without-{i}") for i in range(7))]
    with pytest.raises(CorpusError, match=r'7 of 8 documents have no "patient".*without-0, .*without-4, and 2 more'):
        group_items(items, "patient")
    with pytest.raises(CorpusError, match=r"1 of 8 documents have no id that /without/ fits: one"):
        group_items(items, "/without/")
    with pytest.raises(CorpusError, match="no regular expression"):
        group_items(items, "/(/")


def test_data_of_docs_is_found_wherever_it_stands() -> None:
    nlp = spacy.blank("en")
    docs = [nlp.make_doc(word) for word in ("a", "b", "c")]
    docs[0].user_data["patient"] = 5
    docs[1].user_data["data"] = {"patient": 5}
    spacy.tokens.Doc.set_extension("patient", default=None, force=True)
    docs[2]._.patient = 6
    items = [Item(Document(doc.text, doc.text, data=doc.user_data.get("data", {})), doc) for doc in docs]
    assert group_items(items, "patient") == [[0, 1], [2]]
    spacy.tokens.Doc.remove_extension("patient")


def test_stratification_meets_what_can_be_met_exactly() -> None:
    # 10 documents of each of four kinds: half of each kind belongs to each half
    items = [make(f"{kind}{i}", kind) for kind in ("A", "B", "AB", "") for i in range(10)]
    for seed in range(5):
        parts = deal(items, alone(items), {"a": 0.5, "b": 0.5}, seed, stratified=True)
        for part in parts.values():
            chosen = [items[i] for i in part]
            assert len(chosen) == 20
            assert count_labels(chosen) == {"A": 10, "B": 10}


def deviation(items: List[Item], parts: Dict[str, List[int]], shares: Dict[str, float]) -> float:
    """Mean over parts and labels of how far a label's share is from what is wanted."""
    total = count_labels(items)
    off = []
    for name, part in parts.items():
        here = count_labels([items[i] for i in part])
        off += [abs(here.get(label, 0) / n - shares[name]) for label, n in total.items() if n >= 20]
    return float(np.mean(off))


def test_stratification_balances_labels_better_than_chance() -> None:
    path = corpus("maccrobat2020", "train")
    items = list(read_items(path, "standoff", Options()))
    shares = {"train": 0.7, "dev": 0.15, "test": 0.15}
    off = {
        stratified: [deviation(items, deal(items, alone(items), shares, seed, stratified), shares) for seed in range(5)]
        for stratified in (False, True)
    }
    assert max(off[True]) < 0.5 * min(off[False])


def test_the_rarest_label_is_in_every_part() -> None:
    items = [make(str(i), "A" * 5 + ("R" if i % 20 == 0 else "")) for i in range(60)]
    for seed in range(10):
        parts = deal(items, alone(items), {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}, seed, stratified=True)
        assert [count_labels([items[i] for i in part])["R"] for part in parts.values()] == [1, 1, 1]


def test_without_labels_units_of_any_size_fill_their_parts() -> None:
    sizes = np.array([5, 5, 5, 5, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1])
    for seed in range(10):
        chosen = stratify(np.zeros((14, 0), dtype=np.int64), sizes, [0.5, 0.5], seed)
        assert [int(sizes[chosen == part].sum()) for part in (0, 1)] == [15, 15]
    one = stratify(np.zeros((3, 0), dtype=np.int64), np.array([100, 1, 1]), [0.4, 0.3, 0.3], 0)
    assert sorted(one.tolist()) == [0, 1, 2]


@pytest.mark.parametrize("stratified", [False, True])
def test_in_folds_each_document_is_in_dev_once(stratified: bool) -> None:
    items = [make(str(i), "AB"[i % 2], group=str(i // 3)) for i in range(30)]
    groups = group_items(items)
    found = folds(items, groups, 4, 1, stratified)
    assert sorted(i for _, dev in found for i in dev) == list(range(30))
    for train, dev in found:
        assert sorted(train + dev) == list(range(30))
        assert not {items[i].document.group for i in train} & {items[i].document.group for i in dev}
        assert 6 <= len(dev) <= 9
    with pytest.raises(CorpusError, match="at least 2"):
        folds(items, groups, 1, 0)
    with pytest.raises(CorpusError, match="cannot be split into 11"):
        folds(items, groups, 11, 0)


def test_what_is_said_of_parts() -> None:
    items = [make("a", "AAB", "t", group="g"), make("b", "A", "t"), make("c", "B", "u"), make("d", "A", "v")]
    said = describe(items[:1])
    # sha256sum of "t"
    digest = "e3b98a4da31a127d4bde6e43033f66ba274cab0eb7eb1c70ec41402bf6273dd8"
    assert said["documents"] == [{"id": "a", "sha256": digest, "group": "g"}]
    assert (said["n_documents"], said["n_entities"], said["labels"]) == (1, 3, {"A": 2, "B": 1})
    parts = {"one": [0, 2], "two": [1, 3]}
    assert shared_texts(items, parts) == ["a in one, b in two"]
    assert shared_texts(items, {"one": [0, 1], "two": [2, 3]}) == []
    worst = worst_balance(items, parts, {"one": 0.5, "two": 0.5})
    assert worst == "one has 2 of 2 B (100.0%), and 50.0% were wanted"


def test_nothing_is_said_of_shares_that_are_met() -> None:
    items = [make(str(i), "A", str(i)) for i in range(90)]
    parts = {"train": list(range(63)), "dev": list(range(63, 90))}
    assert 0.7 * 90 != 63  # in floating point
    assert worst_balance(items, parts, {"train": 0.7, "dev": 0.3}) is None
