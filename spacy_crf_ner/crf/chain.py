"""Linear-chain CRFs as torch modules: one chain over all labels, or one small chain a label.

Both keep learned scores (parameters) and hard constraints (buffers) apart: a move that is not legal has
no probability, whatever was learned. The constraints hold in likelihood, marginals and decoding alike.
"""

from typing import List, Optional

import torch
from torch import Tensor, nn
from torchcrf import CRF

from .. import tagging
from .recursions import (
    FORBIDDEN,
    Chain,
    ForwardBackward,
    forward_backward,
    log_normalizer,
    path_score,
    viterbi,
)


def _forbid(scores: Tensor, legal: Tensor) -> Tensor:
    return scores.masked_fill(~legal, FORBIDDEN)


class _ChainMaths:
    """What can be asked of chains whose move scores `scores(batch)` gives.

    Everywhere: emissions (batch, time, tags); lengths int64 on the CPU, (batch,), each >= 1; `possible`
    a bool tensor (batch, time, tags), False where a token cannot have a tag (None: everything can be).
    """

    def scores(self, batch: int) -> Chain:
        raise TypeError(f"{type(self).__name__} has to say what its move scores are.")

    def log_likelihood(
        self, emissions: Tensor, tags: Tensor, lengths: Tensor, possible: Optional[Tensor] = None
    ) -> Tensor:
        """log P(what is known of the tags), summed over every tag that an unknown token may have.

        tags (Tensor): int64, (batch, time), UNKNOWN (-1) where the tag is not known.
        RETURNS (Tensor): nats, (batch,).
        """
        chain = self.scores(len(emissions))
        free = restrict(emissions, possible)
        inside = torch.arange(tags.shape[1], device=tags.device) < lengths.to(tags.device)[:, None]
        if ((tags == tagging.UNKNOWN) & inside).any():
            known = log_normalizer(restrict(free, allowed_by(tags, emissions.shape[2])), chain, lengths)
        else:
            known = path_score(free, chain, tags, lengths)
        return known - log_normalizer(free, chain, lengths)

    def forward_backward(
        self, emissions: Tensor, lengths: Tensor, possible: Optional[Tensor] = None, temperature: float = 1.0
    ) -> ForwardBackward:
        """Forward and backward scores, from which every marginal follows; all scores divided by `temperature`."""
        chain = self.scores(len(emissions))
        free = restrict(emissions, possible)
        if temperature != 1.0:
            chain = Chain(*(part / temperature for part in chain))
            free = free / temperature
        return forward_backward(free, chain, lengths)

    def best_paths(self, emissions: Tensor, lengths: Tensor, possible: Optional[Tensor] = None) -> Tensor:
        """Most probable legal tags, int64, (batch, time), 0 where padded."""
        return viterbi(restrict(emissions, possible), self.scores(len(emissions)), lengths)


def restrict(emissions: Tensor, possible: Optional[Tensor]) -> Tensor:
    """Emissions with FORBIDDEN wherever a token cannot have a tag."""
    return emissions if possible is None else _forbid(emissions, possible)


def allowed_by(tags: Tensor, n_tags: int) -> Tensor:
    """Which tags agree with gold that may be UNKNOWN. RETURNS: bool, tags.shape + (n_tags,)."""
    every = torch.arange(n_tags, device=tags.device)
    return (tags[..., None] == every) | (tags[..., None] == tagging.UNKNOWN)


class LinearChainCRF(_ChainMaths, CRF):
    """One chain over all tags: pytorch-crf's module, with hard constraints and exact marginals.

    Constructor, parameters and parameter names, `forward` and `decode` are those of `torchcrf.CRF`; its
    Python loops and their autograd through time are replaced by `recursions`. The constraints are not in
    the state dict: they follow from the labels.

    num_tags (int): Number of tags.
    batch_first (bool): For `forward` and `decode`: (batch, time, tags) rather than (time, batch, tags).
    """

    legal_start: Tensor
    legal_moves: Tensor
    legal_end: Tensor

    def __init__(self, num_tags: int, batch_first: bool = False) -> None:
        super().__init__(num_tags, batch_first)
        self.register_buffer("legal_start", torch.ones(num_tags, dtype=torch.bool), persistent=False)
        self.register_buffer("legal_moves", torch.ones(num_tags, num_tags, dtype=torch.bool), persistent=False)
        self.register_buffer("legal_end", torch.ones(num_tags, dtype=torch.bool), persistent=False)

    @classmethod
    def biluo(cls, n_labels: int) -> "LinearChainCRF":
        """A chain over the BILUO tags of `n_labels` labels, under their constraints."""
        crf = cls(tagging.count_tags(n_labels), batch_first=True)
        crf.legal_start.copy_(torch.from_numpy(tagging.legal_starts(n_labels)))
        crf.legal_moves.copy_(torch.from_numpy(tagging.legal_moves(n_labels)))
        crf.legal_end.copy_(torch.from_numpy(tagging.legal_ends(n_labels)))
        return crf

    def scores(self, batch: int) -> Chain:
        return Chain(
            _forbid(self.transitions, self.legal_moves)[None],
            _forbid(self.start_transitions, self.legal_start)[None],
            _forbid(self.end_transitions, self.legal_end)[None],
        )

    # The three steps in which torchcrf.CRF does its work; time comes first in all of them.

    def _compute_score(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        chain = self.scores(emissions.shape[1])
        return path_score(emissions.transpose(0, 1), chain, tags.transpose(0, 1), _lengths(mask))

    def _compute_normalizer(self, emissions: Tensor, mask: Tensor) -> Tensor:
        return log_normalizer(emissions.transpose(0, 1), self.scores(emissions.shape[1]), _lengths(mask))

    def _viterbi_decode(self, emissions: Tensor, mask: Tensor) -> List[List[int]]:
        lengths = _lengths(mask)
        tags = viterbi(emissions.transpose(0, 1), self.scores(emissions.shape[1]), lengths).tolist()
        return [row[:length] for row, length in zip(tags, lengths.tolist())]


def _lengths(mask: Tensor) -> Tensor:
    """Sequence lengths from torchcrf's (time, batch) prefix mask."""
    return mask.long().sum(0).cpu()


class PerLabelChains(_ChainMaths, nn.Module):
    """One BILUO chain of five tags a label, so that entities of different labels may overlap.

    A batch for it holds `n_labels` sequences a document: document 0 with label 0, with label 1, and so
    on; emissions are (documents * labels, time, 5).
    """

    legal_start: Tensor
    legal_moves: Tensor
    legal_end: Tensor

    def __init__(self, n_labels: int) -> None:
        super().__init__()
        self.n_labels = n_labels
        self.start_transitions = nn.Parameter(torch.empty(n_labels, 5))
        self.end_transitions = nn.Parameter(torch.empty(n_labels, 5))
        self.transitions = nn.Parameter(torch.empty(n_labels, 5, 5))
        self.register_buffer("legal_start", torch.from_numpy(tagging.legal_starts(1)), persistent=False)
        self.register_buffer("legal_moves", torch.from_numpy(tagging.legal_moves(1)), persistent=False)
        self.register_buffer("legal_end", torch.from_numpy(tagging.legal_ends(1)), persistent=False)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1)

    def scores(self, batch: int) -> Chain:
        documents = batch // self.n_labels
        return Chain(
            _forbid(self.transitions, self.legal_moves).repeat(documents, 1, 1),
            _forbid(self.start_transitions, self.legal_start).repeat(documents, 1),
            _forbid(self.end_transitions, self.legal_end).repeat(documents, 1),
        )
