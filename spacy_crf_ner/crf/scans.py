"""The recursions of linear chains as fast as they go in plain torch: products of small matrices.

A message is the mass of all paths that reach a token from one side, before the token's own score. The
largest entry of each step is divided out and kept beside it. Both directions run in the same loop: the way
back over a sequence is the way there over its mirror image.

No message falls below a floor, so that nothing vanishes, and what the floor adds can be bounded. Both
messages with it are upper bounds, and at each token the mass that it adds to all paths is at most the floor
times the largest other message; beside what both messages agree on there (`Messages.agreement`) that is
either nothing, or the sequence is not `safe` and has to be worked in more digits, or in the log domain.
Nor is a probability to be trusted that is as small as what was added.

A long sequence is cut into pieces that run side by side (`schedule`).

Shapes: emissions (rows, time, tags); lengths int64 on the CPU, (rows,). With several chains the rows are
documents times chains, row i goes by chain i modulo their number, and all rows of a document are of equal length.
"""

from typing import List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from .kernels import on_chip
from .log_domain import Chain, Counts, ForwardBackward, is_forbidden, token_mask
from .schedule import DIGITS, Pieces, Schedule, cut_pieces, steps

# Tokens whose counts are added up in the precision of the emissions, before float64 takes over.
BLOCK = 2048


class Messages(NamedTuple):
    """What the two directions say of each token, as probabilities, in the precision of the emissions.

    forward, backward (Tensor): Messages from the left and from the right, (rows, time, tags), 0 where padded.
    local (Tensor): exp(emission - the token's largest), (rows, time, tags).
    right (Tensor): backward * local / agreement.
    forward_scale, backward_scale (Tensor): The largest of message * local, which the next message was divided
        by, (rows, time), 1 where padded.
    agreement (Tensor): Sum over tags of forward * local * backward, (rows, time), 1 where padded.
    peaks (Tensor): The token's largest emission, float64, (rows, time), 0 where padded.
    moves (Tensor): exp(transition - the chain's largest), (chains, tags, tags).
    bounds (Tensor): The largest transition, start score and end score of each row's chain, float64, (3, rows).
    edges (Tensor): exp(start score - the largest), then exp(end score - the largest), (2 * chains, tags).
    log_z (Tensor): nats, float64, (rows,).
    added (Tensor): The most that the floor may have added to the mass of all paths, as a share, float64, (rows,).
    safe (Tensor): Whether floor and pieces left the row's results as they are, bool, (rows,).
    lengths (Tensor): int64 on the CPU, (rows,).
    """

    forward: Tensor
    backward: Tensor
    local: Tensor
    right: Tensor
    forward_scale: Tensor
    backward_scale: Tensor
    agreement: Tensor
    peaks: Tensor
    moves: Tensor
    bounds: Tensor
    edges: Tensor
    log_z: Tensor
    added: Tensor
    safe: Tensor
    lengths: Tensor

    def marginals(self) -> Tensor:
        """P(tag at token), (rows, time, tags)."""
        return self.forward * self.right

    def left(self) -> Tensor:
        """The rescaled forward mass at a token, its own score in it, (rows, time, tags)."""
        return self.forward * self.local / self.forward_scale[..., None]

    def expected_counts(self, weight: Tensor) -> Counts:
        """Expected counts of every score, which are the gradient of sum(weight * log Z).

        weight (Tensor): (rows,).
        """
        right = self.right * weight.to(self.right)[:, None, None]
        return self._count(self.forward * right, [(self.left(), right)])

    def _count(self, per_token: Tensor, pairs: List[Tuple[Tensor, Tensor]]) -> Counts:
        """Put counts together. pairs: Factors, each (rows, time, tags), of what goes from a token to the next."""
        rows, _, tags = per_token.shape
        chains = len(self.moves)

        def by_chain(x: Tensor) -> Tensor:  # (chains, documents * time, tags)
            return x.reshape(rows // chains, chains, -1, tags).transpose(0, 1).reshape(chains, -1, tags)

        moved = torch.zeros_like(self.moves, dtype=torch.float64)
        for before, after in pairs:
            sides = by_chain(before[:, :-1]).split(BLOCK, 1), by_chain(after[:, 1:]).split(BLOCK, 1)
            for a, b in zip(*sides):
                moved += torch.bmm(a.transpose(1, 2), b)
        ends = per_token.gather(1, self._last()[:, None, None].expand(-1, 1, tags))
        # the floor gives a little to tags that no sequence begins or ends with
        start, end = (
            by_chain(x).sum(1) * (edge > 0) for x, edge in zip((per_token[:, :1], ends), self.edges.split(chains))
        )
        return Counts(per_token, moved * self.moves, start, end)

    def _last(self) -> Tensor:
        """The last token of each row, (rows,)."""
        return (self.lengths - 1).to(self.local.device)

    def expected_score(self, emissions: Tensor, chain: Chain) -> Tensor:
        """Mean score of a sequence under its chain, float64, (rows,)."""
        rows, _, tags = self.local.shape
        copies = rows // len(self.moves)
        marginals = self.marginals().double()
        # what is forbidden is of no weight, however it is scored
        own, transitions, start, end = (
            torch.where(is_forbidden(score), 0.0, score.double()) for score in (emissions, *chain)
        )
        priced = (self.moves.double() * transitions).repeat(copies, 1, 1)
        moved = (torch.bmm(self.left()[:, :-1].double(), priced) * self.right[:, 1:].double()).sum((1, 2))
        last = marginals.gather(1, self._last()[:, None, None].expand(-1, 1, tags))[:, 0]
        ends = sum((p * score.repeat(copies, 1)).sum(1) for p, score in ((marginals[:, 0], start), (last, end)))
        return (marginals * own).sum((1, 2)) + moved + ends

    def marginal_slope(self, direction: Tensor) -> Counts:
        """Slope of the expected counts when the emissions move in a direction: the Hessian of log Z times it.

        By symmetry this is also the gradient of sum(direction * marginals) for all scores.

        direction (Tensor): (rows, time, tags), 0 where padded.
        """
        marginals = self.marginals()
        # only what differs between tags moves anything: with a mean of 0 the sums along a sequence stay small
        direction = direction - (marginals * direction).sum(-1, keepdim=True)
        left, share = self.left(), 1 / self.agreement[..., None]
        gain = torch.stack([self.local / scale[..., None] for scale in (self.forward_scale, self.backward_scale)])
        push = torch.stack([self.forward, self.backward]) * gain * direction
        schedule = Schedule(self.lengths, direction.shape[1], len(self.moves), direction.device)
        d_forward, d_backward = run_linear(schedule, gain, push, _both_ways(self.moves))
        d_left = gain[0] * d_forward + push[0]
        d_right = self.local * d_backward * share + self.right * direction
        return self._count(d_forward * self.right + self.forward * d_right, [(d_left, self.right), (left, d_right)])

    # As TokenScores has it: all logarithms would take as long as the messages did

    def log_left(self, row: Tensor, token: Tensor, tag: Tensor) -> Tensor:
        mass = self.forward[row, token, tag].double() * self.local[row, token, tag]
        return (mass / self.forward_scale[row, token]).log()

    def log_right(self, row: Tensor, token: Tensor, tag: Tensor) -> Tensor:
        return self.backward[row, token, tag].double().log()

    def log_mass(self, row: Tensor, token: Tensor) -> Tensor:
        return (self.agreement[row, token].double() / self.forward_scale[row, token]).log()

    def offsets(self) -> Tuple[Tensor, Tensor]:
        shift, start, end = self.bounds
        place = torch.arange(self.peaks.shape[1], device=self.peaks.device)
        left_to_go = self._last()[:, None] - place
        on = token_mask(self.peaks, self.lengths)
        passed = torch.cumsum(self.forward_scale.double().log() + self.peaks, 1)
        to_come = self.backward_scale.double().log() + self.peaks
        to_come = to_come.sum(1, keepdim=True) - torch.cumsum(to_come, 1)
        return (
            torch.where(on, passed + start[:, None] + shift[:, None] * place, 0.0),
            torch.where(on, to_come + end[:, None] + shift[:, None] * left_to_go, 0.0),
        )

    def log_scores(self) -> ForwardBackward:
        """The same as rescaled log scores."""
        on = token_mask(self.peaks, self.lengths)[..., None]
        left, right = (torch.where(on, part.log(), 0.0) for part in (self.left(), self.backward))
        return ForwardBackward(left, right, *self.offsets(), self.log_z)


def messages(emissions: Tensor, chain: Chain, lengths: Tensor) -> Messages:
    """Run both directions over a batch, in the precision of the emissions: float32 or float64.

    Parameters are those of `recursions.log_normalizer`.
    """
    if int(lengths.min()) < emissions.shape[1]:
        emissions = emissions.masked_fill(~token_mask(emissions, lengths)[..., None], 0.0)
    prepared = prepare(emissions, chain)
    moves = _both_ways(prepared.moves)
    if on_chip(emissions):
        from . import recursions_triton

        floor = DIGITS[emissions.dtype].floor
        message, scale = recursions_triton.run_sums(prepared.local, moves, prepared.edges, lengths, floor)
        return conclude(prepared, message, scale, lengths)
    schedule = Schedule(lengths, emissions.shape[1], len(chain.transitions), emissions.device)
    message, scale, drift = run_sums(schedule, prepared.local, moves, prepared.edges)
    return conclude(prepared, message, scale, lengths, drift)


class Prepared(NamedTuple):
    """Scores as probabilities, each kind divided by its largest. Fields with the names of `Messages` are its.

    edges (Tensor): exp(start score), then exp(end score), (2 * chains, tags).
    """

    local: Tensor
    peaks: Tensor
    moves: Tensor
    edges: Tensor
    bounds: Tensor


def prepare(emissions: Tensor, chain: Chain) -> Prepared:
    """Exponentials of all scores, none above 1, in the precision of the emissions, (rows, time, tags)."""
    peaks = emissions.amax(-1)
    transitions, start, end = (part.to(emissions.dtype) for part in chain)
    tops = [transitions.amax((1, 2)), start.amax(1), end.amax(1)]
    return Prepared(
        torch.exp_(emissions - peaks[..., None]),
        peaks.double(),
        torch.exp_(transitions - tops[0][:, None, None]),
        torch.exp_(torch.cat([start - tops[1][:, None], end - tops[2][:, None]])),
        torch.stack(tops).double().repeat(1, len(emissions) // len(transitions)),
    )


def conclude(
    prepared: Prepared, message: Tensor, scale: Tensor, lengths: Tensor, drift: Optional[Tensor] = None
) -> Messages:
    """Put together what the two directions have found.

    message (2, rows, time, tags), scale (2, rows, time); drift: What differs between pieces, (rows,).
    """
    local, peaks, moves, edges, bounds = prepared
    digits, tags = DIGITS[local.dtype], local.shape[2]
    forward, backward = message
    last = (lengths - 1).to(local.device)[:, None]
    on = token_mask(local, lengths)
    peaks = peaks * on
    right = backward * local
    agreement = torch.where(on, torch.linalg.vecdot(forward, right).clamp_min(digits.floor), 1.0)
    right /= agreement[..., None]
    # the last token counts with what both sides agree on there, the others with what was divided out
    logs = scale[0].double().log().scatter(1, last, agreement.double().log().gather(1, last))
    shift, start, end = bounds
    log_z = logs.sum(1) + peaks.sum(1) + shift * last[:, 0] + start + end
    added = 2 * tags**2 * digits.floor * (1 / agreement.double()).sum(1)
    safe = added <= digits.slack
    if drift is not None:
        safe &= drift <= digits.drift
    return Messages(
        forward, backward, local, right, scale[0], scale[1], agreement, peaks, moves, bounds, edges, log_z, added,
        safe, lengths,
    )  # fmt: skip


def _both_ways(moves: Tensor) -> Tensor:
    """(2 * chains, tags, tags): there, and back."""
    return torch.cat([moves, moves.transpose(1, 2)])


def run_sums(schedule: Schedule, local: Tensor, moves: Tensor, edges: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """Messages of both directions.

    local (rows, time, tags); moves (2 * chains, tags, tags); edges (2 * chains, tags): What comes in at either end.
    RETURNS: messages (2, rows, time, tags), 0 where padded; scales (2, rows, time), 1 where padded; the share
        by which messages of a row may be off where its pieces meet, (rows,).
    """
    tags = local.shape[2]
    digits = DIGITS[local.dtype]
    flat = local.reshape(-1, tags)
    message: Optional[Tensor] = None
    scale: Optional[Tensor] = None

    def run(pieces: Pieces, given: Tensor, keep: bool) -> Tensor:
        nonlocal message, scale
        packed = schedule.pack(pieces, (0, 1))
        here = flat.index_select(0, packed.source)
        arrived, top = _sum_steps(here, moves, given, packed.live, digits.floor)
        if keep:
            message = schedule.keep(message, packed, arrived, 0.0, 2)
            scale = schedule.keep(scale, packed, top, 1.0, 2)
        at = packed.last
        return torch.bmm(arrived[at] * here[at] / top[at][..., None], moves).clamp_min_(digits.floor)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return ((a - b).abs() / torch.minimum(a, b)).amax((0, 2))

    documents = len(schedule.lengths)
    start = edges.clamp_min(digits.floor)[:, None].expand(-1, documents, -1)
    pieces = schedule.cut(18, len(moves) * tags * (2e-3 + 2.2e-5 * tags))
    drift = schedule.settle(
        pieces, start, lambda p: edges.new_ones(len(moves), len(p.size), tags), run, distance, digits
    )
    assert message is not None
    assert scale is not None
    return message.view(2, schedule.rows, schedule.time, tags), scale.view(2, schedule.rows, schedule.time), drift


def run_linear(schedule: Schedule, gain: Tensor, push: Tensor, moves: Tensor) -> Tensor:
    """Messages of x -> gain * message + push, both directions, all (2, rows, time, tags)."""
    tags = gain.shape[3]
    packed = schedule.pack(cut_pieces(schedule.lengths, max(schedule.time, 1)), (0, 1))
    gains, pushes = (x.reshape(-1, tags).index_select(0, packed.target) for x in (gain, push))
    arrived = torch.zeros_like(gains)
    state = None
    for n, into, own_gain, own_push in steps(packed.live, len(moves), arrived, gains, pushes):
        if state is not None:
            torch.bmm(state[:, :n].contiguous(), moves, out=into)
        state = torch.addcmul(own_push, own_gain, into)
    return schedule.keep(None, packed, arrived, 0.0, 2).view(gain.shape)


def _sum_steps(local: Tensor, moves: Tensor, given: Tensor, live: List[int], floor: float) -> Tuple[Tensor, Tensor]:
    """The loop of the sum-product recursion over packed tokens.

    local (tokens, tags); moves (groups, tags, tags); given (groups, pieces, tags): First messages; live: See `Packed`.
    RETURNS: messages (tokens, tags), and their scales (tokens,).
    """
    arrived, scale = torch.empty_like(local), local.new_empty(len(local), 1)
    state = None
    for n, into, here, top in steps(live, len(moves), arrived, local, scale):
        if state is None:
            into.copy_(given)
        else:
            torch.bmm(state if n == state.shape[1] else state[:, :n].contiguous(), moves, out=into)
        into.clamp_min_(floor)
        state = into * here
        torch.amax(state, 2, keepdim=True, out=top)
        state.div_(top)
    return arrived, scale[:, 0]
