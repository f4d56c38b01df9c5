"""What a chain is trained on: the three modes, and the loss for partly annotated documents."""

from typing import Literal, Optional

import torch
from torch import Tensor

from .. import tagging
from .chain import _ChainMaths, allowed_by, restrict
from .recursions import Chain, expected_sum, is_forbidden, log_normalizer, token_mask

Mode = Literal["joint", "marginal", "independent"]
MODES = ("joint", "marginal", "independent")


def sequence_losses(
    crf: _ChainMaths, emissions: Tensor, tags: Tensor, lengths: Tensor, possible: Optional[Tensor], mode: Mode
) -> Tensor:
    """Loss of each sequence, in nats.

    crf: The chain or chains; emissions (batch, time, tags); tags int64 (batch, time), UNKNOWN (-1) where not
        known; lengths int64 on the CPU (batch,); possible bool (batch, time, tags) or None.
    mode (str): With A_t the tags that gold allows at token t,
        "joint"        -log sum of P(y) over all y with y_t in A_t,
        "marginal"     -sum over t of log P(y_t in A_t), each under the chain,
        "independent"  -sum over t of log softmax(emissions_t)[A_t], with no chain at all.
    RETURNS (Tensor): (batch,).
    """
    if mode == "joint":
        return -crf.log_likelihood(emissions, tags, lengths, possible)
    gold = allowed_by(tags, emissions.shape[2])
    return -(_wanted(crf, emissions, lengths, possible, gold, mode)).sum(1)


def _wanted(
    crf: _ChainMaths, emissions: Tensor, lengths: Tensor, possible: Optional[Tensor], wanted: Tensor, mode: Mode
) -> Tensor:
    """log P(tag at t is one of the wanted): under the chain, or in mode "independent" under each token's softmax.

    RETURNS (Tensor): nats, (batch, time), 0 where padded.
    """
    if mode != "independent":
        return crf.log_token_probability(emissions, lengths, wanted, possible)
    scores = torch.log_softmax(restrict(emissions, possible), -1)
    return torch.logsumexp(restrict(scores, wanted), -1) * token_mask(emissions, lengths)


def entity_ratio_loss(
    crf: _ChainMaths,
    emissions: Tensor,
    lengths: Tensor,
    possible: Optional[Tensor],
    mode: Mode,
    ratio: float,
    margin: float,
) -> Tensor:
    """How far the expected share of entity tokens in the batch lies outside ratio ± margin.

    max(0, |E[entity tokens] / tokens - ratio| - margin), the expectation under the chain (in mode
    "independent" under its token probabilities): the expected-entity-ratio loss of Effland & Collins (2021),
    "Partially Supervised Named Entity Recognition via the Expected Entity Ratio Loss", TACL 9.

    RETURNS (Tensor): ().
    """
    is_outside = torch.zeros_like(emissions, dtype=torch.bool)
    is_outside[..., tagging.OUTSIDE] = True
    on = token_mask(emissions, lengths)
    outside = _wanted(crf, emissions, lengths, possible, is_outside, mode).exp()
    expected = ((1 - outside) * on).sum() / on.sum()
    return torch.relu((expected - ratio).abs() - margin)


def symmetric_divergence(
    crf: _ChainMaths, emissions: Tensor, others: Tensor, lengths: Tensor, possible: Optional[Tensor], mode: Mode
) -> Tensor:
    """KL(p || q) + KL(q || p) of what two passes through a model say of the same sequences.

    emissions, others (Tensor): Of the two passes, (batch, time, tags). The other parameters are those of
        `sequence_losses`; p and q are distributions over whole sequences, under the chain, or in mode "independent"
        over the tags of each token by itself.
    RETURNS (Tensor): nats, float64, (batch,), with a gradient for both passes and for the chain.

    Both passes have the same move scores, so that log p - log q is a sum over tokens of the difference of their
    emissions, but for a constant: the divergence is the mean of that sum under p less its mean under q. It is the
    regulariser of R-Drop (Wu et al. 2021, "R-Drop: Regularized Dropout for Neural Networks", NeurIPS 34).
    """
    first, second = restrict(emissions, possible), restrict(others, possible)
    apart = first - second  # 0 for tags that are not possible
    if mode != "independent":
        chain = crf.scores()
        return expected_sum(first, chain, lengths, apart) - expected_sum(second, chain, lengths, apart)
    shares = first.double().softmax(-1) - second.double().softmax(-1)
    return ((shares * apart).sum(-1) * token_mask(emissions, lengths)).sum(1)


def distillation_loss(
    emissions: Tensor, chain: Chain, teacher_emissions: Tensor, teacher: Chain, lengths: Tensor
) -> Tensor:
    """KL(teacher || student) between whole chains over the same tags, up to a constant, in nats, summed, ().

    The cross-entropy of two chains needs only the teacher's expected counts: they are the gradient of its
    log Z.

    emissions, teacher_emissions (Tensor): (batch, time, tags). chain, teacher (Chain): Their move scores.
    """
    with torch.enable_grad():
        parts = [part.detach().clone().requires_grad_() for part in (teacher_emissions, *teacher)]
        counts = torch.autograd.grad(log_normalizer(parts[0], Chain(*parts[1:]), lengths).sum(), parts)
    # what is forbidden is not expected
    expected = sum(
        (torch.where(is_forbidden(part), 0.0, part) * count).sum() for count, part in zip(counts, [emissions, *chain])
    )
    return log_normalizer(emissions, chain, lengths).sum() - expected
