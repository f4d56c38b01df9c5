"""Which documents to take out of many: the least sure, and of those the ones that differ most."""

from typing import List, Sequence

import numpy as np
from spacy.tokens import Doc

COLUMNS = 4096


def choose(uncertainty: np.ndarray, vectors: np.ndarray, n: int) -> List[int]:
    """The n documents that lie farthest from each other, the least sure one first.

    uncertainty (np.ndarray): float, (documents,). vectors (np.ndarray): One for each document, float, (documents,
        width); their length does not count.
    RETURNS (List[int]): Each after the first is farthest from the nearest of those before it (greedy k-centre, Gonzalez
        1985); of equally far ones the least sure, then the first.
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(lengths > 0, lengths, 1)
    rank = np.empty(len(uncertainty), dtype=int)
    rank[np.argsort(-uncertainty, kind="stable")] = np.arange(len(uncertainty))
    nearness = np.full(len(unit), -np.inf)
    chosen: List[int] = []
    for _ in range(min(n, len(unit))):
        best = int(np.lexsort([rank, nearness])[0])
        chosen.append(best)
        nearness = np.maximum(nearness, np.round(unit @ unit[best], 6))
        nearness[chosen] = np.inf
    return chosen


def least_sure(uncertainty: np.ndarray, n: int) -> List[int]:
    """The n documents with the largest uncertainty, that with the largest first; of equals the first."""
    return np.argsort(-uncertainty, kind="stable")[:n].tolist()


def word_vectors(docs: Sequence[Doc]) -> np.ndarray:
    """tf-idf of the documents' words, hashed into 4,096 columns; float32, (documents, 4096)."""
    counts = np.zeros((len(docs), COLUMNS), dtype=np.float32)
    for row, doc in zip(counts, docs):
        for token in doc:
            if not token.is_space:
                row[token.lower % COLUMNS] += 1
    seen = (counts > 0).sum(0)
    return counts * np.log((1 + len(docs)) / (1 + seen)).astype(np.float32)
