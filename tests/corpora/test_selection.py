from itertools import product

import numpy as np
import pytest
import spacy

from spacy_crf_ner.corpora.selection import choose, least_sure, word_vectors


def test_the_chosen_are_those_of_greedy_k_centre() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        vectors, unsure = rng.normal(size=(9, 3)), rng.random(9)
        chosen = choose(unsure, vectors, 4)
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        expected = [int(unsure.argmax())]
        while len(expected) < 4:
            left = [i for i in range(9) if i not in expected]
            far = {i: min(np.linalg.norm(unit[i] - unit[j]) for j in expected) for i in left}
            expected.append(max(left, key=lambda i: far[i]))
        assert chosen == expected


def test_equally_far_ones_come_by_uncertainty_then_by_place() -> None:
    same = np.ones((4, 2))
    assert choose(np.array([0.1, 0.7, 0.3, 0.7]), same, 4) == [1, 3, 2, 0]
    assert least_sure(np.array([0.1, 0.7, 0.3, 0.7]), 3) == [1, 3, 2]
    assert choose(np.array([0.1, 0.2]), same[:2], 9) == [1, 0]


def test_two_choices_are_nearly_as_far_apart_as_can_be() -> None:
    """Greedy k-centre is at most twice as bad as the best one (Gonzalez 1985)."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        vectors = rng.normal(size=(8, 2))
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        apart = np.linalg.norm(unit[:, None] - unit, axis=-1)
        best = min(apart[list(pair)].min(0).max() for pair in product(range(8), repeat=2))
        assert apart[choose(rng.random(8), vectors, 2)].min(0).max() <= 2 * best + 1e-9


def test_word_vectors_weigh_rare_words() -> None:
    nlp = spacy.blank("en")
    texts = ["the rash", "the the fever", "The rash fever", "the"]
    found = word_vectors([nlp.make_doc(text) for text in texts])
    # "the" is in all of them: log(5/5) = 0
    assert not found[3].any()
    assert found[2] == pytest.approx(found[0] + found[1])
    assert sorted(found[0][found[0] > 0].tolist()) == pytest.approx([np.log(5 / 3)])
