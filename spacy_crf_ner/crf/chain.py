"""Linear-chain CRFs as torch modules: one chain over all labels, or one small chain a label.

Both keep learned scores (parameters) and hard constraints (buffers) apart: a move that is not legal has
no probability, whatever was learned. The constraints hold in likelihood, marginals and decoding alike.
"""

from typing import List, Optional, Tuple

import torch
from torch import Tensor, nn
from torchcrf import CRF

from .. import tagging
from . import recursions
from .log_domain import TokenScores
from .recursions import FORBIDDEN, Chain, ForwardBackward, is_forbidden, log_normalizer, path_score, token_mask, working


def _forbid(scores: Tensor, legal: Tensor) -> Tensor:
    return scores.masked_fill(~legal, FORBIDDEN)


class _ChainMaths:
    """What can be asked of chains whose move scores `scores()` gives.

    Everywhere: emissions (batch, time, tags); lengths int64 on the CPU, (batch,), each >= 1; `possible`
    a bool tensor (batch, time, tags), False where a token cannot have a tag (None: everything can be).
    Log probabilities are in nats and float64.
    """

    def scores(self) -> Chain:
        raise TypeError(f"{type(self).__name__} has to say what its move scores are.")

    def log_likelihood(
        self,
        emissions: Tensor,
        tags: Tensor,
        lengths: Tensor,
        possible: Optional[Tensor] = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """log P(what is known of the tags), summed over every tag that an unknown token may have.

        With all tags known this is the log probability of the sequence.

        tags (Tensor): int64, (batch, time), UNKNOWN (-1) where the tag is not known.
        RETURNS (Tensor): (batch,).
        RAISES (ValueError): The tags of a sequence are not legal.
        """
        free, chain = self._tempered(emissions, possible, temperature)
        if ((tags == tagging.UNKNOWN) & token_mask(emissions, lengths)).any():
            known = log_normalizer(restrict(free, allowed_by(tags, emissions.shape[2])), chain, lengths)
        else:
            known = _legal(path_score(free, chain, tags, lengths))
        return known - log_normalizer(free, chain, lengths)

    def log_token_probability(
        self, emissions: Tensor, lengths: Tensor, wanted: Tensor, possible: Optional[Tensor] = None
    ) -> Tensor:
        """log P(tag at t is one of the wanted), (batch, time), 0 where padded. wanted: bool, (batch, time, tags)."""
        free = restrict(emissions, possible)
        return recursions.log_token_probability(free, self.scores(), lengths, wanted)

    def token_marginals(
        self, emissions: Tensor, lengths: Tensor, possible: Optional[Tensor] = None, temperature: float = 1.0
    ) -> Tensor:
        """P(tag at t), (batch, time, tags), 0 where padded; no gradient."""
        return recursions.token_marginals(*self._tempered(emissions, possible, temperature), lengths)

    def forward_backward(
        self, emissions: Tensor, lengths: Tensor, possible: Optional[Tensor] = None, temperature: float = 1.0
    ) -> ForwardBackward:
        """Forward and backward scores, from which every marginal follows; all scores divided by `temperature`."""
        return recursions.forward_backward(*self._tempered(emissions, possible, temperature), lengths)

    def per_token(
        self, emissions: Tensor, lengths: Tensor, possible: Optional[Tensor] = None, temperature: float = 1.0
    ) -> TokenScores:
        """Forward and backward scores of single tokens, without those of all the others."""
        return recursions.per_token(*self._tempered(emissions, possible, temperature), lengths)

    def entropy(
        self, emissions: Tensor, lengths: Tensor, possible: Optional[Tensor] = None, temperature: float = 1.0
    ) -> Tensor:
        """How undecided the chain is between sequences, (batch,); no gradient."""
        return recursions.entropy(*self._tempered(emissions, possible, temperature), lengths)

    def best_paths(self, emissions: Tensor, lengths: Tensor, possible: Optional[Tensor] = None) -> Tensor:
        """Most probable legal tags, int64, (batch, time), 0 where padded."""
        return recursions.viterbi(restrict(emissions, possible), self.scores(), lengths)

    def n_best_paths(
        self, emissions: Tensor, lengths: Tensor, n: int, possible: Optional[Tensor] = None
    ) -> Tuple[Tensor, Tensor]:
        """The n most probable legal sequences, (batch, n, time), and log P of each, -inf where there are fewer."""
        return recursions.n_best(restrict(emissions, possible), self.scores(), lengths, n)

    def _tempered(self, emissions: Tensor, possible: Optional[Tensor], temperature: float) -> Tuple[Tensor, Chain]:
        if temperature == 1:
            return restrict(emissions, possible), self.scores()
        return (
            restrict(emissions / temperature, possible),
            Chain(*(part / temperature for part in self.scores())),
        )


def restrict(emissions: Tensor, possible: Optional[Tensor]) -> Tensor:
    """Emissions with FORBIDDEN wherever a token cannot have a tag, float32 or float64."""
    emissions = working(emissions)
    return emissions if possible is None else _forbid(emissions, possible)


def allowed_by(tags: Tensor, n_tags: int) -> Tensor:
    """Which tags agree with gold that may be UNKNOWN. RETURNS: bool, tags.shape + (n_tags,)."""
    every = torch.arange(n_tags, device=tags.device)
    return (tags[..., None] == every) | (tags[..., None] == tagging.UNKNOWN)


class LinearChainCRF(_ChainMaths, CRF):
    """One chain over all tags: pytorch-crf's module, with hard constraints and exact marginals.

    Constructor, parameters and parameter names, `forward` and `decode` are those of `torchcrf.CRF`; its
    Python loops and their autograd through time are replaced by `recursions`. A mask with gaps is an error: there
    it gives a sum over something else. The constraints are not in the state dict: they follow from the labels.

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

    def scores(self) -> Chain:
        return Chain(
            _forbid(self.transitions, self.legal_moves)[None],
            _forbid(self.start_transitions, self.legal_start)[None],
            _forbid(self.end_transitions, self.legal_end)[None],
        )

    def forward(self, emissions: Tensor, tags: Tensor, mask: Optional[Tensor] = None, reduction: str = "sum") -> Tensor:
        """As `torchcrf.CRF.forward`; worked in float64, and given in the parameters' precision or the emissions'."""
        likelihood = super().forward(emissions, tags, mask, reduction)
        return likelihood.to(torch.promote_types(emissions.dtype, self.transitions.dtype))

    # The three steps in which torchcrf.CRF does its work; time comes first in all of them.

    def _compute_score(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        score = path_score(emissions.transpose(0, 1), self.scores(), tags.transpose(0, 1), _lengths(mask))
        return _legal(score)

    def _compute_normalizer(self, emissions: Tensor, mask: Tensor) -> Tensor:
        return log_normalizer(emissions.transpose(0, 1), self.scores(), _lengths(mask))

    def _viterbi_decode(self, emissions: Tensor, mask: Tensor) -> List[List[int]]:
        lengths = _lengths(mask)
        tags = recursions.viterbi(emissions.transpose(0, 1), self.scores(), lengths).tolist()
        return [row[:length] for row, length in zip(tags, lengths.tolist())]


def _legal(scores: Tensor) -> Tensor:
    """Scores of given sequences. RAISES (ValueError): One of them is forbidden."""
    wrong = torch.nonzero(is_forbidden(scores))[:, 0]
    if len(wrong):
        raise ValueError(f"The tags of sequence {int(wrong[0])} of the batch are not legal in this chain.")
    return scores


def _lengths(mask: Tensor) -> Tensor:
    """Sequence lengths from torchcrf's (time, batch) mask. RAISES (ValueError): A gap in a sequence."""
    mask = mask.bool()
    if (mask[1:] & ~mask[:-1]).any():
        raise ValueError("The mask has gaps: each sequence must be on from its first token to its last.")
    return mask.sum(0).cpu()


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

    def scores(self) -> Chain:
        return Chain(
            _forbid(self.transitions, self.legal_moves),
            _forbid(self.start_transitions, self.legal_start),
            _forbid(self.end_transitions, self.legal_end),
        )
