"""Forward, backward and Viterbi recursions of a batch of linear chains, in plain torch.

All work is done in the log domain, so that nothing underflows however far a legal path lies behind an
illegal one. A score that forbids something is FORBIDDEN, a large finite number: sums of it stay finite
and its exponential is exactly 0, hence gradients never meet inf - inf. Each step is rescaled to a
maximum of 0 and the offsets are summed in float64, so that float32 stays exact over 100,000 steps.

Shapes: emissions (batch, time, tags); transitions (1 or batch, tags, tags), from row to column; start
and end (1 or batch, tags); lengths int64 on the CPU, (batch,), each from 1 to time. Sequences are worked
longest first, and one that has ended takes no further work.
"""

from typing import List, NamedTuple, Tuple

import torch
from torch import Tensor

FORBIDDEN = -1e30


class Chain(NamedTuple):
    """The scores of one or more chains; FORBIDDEN where a move is not legal.

    transitions (Tensor): (1 or batch, tags, tags).
    start (Tensor): Score of a tag on the first token, (1 or batch, tags).
    end (Tensor): Score of a tag on the last token, (1 or batch, tags).
    """

    transitions: Tensor
    start: Tensor
    end: Tensor

    def select(self, rows: Tensor) -> "Chain":
        """The chains of some sequences of the batch; shared chains stay shared."""
        return Chain(*(part if len(part) == 1 else part[rows] for part in self))

    def first(self, n: int) -> "Chain":
        return Chain(*(part if len(part) == 1 else part[:n] for part in self))


def check_lengths(emissions: Tensor, lengths: Tensor) -> None:
    """RAISES (ValueError): A length is below 1 or above the padded time, or there is not one a sequence."""
    if lengths.shape != emissions.shape[:1]:
        raise ValueError(f"{len(emissions)} sequences, but lengths of shape {tuple(lengths.shape)}.")
    if len(lengths) and not 1 <= int(lengths.min()) <= int(lengths.max()) <= emissions.shape[1]:
        raise ValueError(f"Lengths must lie between 1 and {emissions.shape[1]}; got {lengths.tolist()}.")


def _longest_first(emissions: Tensor, chain: Chain, lengths: Tensor) -> Tuple[Tensor, Chain, List[int], Tensor]:
    """Sort by length. RETURNS: emissions, chain, number of live sequences at each step, the order."""
    order = torch.argsort(lengths, descending=True, stable=True)
    ordered = lengths[order]
    live = (ordered[None] > torch.arange(int(ordered[0]))[:, None]).sum(1).tolist()
    rows = order.to(emissions.device)
    return emissions[rows], chain.select(rows), live, rows


def _rescale(scores: Tensor, offset: Tensor) -> Tuple[Tensor, Tensor]:
    """Move the maximum to 0, and what was taken off into the float64 offset."""
    top = scores.amax(-1).detach()
    return scores - top[:, None], offset + top.double()


def _forward(emissions: Tensor, chain: Chain, live: List[int]) -> Tuple[List[Tensor], List[Tensor]]:
    """Forward scores of sorted sequences: a list over time of rescaled (live, tags) and offsets (live,)."""
    offset = torch.zeros(len(emissions), dtype=torch.float64, device=emissions.device)
    alpha, offset = _rescale(chain.start + emissions[:, 0], offset)
    alphas, offsets = [alpha], [offset]
    for t in range(1, len(live)):
        n = live[t]
        moves = alpha[:n, :, None] + chain.first(n).transitions  # (live, from, to)
        alpha, offset = _rescale(torch.logsumexp(moves, 1) + emissions[:n, t], offset[:n])
        alphas.append(alpha)
        offsets.append(offset)
    return alphas, offsets


def _backward(emissions: Tensor, chain: Chain, live: List[int]) -> Tuple[List[Tensor], List[Tensor]]:
    """Backward scores of sorted sequences, in the form of `_forward`; the emission of a step is not in its score."""
    last = len(live) - 1
    ends = chain.end.expand(len(emissions), -1)
    zeros = torch.zeros(len(emissions), dtype=torch.float64, device=emissions.device)
    beta, offset = _rescale(ends[: live[last]], zeros[: live[last]])
    betas, offsets = [beta], [offset]
    for t in range(last, 0, -1):
        n, before = live[t], live[t - 1]
        moves = chain.first(n).transitions + (emissions[:n, t] + beta)[:, None]  # (live, from, to)
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


class _LogNormalizer(torch.autograd.Function):
    """log Z with its analytic gradient: d log Z / d score is the expected count of what the score is for."""

    @staticmethod
    def forward(ctx, emissions, transitions, start, end, lengths):  # type: ignore[no-untyped-def, override]
        chain = Chain(transitions, start, end)
        ordered, chain, live, rows = _longest_first(emissions, chain, lengths)
        alphas, offsets = _forward(ordered, chain, live)
        log_z = _finish(alphas, offsets, chain, live, len(ordered))
        ctx.save_for_backward(emissions, transitions, start, end, lengths)
        ctx.alphas, ctx.offsets = alphas, offsets
        return log_z[torch.argsort(rows)].to(emissions.dtype)

    @staticmethod
    def backward(ctx, d_log_z):  # type: ignore[no-untyped-def, override]
        emissions, transitions, start, end, lengths = ctx.saved_tensors
        ordered, chain, live, rows = _longest_first(emissions, Chain(transitions, start, end), lengths)
        weight = d_log_z[rows]
        betas, _ = _backward(ordered, chain, live)
        d_emissions = torch.zeros_like(emissions)
        d_transitions = torch.zeros_like(transitions)
        d_start, d_end = torch.zeros_like(start), torch.zeros_like(end)

        def add(total: Tensor, part: Tensor, n_from: int, n_to: int) -> None:
            if len(total) == 1:
                total[0] += part.sum(0)
            else:
                total.index_add_(0, rows[n_from:n_to], part)

        for t, n in enumerate(live):
            marginal = torch.softmax(ctx.alphas[t] + betas[t], -1) * weight[:n, None]
            d_emissions[rows[:n], t] = marginal
            ended = live[t + 1] if t + 1 < len(live) else 0
            add(d_end, marginal[ended:], ended, n)
            if t == 0:
                add(d_start, marginal, 0, n)
            else:
                arrive = ordered[:n, t] + betas[t]
                pair = ctx.alphas[t - 1][:n, :, None] + chain.first(n).transitions + arrive[:, None]
                # normalised by this very step, so that rounding does not add up over time
                shift = ctx.offsets[t] - ctx.offsets[t - 1][:n]
                shift = shift.to(pair.dtype) + torch.logsumexp(ctx.alphas[t] + betas[t], -1)
                pair = torch.exp(pair - shift[:, None, None]) * weight[:n, None, None]
                add(d_transitions, pair, 0, n)
        return d_emissions, d_transitions, d_start, d_end, None


def log_normalizer(emissions: Tensor, chain: Chain, lengths: Tensor) -> Tensor:
    """Log-partition function of a batch of linear chains.

    emissions (Tensor): Unnormalised scores, (batch, time, tags).
    chain (Chain): Move scores.
    lengths (Tensor): Tokens in each sequence, int64 on the CPU, (batch,), each >= 1.
    RETURNS (Tensor): log Z in nats, (batch,), with an analytic gradient (no second derivative).
    RAISES (ValueError): A length is below 1 or larger than time.

    Forward–backward in the log domain (Rabiner 1989, section III.A).
    """
    check_lengths(emissions, lengths)
    return _LogNormalizer.apply(emissions, *chain, lengths)  # type: ignore[no-untyped-call]


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


def forward_backward(emissions: Tensor, chain: Chain, lengths: Tensor) -> ForwardBackward:
    """Forward and backward scores of a batch of chains; differentiable by autograd through time.

    Parameters and errors are those of `log_normalizer`.
    """
    check_lengths(emissions, lengths)
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


def path_score(emissions: Tensor, chain: Chain, tags: Tensor, lengths: Tensor) -> Tensor:
    """Unnormalised score of one tag sequence each.

    tags (Tensor): int64, (batch, time); what stands in the padding is not read.
    RETURNS (Tensor): (batch,).
    """
    check_lengths(emissions, lengths)
    batch, time = tags.shape
    lengths = lengths.to(tags.device)
    inside = torch.arange(time, device=tags.device) < lengths[:, None]
    tags = tags.where(inside, torch.zeros_like(tags))
    score = (emissions.gather(2, tags[:, :, None])[:, :, 0] * inside).sum(1)
    which = torch.arange(batch, device=tags.device)[:, None]
    own = which if len(chain.transitions) > 1 else torch.zeros_like(which)
    moves = chain.transitions[own, tags[:, :-1], tags[:, 1:]]  # (batch, time - 1)
    score = score + (moves * inside[:, 1:]).sum(1)
    last = tags.gather(1, lengths[:, None] - 1)
    return score + (chain.start[own, tags[:, :1]] + chain.end[own, last])[:, 0]


def viterbi(emissions: Tensor, chain: Chain, lengths: Tensor) -> Tensor:
    """Most probable tag sequence of each chain (Viterbi 1967); ties go to the lower tag id.

    Parameters and errors are those of `log_normalizer`.
    RETURNS (Tensor): int64, (batch, time), 0 where padded.
    """
    check_lengths(emissions, lengths)
    ordered, chain, live, rows = _longest_first(emissions, chain, lengths)
    ends = chain.end.expand(len(ordered), -1)
    score = chain.start + ordered[:, 0]
    back_pointers: List[Tensor] = []
    final = [score]
    for t in range(1, len(live)):
        n = live[t]
        score, origin = (score[:n, :, None] + chain.first(n).transitions).max(1)
        score, _ = _rescale(score + ordered[:n, t], score.new_zeros(n, dtype=torch.float64))
        back_pointers.append(origin)
        final.append(score)
    tags = torch.zeros(emissions.shape[:2], dtype=torch.int64, device=emissions.device)
    current = tags.new_zeros(0)
    for t in range(len(live) - 1, -1, -1):
        n = live[t]
        if t + 1 < len(live):
            current = back_pointers[t].gather(1, current[:, None])[:, 0]
        ended = slice(len(current), n)
        current = torch.cat([current, (final[t][ended] + ends[ended]).argmax(1)])
        tags[:n, t] = current
    return tags[torch.argsort(rows)]
