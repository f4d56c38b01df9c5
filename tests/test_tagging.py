from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_crf_ner import tagging
from spacy_crf_ner.tagging import TagSpan


def by_hand(names: list) -> bool:
    """Whether a sequence of tag names is legal BILUO, told from the names alone."""
    opened = None
    for name in names:
        prefix, _, label = name.partition("-")
        if opened is None and prefix in "IL":
            return False
        if opened is not None and (prefix in "OBU" or label != opened):
            return False
        opened = label if prefix in "BI" else None
    return opened is None


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_legality_is_that_of_the_tag_names(length: int) -> None:
    names = tagging.tag_names(["X", "Y"])
    starts, moves, ends = tagging.legal_starts(2), tagging.legal_moves(2), tagging.legal_ends(2)
    for tags in product(range(len(names)), repeat=length):
        legal = starts[tags[0]] and ends[tags[-1]] and all(moves[a, b] for a, b in zip(tags, tags[1:]))
        assert legal == by_hand([names[t] for t in tags])
        if legal:
            spans = tagging.tags_to_spans(tags)
            assert tagging.spans_to_tags(spans, length)[0].tolist() == list(tags)
        else:
            with pytest.raises(ValueError, match=r"legal|closed"):
                tagging.tags_to_spans(tags)


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(1, 4), st.integers(0, 2)), max_size=6))
def test_overlaps_leave_out_the_shorter_and_only_those(triples: list) -> None:
    spans = [TagSpan(start, min(start + size, 10), label) for start, size, label in triples]
    tags, left_out = tagging.spans_to_tags(spans, 10)
    kept = tagging.tags_to_spans(tags)
    assert set(kept) | set(left_out) == set(spans)
    assert not set(kept) & set(left_out)
    for lost in left_out:
        rivals = [k for k in kept if k.start < lost.end and lost.start < k.end]
        assert any(k.end - k.start >= lost.end - lost.start for k in rivals)


def test_unknown_tokens_yield_to_entities() -> None:
    unknown = np.array([True, True, False, False])
    tags, _ = tagging.spans_to_tags([TagSpan(1, 3, 0)], 4, unknown)
    assert tags.tolist() == [tagging.UNKNOWN, 1, 3, 0]


def test_white_space_is_trimmed_from_both_ends() -> None:
    is_space = np.array([True, False, True, False, True])
    assert tagging.trim_spaces(0, 5, is_space) == (1, 4)
    assert tagging.trim_spaces(2, 3, is_space) is None


def test_white_space_can_only_be_outside_or_inside() -> None:
    possible = tagging.possible_tags(2, np.array([False, True]))
    names = tagging.tag_names(["X", "Y"])
    assert possible[0].all()
    assert [names[i] for i in np.flatnonzero(possible[1])] == ["O", "I-X", "I-Y"]


@pytest.mark.parametrize(("n_labels", "length"), [(1, 5), (2, 4)])
def test_many_paths_are_read_as_each_of_them(n_labels: int, length: int) -> None:
    legal = []
    for tags in product(range(tagging.count_tags(n_labels)), repeat=length):
        try:
            spans = tagging.tags_to_spans(tags)
        except ValueError:
            with pytest.raises(ValueError, match=r"not legal|never closed"):
                tagging.paths_to_spans(np.array([tags]))
            continue
        legal.append((tags, spans))
    found = tagging.paths_to_spans(np.array([tags for tags, _ in legal]))
    assert found.tolist() == [[i, *span] for i, (_, spans) in enumerate(legal) for span in spans]
