"""A linear chain by enumeration of all its sequences: slow, and right."""

from itertools import product
from typing import Iterator, List, Optional, Tuple

import torch
from torch import Tensor

from spacy_crf_ner.crf.recursions import Chain


def sequences(
    emissions: Tensor, chain: Chain, allowed: Optional[Tensor] = None
) -> Iterator[Tuple[Tuple[int, ...], Tensor]]:
    """All tag sequences of one chain, (time, tags), that are possible, and their scores."""
    transitions, start, end = (part[0] for part in chain)
    time, n_tags = emissions.shape
    for tags in product(range(n_tags), repeat=time):
        if allowed is not None and not all(allowed[t, k] for t, k in enumerate(tags)):
            continue
        score = start[tags[0]] + end[tags[-1]] + sum(emissions[t, k] for t, k in enumerate(tags))
        score = score + sum(transitions[a, b] for a, b in zip(tags, tags[1:]))
        if score > -1e29:
            yield tags, score


def log_z(emissions: Tensor, chain: Chain, allowed: Optional[Tensor] = None) -> Tensor:
    return torch.logsumexp(torch.stack([score for _, score in sequences(emissions, chain, allowed)]), 0)


def marginals(emissions: Tensor, chain: Chain, allowed: Optional[Tensor] = None) -> Tensor:
    """(time, tags)"""
    total = torch.zeros_like(emissions)
    z = log_z(emissions, chain, allowed)
    for tags, score in sequences(emissions, chain, allowed):
        for t, k in enumerate(tags):
            total = total.index_put((torch.tensor(t), torch.tensor(k)), (score - z).exp(), accumulate=True)
    return total


def best(emissions: Tensor, chain: Chain, allowed: Optional[Tensor] = None) -> List[int]:
    return list(max(sequences(emissions, chain, allowed), key=lambda item: float(item[1]))[0])


def part(chain: Chain, i: int) -> Chain:
    """The chain of sequence i."""
    return Chain(*(p if len(p) == 1 else p[i : i + 1] for p in chain))
