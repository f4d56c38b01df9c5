"""A linear chain by enumeration of all its sequences: slow, and right."""

from typing import Dict, Iterator, List, Optional, Tuple

import torch
from torch import Tensor

from spacy_crf_ner.crf.recursions import Chain


def every(emissions: Tensor, chain: Chain, allowed: Optional[Tensor] = None) -> Tuple[Tensor, Tensor]:
    """All tag sequences of one chain, (time, tags), that are possible: tags (sequences, time), scores (sequences,)."""
    transitions, start, end = (part[0] for part in chain)
    time, n_tags = emissions.shape
    paths = torch.cartesian_prod(*[torch.arange(n_tags)] * time).view(-1, time)
    score = start[paths[:, 0]] + end[paths[:, -1]] + emissions[torch.arange(time), paths].sum(1)
    score = score + transitions[paths[:, :-1], paths[:, 1:]].sum(1)
    possible = score.detach() > -1e29
    if allowed is not None:
        possible = possible & allowed[torch.arange(time), paths].all(1)
    return paths[possible], score[possible]


def sequences(
    emissions: Tensor, chain: Chain, allowed: Optional[Tensor] = None
) -> Iterator[Tuple[Tuple[int, ...], Tensor]]:
    """The same one by one."""
    for path, score in zip(*every(emissions, chain, allowed)):
        yield tuple(path.tolist()), score


def log_z(emissions: Tensor, chain: Chain, allowed: Optional[Tensor] = None) -> Tensor:
    return torch.logsumexp(every(emissions, chain, allowed)[1], 0)


def marginals(emissions: Tensor, chain: Chain, allowed: Optional[Tensor] = None) -> Tensor:
    """(time, tags)"""
    paths, scores = every(emissions, chain, allowed)
    p = torch.softmax(scores, 0)
    tags = torch.arange(emissions.shape[1])
    return ((paths[..., None] == tags) * p[:, None, None]).sum(0)


def entropy(emissions: Tensor, chain: Chain, allowed: Optional[Tensor] = None) -> Tensor:
    scores = every(emissions, chain, allowed)[1]
    return -(torch.softmax(scores, 0) * torch.log_softmax(scores, 0)).sum()


def best(emissions: Tensor, chain: Chain, allowed: Optional[Tensor] = None) -> List[int]:
    paths, scores = every(emissions, chain, allowed)
    return paths[int(scores.argmax())].tolist()


def ranked(emissions: Tensor, chain: Chain) -> Dict[Tuple[int, ...], float]:
    """log P of every sequence, the likeliest first."""
    paths, scores = every(emissions, chain)
    log_p = torch.log_softmax(scores, 0)
    order = log_p.argsort(descending=True)
    return {tuple(paths[i].tolist()): float(log_p[i]) for i in order}


def part(chain: Chain, i: int) -> Chain:
    """The chain of sequence i."""
    return Chain(*(p[i % len(p)][None] for p in chain))
