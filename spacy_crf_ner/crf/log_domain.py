"""The recursions of linear chains in the log domain: slow, and right whatever the scores are.

`recursions` works most sequences in another way and comes here for those that need it: where a path
that counts lies hundreds of nats behind another one, and nothing may underflow.

Shapes: emissions (batch, time, tags); transitions (1 or batch, tags, tags), from row to column; start
and end (1 or batch, tags); lengths int64 on the CPU, (batch,), each from 1 to time. Sequences are worked
longest first, and one that has ended takes no further work.
"""

from typing import List, NamedTuple, Protocol, Tuple

import torch
from torch import Tensor

# A score that forbids something: a large finite number, so that sums of it stay finite and its exponential
# is exactly 0; gradients never meet inf - inf.
FORBIDDEN = -1e30


def is_forbidden(scores: Tensor) -> Tensor:
    """Whether a score, or a sum of scores, holds one that forbids, also after division by a temperature."""
    return scores < 1e-9 * FORBIDDEN


def token_mask(emissions: Tensor, lengths: Tensor) -> Tensor:
    """Which places hold a token, bool, (batch, time). emissions: Anything (batch, time, ...)."""
    return torch.arange(emissions.shape[1], device=emissions.device) < lengths.to(emissions.device)[:, None]


class Chain(NamedTuple):
    """The scores of one or more chains; FORBIDDEN where a move is not legal.

    Sequence i of a batch goes by chain i modulo the number of chains.

    transitions (Tensor): (chains, tags, tags), from row to column.
    start (Tensor): Score of a tag on the first token, (chains, tags).
    end (Tensor): Score of a tag on the last token, (chains, tags).
    """

    transitions: Tensor
    start: Tensor
    end: Tensor

    def of_rows(self, rows: Tensor) -> "Chain":
        """The chains of some sequences of the batch, one each; a single chain stays one."""
        return Chain(*(part if len(part) == 1 else part[rows % len(part)] for part in self))

    def first(self, n: int) -> "Chain":
        return Chain(*(part if len(part) == 1 else part[:n] for part in self))


class Counts(NamedTuple):
    """Expected number of times that each score is used, weighted and summed over sequences.

    emissions (Tensor): Not summed: (batch, time, tags), 0 where padded.
    transitions, start, end (Tensor): In the shapes of `Chain`.
    """

    emissions: Tensor
    transitions: Tensor
    start: Tensor
    end: Tensor


class TokenScores(Protocol):
    """What can be asked of single tokens of a batch whose messages are known.

    row, token, tag: int64, (asked,), none of them in the padding.
    """

    def log_left(self, row: Tensor, token: Tensor, tag: Tensor) -> Tensor:
        """Log mass of all that leads to a tag, its own score in it, but for the offset; float64, (asked,)."""

    def log_right(self, row: Tensor, token: Tensor, tag: Tensor) -> Tensor:
        """Log mass of all that can follow on a tag, but for the offset; float64, (asked,)."""

    def log_mass(self, row: Tensor, token: Tensor) -> Tensor:
        """log Z as it looks from a token, but for both offsets there; float64, (asked,)."""

    def offsets(self) -> Tuple[Tensor, Tensor]:
        """What was taken off each step on the left and on the right, float64, (batch, time) each."""

    def marginals(self) -> Tensor:
        """P(tag at t), (batch, time, tags); what stands in the padding means nothing."""


class ForwardBackward(NamedTuple):
    """Rescaled forward and backward log scores of a batch, in its own order, 0 where padded.

    alpha, beta (Tensor): (batch, time, tags); a step's emission is in alpha, not in beta.
    alpha_offset, beta_offset (Tensor): What was taken off each step, float64, (batch, time).
    log_z (Tensor): float64, (batch,).

    P(tag k at t) = exp(alpha[t, k] + beta[t, k] + alpha_offset[t] + beta_offset[t] - log_z); rounding adds up over
    thousands of tokens in that difference, so that it is better to normalise where it is used.
    """

    alpha: Tensor
    beta: Tensor
    alpha_offset: Tensor
    beta_offset: Tensor
    log_z: Tensor

    def log_marginals(self) -> Tensor:
        """log P(tag at t), normalised at each token, (batch, time, tags)."""
        return torch.log_softmax(self.alpha + self.beta, -1)

    # As TokenScores has it

    def log_left(self, row: Tensor, token: Tensor, tag: Tensor) -> Tensor:
        return self.alpha[row, token, tag].double()

    def log_right(self, row: Tensor, token: Tensor, tag: Tensor) -> Tensor:
        return self.beta[row, token, tag].double()

    def log_mass(self, row: Tensor, token: Tensor) -> Tensor:
        return torch.logsumexp(self.alpha[row, token].double() + self.beta[row, token], -1)

    def offsets(self) -> Tuple[Tensor, Tensor]:
        return self.alpha_offset, self.beta_offset

    def marginals(self) -> Tensor:
        return self.log_marginals().exp()


def forward_backward(emissions: Tensor, chain: Chain, lengths: Tensor) -> ForwardBackward:
    """Forward and backward scores of a batch of chains; differentiable by autograd through time.

    Forward–backward of Rabiner (1989), section III.A, each step rescaled to a maximum of 0.
    """
    ordered, chain, live, rows = _longest_first(emissions, chain, lengths)
    alphas, alpha_offsets = _forward(ordered, chain, live)
    betas, beta_offsets = _backward(ordered, chain, live)
    log_z = _finish(alphas, alpha_offsets, chain, live, len(ordered))
    back = torch.argsort(rows)
    batch, time = emissions.shape[:2]

    def pad(steps: List[Tensor]) -> Tensor:
        full = [torch.nn.functional.pad(s, [0, 0] * (s.dim() - 1) + [0, batch - len(s)]) for s in steps]
        full += [torch.zeros_like(full[0])] * (time - len(full))
        return torch.stack(full, 1)[back]

    return ForwardBackward(pad(alphas), pad(betas), pad(alpha_offsets), pad(beta_offsets), log_z[back])


def expected_counts(
    scores: ForwardBackward, emissions: Tensor, chain: Chain, lengths: Tensor, weight: Tensor
) -> Counts:
    """Expected counts of every score, which are the gradient of sum(weight * log Z).

    weight (Tensor): (batch,).
    """
    on = token_mask(emissions, lengths)
    marginals = scores.log_marginals().exp() * (weight[:, None] * on)[..., None]
    d_moves = torch.zeros_like(chain.transitions)
    for t in range(1, emissions.shape[1]):
        arrive = emissions[:, t] + scores.beta[:, t]
        pair = scores.alpha[:, t - 1, :, None] + chain.transitions + arrive[:, None]
        # normalised by this very step, so that rounding does not add up over time
        pair = torch.softmax(pair.flatten(1), 1).view_as(pair) * (weight * on[:, t])[:, None, None]
        d_moves += pair.sum(0, keepdim=True) if len(d_moves) == 1 else pair
    last = marginals.gather(1, (lengths.to(marginals.device) - 1)[:, None, None].expand(-1, 1, marginals.shape[2]))
    first = marginals[:, 0]
    if len(chain.start) == 1:
        return Counts(marginals, d_moves, first.sum(0, keepdim=True), last[:, 0].sum(0, keepdim=True))
    return Counts(marginals, d_moves, first, last[:, 0])


def expected_score(scores: ForwardBackward, emissions: Tensor, chain: Chain, lengths: Tensor) -> Tensor:
    """Mean score of each sequence under its chain, (batch,)."""
    total = torch.zeros(len(emissions), dtype=emissions.dtype, device=emissions.device)
    own = Chain(*(part.expand(len(emissions), *part.shape[1:]) for part in chain))
    for i in range(len(emissions)):
        alone = ForwardBackward(*(part[i : i + 1] for part in scores))
        single = Chain(*(part[i : i + 1] for part in own))
        counts = expected_counts(alone, emissions[i : i + 1], single, lengths[i : i + 1], total.new_ones(1))
        for count, score in zip(counts, (emissions[i : i + 1], *single)):
            total[i] += (count * score).sum()
    return total


def n_best(emissions: Tensor, chain: Chain, lengths: Tensor, n: int) -> Tuple[Tensor, Tensor]:
    """The n best tag sequences. RETURNS: tags (batch, n, time), 0 where padded, and scores (batch, n)."""
    ordered, chain, live, rows = _longest_first(emissions, chain, lengths)
    tags_n = ordered.shape[2]
    ends = chain.end.expand(len(ordered), -1)
    # the best n ways to each tag: (live, tags, n)
    best = ordered.new_full((len(ordered), tags_n, n), -torch.inf)
    best[:, :, 0] = chain.start + ordered[:, 0]
    origins: List[Tensor] = []
    steps = [best]
    for t in range(1, len(live)):
        k = live[t]
        ways = best[:k, :, :, None] + chain.first(k).transitions[:, :, None]  # (live, from, n, to)
        best, origin = ways.flatten(1, 2).topk(n, dim=1)
        best = best.transpose(1, 2) + ordered[:k, t, :, None]
        origins.append(origin.transpose(1, 2))  # from * n + rank
        steps.append(best)
    found = torch.zeros(len(ordered), n, emissions.shape[1], dtype=torch.int64, device=emissions.device)
    scores = ordered.new_zeros(len(ordered), n)
    place = found.new_zeros(0, n)
    for t in range(len(live) - 1, -1, -1):
        if t + 1 < len(live):
            place = origins[t].flatten(1).gather(1, place)
        ended = slice(len(place), live[t])
        final, last = (steps[t][ended] + ends[ended][..., None]).flatten(1).topk(n, dim=1)
        scores[ended] = final
        place = torch.cat([place, last])
        found[: live[t], :, t] = place // n
    back = torch.argsort(rows)
    return found[back], scores[back]


def _longest_first(emissions: Tensor, chain: Chain, lengths: Tensor) -> Tuple[Tensor, Chain, List[int], Tensor]:
    """Sort by length. RETURNS: emissions, chain, number of live sequences at each step, the order."""
    order = torch.argsort(lengths, descending=True, stable=True)
    ordered = lengths[order]
    live = (ordered[None] > torch.arange(int(ordered[0]))[:, None]).sum(1).tolist()
    rows = order.to(emissions.device)
    return emissions[rows], chain.of_rows(rows), live, rows


def _rescale(scores: Tensor, offset: Tensor) -> Tuple[Tensor, Tensor]:
    """Move the maximum to 0, and what was taken off into the float64 offset."""
    top = scores.amax(-1).detach()
    return scores - top[:, None], offset + top.double()


def _forward(emissions: Tensor, chain: Chain, live: List[int]) -> Tuple[List[Tensor], List[Tensor]]:
    """Forward scores of sorted sequences: a list over time of rescaled (live, tags) and offsets (live,)."""
    offset = torch.zeros(len(emissions), dtype=torch.float64, device=emissions.device)
    # unbound once: slicing at each step would cost the gradient a whole batch a step
    steps = emissions.unbind(1)
    alpha, offset = _rescale(chain.start + steps[0], offset)
    alphas, offsets = [alpha], [offset]
    for t in range(1, len(live)):
        n = live[t]
        moves = alpha[:n, :, None] + chain.first(n).transitions  # (live, from, to)
        alpha, offset = _rescale(torch.logsumexp(moves, 1) + steps[t][:n], offset[:n])
        alphas.append(alpha)
        offsets.append(offset)
    return alphas, offsets


def _backward(emissions: Tensor, chain: Chain, live: List[int]) -> Tuple[List[Tensor], List[Tensor]]:
    """Backward scores of sorted sequences, in the form of `_forward`; the emission of a step is not in its score."""
    last = len(live) - 1
    ends = chain.end.expand(len(emissions), -1)
    steps = emissions.unbind(1)
    zeros = torch.zeros(len(emissions), dtype=torch.float64, device=emissions.device)
    beta, offset = _rescale(ends[: live[last]], zeros[: live[last]])
    betas, offsets = [beta], [offset]
    for t in range(last, 0, -1):
        n, before = live[t], live[t - 1]
        moves = chain.first(n).transitions + (steps[t][:n] + beta)[:, None]  # (live, from, to)
        # sequences whose last token is t - 1 join here
        beta = torch.cat([torch.logsumexp(moves, 2), ends[n:before]])
        beta, offset = _rescale(beta, torch.cat([offset, zeros[n:before]]))
        betas.append(beta)
        offsets.append(offset)
    return betas[::-1], offsets[::-1]


def _finish(alphas: List[Tensor], offsets: List[Tensor], chain: Chain, live: List[int], batch: int) -> Tensor:
    """log Z of sorted sequences from their forward scores, float64, (batch,)."""
    ends = chain.end.expand(batch, -1)
    log_z = []
    for t in range(len(live) - 1, -1, -1):
        ended = slice(live[t + 1] if t + 1 < len(live) else 0, live[t])
        log_z.append(torch.logsumexp(alphas[t][ended] + ends[ended], -1).double() + offsets[t][ended])
    return torch.cat(log_z)
