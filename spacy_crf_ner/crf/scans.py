"""The recursions of linear chains as fast as they go in plain torch: products of small matrices.

A message is the mass of all paths that reach a token from one side, before the token's own score. The
largest entry of each step is divided out and kept beside it. Both directions run in the same loop: the way
back over a sequence is the way there over its mirror image.

No message falls below a floor, so that nothing vanishes, and what the floor adds can be bounded. Both
messages with it are upper bounds, and at each token the mass that it adds to all paths is at most the floor
times the largest other message; beside what both messages agree on there (`Messages.agreement`) that is
either nothing, or the sequence is not `safe` and has to be worked in more digits, or in the log domain.
Nor is a probability to be trusted that is as small as what was added.

A long sequence is cut into pieces that run side by side. Each starts from a guess, got by running the end
of the piece before it from nothing; the pieces whose guess turns out wrong run again from what the piece
before them really passed on, until nothing changes (Maleki et al. 2014, "Parallelizing dynamic programming
through rank convergence", PPoPP). What is passed on over a small difference is added up and counts as error.
A chain soon forgets where it came from; a document whose chain does not is run in one piece.

Shapes: emissions (rows, time, tags); lengths int64 on the CPU, (rows,). With several chains the rows are
documents times chains, row i goes by chain i modulo their number, and all rows of a document are of equal length.
"""

import logging
from functools import cache
from importlib.util import find_spec
from itertools import groupby
from typing import Callable, Iterator, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from .log_domain import Chain, Counts, ForwardBackward, is_forbidden, token_mask

logger = logging.getLogger(__name__)

# Tokens whose counts are added up in the precision of the emissions, before float64 takes over.
BLOCK = 2048
# Tokens in a piece, and in the run that guesses how it starts.
PIECES = (32, 64, 128, 256)
WARM_UP = 16
# Tags whose moves one program of `recursions_triton` can hold.
MAX_TAGS_ON_CHIP = 256


class Digits(NamedTuple):
    """What a precision allows.

    floor (float): No message is smaller; none is larger than the number of tags.
    slack (float): Share of the mass of all paths that may be added by the floor.
    same (float): Two messages are the same when every entry agrees to this share (in a Viterbi pass: to this score).
    noise (float): What entries differ by from rounding alone.
    drift (float): The most that differences between pieces, beyond the noise, may add up to over a document.
    """

    floor: float
    slack: float
    same: float
    noise: float
    drift: float


DIGITS = {
    torch.float32: Digits(floor=1e-30, slack=1e-7, same=1e-5, noise=1e-6, drift=3e-5),
    torch.float64: Digits(floor=1e-290, slack=1e-12, same=1e-9, noise=1e-14, drift=1e-6),
}
# Rounds in which pieces are mended before their documents are run in one piece.
ROUNDS = 3


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
        index = _Index(self.lengths, direction.shape[1], len(self.moves), direction.device)
        d_forward, d_backward = index.run_linear(gain, push, _both_ways(self.moves))
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
        steps = torch.arange(self.peaks.shape[1], device=self.peaks.device)
        left_to_go = self._last()[:, None] - steps
        on = token_mask(self.peaks, self.lengths)
        passed = torch.cumsum(self.forward_scale.double().log() + self.peaks, 1)
        to_come = self.backward_scale.double().log() + self.peaks
        to_come = to_come.sum(1, keepdim=True) - torch.cumsum(to_come, 1)
        return (
            torch.where(on, passed + start[:, None] + shift[:, None] * steps, 0.0),
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
    if _on_chip(emissions):
        from . import recursions_triton

        floor = DIGITS[emissions.dtype].floor
        message, scale = recursions_triton.run_sums(prepared.local, moves, prepared.edges, lengths, floor)
        return conclude(prepared, message, scale, lengths)
    index = _Index(lengths, emissions.shape[1], len(chain.transitions), emissions.device)
    message, scale, drift = index.run_sums(prepared.local, moves, prepared.edges)
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


def best_paths(emissions: Tensor, chain: Chain, lengths: Tensor) -> Tensor:
    """Viterbi (1967). Parameters and result are those of `recursions.viterbi`."""
    rows, time, _ = emissions.shape
    # what all tags of a token have in common decides nothing, and would cost digits
    emissions = emissions - emissions.amax(-1, keepdim=True)
    transitions, start, end = (part.to(emissions.dtype) for part in chain)
    if _on_chip(emissions):
        from . import recursions_triton

        return recursions_triton.best_paths(emissions, transitions, start, end, lengths)
    index = _Index(lengths, time, len(transitions), emissions.device)
    scores = index.run_maxima(emissions, transitions, start)
    last = (lengths - 1).to(emissions.device)
    final = scores[torch.arange(rows, device=last.device), last] + end.repeat(rows // len(end), 1)
    return index.trace(scores, transitions, final.argmax(1))


def _on_chip(emissions: Tensor) -> bool:
    """Whether the kernels of `recursions_triton` can do it."""
    fits = emissions.is_cuda and emissions.dtype == torch.float32 and emissions.shape[2] <= MAX_TAGS_ON_CHIP
    return fits and _kernels_run(emissions.device)


@cache
def _kernels_run(device: torch.device) -> bool:
    """Whether the kernels can be compiled and started on a GPU: tried once, on next to nothing."""
    if find_spec("triton") is None:
        return False
    try:
        from . import recursions_triton

        one = torch.ones(2, 1, 1, device=device)
        recursions_triton.run_sums(one[:1], one, one[:, 0], torch.ones(1, dtype=torch.int64), 0.5)
    except Exception as error:  # a compiler or a driver that is missing shows in many ways
        logger.warning("Triton does not run on %s (%s); the CRF takes its slower way there.", device, error)
        return False
    return True


def _both_ways(moves: Tensor) -> Tensor:
    """(2 * chains, tags, tags): there, and back."""
    return torch.cat([moves, moves.transpose(1, 2)])


class _Pieces(NamedTuple):
    """Runs of tokens of documents, longest first; all int64 on the CPU, (pieces,).

    document, start, size (Tensor): Which document, the first token, and how many. In a mirrored document positions
        count from its end.
    following (Tensor): The piece that goes on where this one ends, or -1.
    """

    document: Tensor
    start: Tensor
    size: Tensor
    following: Tensor

    def take(self, which: Tensor) -> "_Pieces":
        return _Pieces(*(part[which] for part in self))


def _cut(lengths: Tensor, size: int) -> _Pieces:
    """Cut documents into pieces of at most `size` tokens."""
    count = (lengths + size - 1) // size
    document = torch.repeat_interleave(torch.arange(len(lengths)), count)
    number = torch.arange(len(document)) - (count.cumsum(0) - count)[document]
    start = number * size
    sizes = torch.minimum(lengths[document] - start, torch.tensor(size))
    goes_on = start + sizes < lengths[document]
    order = torch.argsort(sizes, descending=True, stable=True)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    following = torch.where(goes_on, torch.cat([place[1:], place.new_zeros(1)]), -1)
    return _Pieces(document[order], start[order], sizes[order], following[order])


class _Packed(NamedTuple):
    """Where the tokens of some pieces lie, step after step, and in a step group after group.

    A group is a chain in one direction. `live` is the number of pieces at each step.
    source (Tensor): Place of a token in (rows * time).
    target (Tensor): Place in (directions * rows * time).
    last (Tensor): Place of each piece's last token among these, (groups, pieces).
    """

    live: List[int]
    source: Tensor
    target: Tensor
    last: Tensor


class _Index:
    """How a batch is worked: its documents longest first, the long ones in pieces side by side."""

    def __init__(self, lengths: Tensor, time: int, chains: int, device: torch.device) -> None:
        self.lengths = lengths[::chains]
        self.rows, self.time, self.chains, self.device = len(lengths), time, chains, device

    def cut(self, step: float, token: float) -> _Pieces:
        """Cut documents so that they are worked fastest.

        step, token (float): Microseconds that a step takes by itself, and what each token of a document adds, as
            they were on two CPU cores; the ratio is what counts.
        """
        longest, tokens = int(self.lengths.max()), int(self.lengths.sum())
        cost = {longest: longest * step + tokens * token}
        for size in PIECES:
            if size + WARM_UP < longest:
                cost[size] = (size + WARM_UP) * step + tokens * token * (1 + WARM_UP / size)
        return _cut(self.lengths, min(cost, key=lambda size: cost[size]))

    def pack(self, pieces: _Pieces, directions: Tuple[int, ...]) -> _Packed:
        """directions: 0 there, 1 back."""
        step = torch.arange(int(pieces.size[0]))[:, None]
        on = step < pieces.size  # (steps, pieces)
        position = pieces.start + step
        mirrored = self.lengths[pieces.document] - 1 - position
        times = torch.stack([mirrored if back else position for back in directions], 1)[:, :, None]
        row = pieces.document * self.chains + torch.arange(self.chains)[:, None]  # (chains, pieces)
        source = row * self.time + times  # (steps, directions, chains, pieces)
        target = source + (torch.arange(len(directions)) * self.rows * self.time)[:, None, None]
        live = on.sum(1)
        groups = len(directions) * self.chains
        before = (live * groups).cumsum(0) - live * groups
        at = pieces.size - 1
        last = before[at] + torch.arange(groups)[:, None] * live[at] + torch.arange(len(at))
        if bool(on.all()):
            places = [source.flatten(), target.flatten()]
        else:
            chosen = on[:, None, None].expand_as(source)
            places = [source[chosen], target[chosen]]
        return _Packed(live.tolist(), *(x.to(self.device) for x in (*places, last)))

    def settle(
        self,
        pieces: _Pieces,
        start: Tensor,
        guess: Callable[[_Pieces], Tensor],
        run: Callable[[_Pieces, Tensor, bool], Tensor],
        distance: Callable[[Tensor, Tensor], Tensor],
        digits: Digits,
    ) -> Tensor:
        """Run all pieces until each has started from what the piece before it passed on.

        start (Tensor): What documents start with, (groups, documents, ...).
        guess (Callable): What pieces might start with, where nothing is known, (groups, pieces, ...).
        run (Callable): Run pieces from their starts, keep the results if told so, and return what they pass on.
        distance (Callable): How far two lots of starts are apart, (pieces,).
        RETURNS (Tensor): Sum over each document of the distances, beyond the noise, that were let pass, (rows,).
        """
        given = start[:, pieces.document.to(self.device)]
        gaps = torch.zeros(len(pieces.size), dtype=torch.float64)
        cut = torch.nonzero(pieces.following >= 0)[:, 0]
        if len(cut):
            # what is followed by something is of full size
            ends = pieces.take(cut)
            ends = ends._replace(start=ends.start + ends.size - WARM_UP, size=torch.full_like(cut, WARM_UP))
            given[:, ends.following.to(self.device)] = run(ends, guess(ends), False)
        todo = torch.arange(len(pieces.size))
        for _ in range(ROUNDS):
            passed = run(pieces.take(todo), given[:, todo.to(self.device)], True)
            cut = torch.nonzero(pieces.following[todo] >= 0)[:, 0]
            if not len(cut):
                todo = cut
                break
            passed, after = passed[:, cut.to(self.device)], pieces.following[todo[cut]]
            gaps[after] = distance(passed, given[:, after.to(self.device)]).double().cpu()
            # what is let pass must not add up
            strict = self._drift(pieces, gaps, digits)[pieces.document[after]] > digits.drift
            wrong = gaps[after] > torch.where(strict, digits.noise, digits.same)
            given[:, after[wrong].to(self.device)] = passed[:, wrong.to(self.device)]
            todo = after[wrong].sort().values
            gaps[todo] = 0.0
            if not len(todo):
                break
        drift = self._drift(pieces, gaps, digits)
        if len(todo):
            whole = torch.unique(pieces.document[todo])
            drift[whole] = 0.0
            alone = _cut(self.lengths[whole], int(self.lengths[whole].max()))
            alone = alone._replace(document=whole[alone.document])
            run(alone, start[:, alone.document.to(self.device)], True)
        return drift.repeat_interleave(self.chains).to(self.device)

    def _drift(self, pieces: _Pieces, gaps: Tensor, digits: Digits) -> Tensor:
        """Sum over each document of what its pieces differ by beyond the noise, (documents,)."""
        beyond = torch.where(gaps > digits.same, 0.0, (gaps - digits.noise).clamp_min(0.0))
        return torch.zeros(len(self.lengths), dtype=torch.float64).index_add_(0, pieces.document, beyond)

    def keep(self, kept: Optional[Tensor], packed: _Packed, found: Tensor, blank: float, directions: int) -> Tensor:
        """Put packed results in their places; where there is no token stands `blank`.

        kept (Optional[Tensor]): What is there already, (directions * rows * time, ...); None at first, with all pieces.
        """
        if kept is not None:
            return kept.index_copy_(0, packed.target, found)
        places = directions * self.rows * self.time
        if len(found) == places:
            source = torch.empty_like(packed.target)
            source[packed.target] = torch.arange(places, device=self.device)
            return found.index_select(0, source)
        return found.new_full((places, *found.shape[1:]), blank).index_copy_(0, packed.target, found)

    def run_sums(self, local: Tensor, moves: Tensor, edges: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
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

        def run(pieces: _Pieces, given: Tensor, keep: bool) -> Tensor:
            nonlocal message, scale
            packed = self.pack(pieces, (0, 1))
            here = flat.index_select(0, packed.source)
            arrived, top = _sum_steps(here, moves, given, packed.live, digits.floor)
            if keep:
                message = self.keep(message, packed, arrived, 0.0, 2)
                scale = self.keep(scale, packed, top, 1.0, 2)
            at = packed.last
            return torch.bmm(arrived[at] * here[at] / top[at][..., None], moves).clamp_min_(digits.floor)

        def distance(a: Tensor, b: Tensor) -> Tensor:
            return ((a - b).abs() / torch.minimum(a, b)).amax((0, 2))

        documents = len(self.lengths)
        start = edges.clamp_min(digits.floor)[:, None].expand(-1, documents, -1)
        pieces = self.cut(18, len(moves) * tags * (2e-3 + 2.2e-5 * tags))
        drift = self.settle(
            pieces, start, lambda p: edges.new_ones(len(moves), len(p.size), tags), run, distance, digits
        )
        assert message is not None
        assert scale is not None
        return message.view(2, self.rows, self.time, tags), scale.view(2, self.rows, self.time), drift

    def run_linear(self, gain: Tensor, push: Tensor, moves: Tensor) -> Tensor:
        """Messages of x -> gain * message + push, both directions, all (2, rows, time, tags)."""
        tags = gain.shape[3]
        packed = self.pack(_cut(self.lengths, max(self.time, 1)), (0, 1))
        gains, pushes = (x.reshape(-1, tags).index_select(0, packed.target) for x in (gain, push))
        arrived = torch.zeros_like(gains)
        state = None
        for n, into, own_gain, own_push in _steps(packed.live, len(moves), arrived, gains, pushes):
            if state is not None:
                torch.bmm(state[:, :n].contiguous(), moves, out=into)
            state = torch.addcmul(own_push, own_gain, into)
        return self.keep(None, packed, arrived, 0.0, 2).view(gain.shape)

    def run_maxima(self, emissions: Tensor, transitions: Tensor, start: Tensor) -> Tensor:
        """Score of the best path to each token and tag, up to a number a token, (rows, time, tags); 0 where padded."""
        tags = emissions.shape[2]
        flat = emissions.reshape(-1, tags)
        scores: Optional[Tensor] = None
        digits = DIGITS[emissions.dtype]
        into_from = transitions.transpose(1, 2).contiguous()[:, None]  # (chains, 1, to, from)

        def best_way(state: Tensor) -> Tensor:
            return (state[:, :, None] + into_from).amax(3)

        def run(pieces: _Pieces, given: Tensor, keep: bool) -> Tensor:
            nonlocal scores
            packed = self.pack(pieces, (0,))
            best = flat.index_select(0, packed.source)
            state = None
            for i, (n, here) in enumerate(_steps(packed.live, len(transitions), best)):
                here += given if state is None else best_way(state[:, :n])
                # often enough to keep all digits
                state = _to_zero(here) if i % 16 == 15 else here
            if keep:
                scores = self.keep(scores, packed, best, 0.0, 1)
            return best_way(_to_zero(best[packed.last]))

        def distance(a: Tensor, b: Tensor) -> Tensor:
            return ((a - b).abs() / (1 + a.abs())).amax((0, 2))

        documents = len(self.lengths)
        begin = start[:, None].expand(-1, documents, -1)
        pieces = self.cut(15, len(start) * tags * (1e-3 + 3e-4 * tags))
        self.settle(pieces, begin, lambda p: start.new_zeros(len(start), len(p.size), tags), run, distance, digits)
        assert scores is not None
        return scores.view(emissions.shape)

    def trace(self, scores: Tensor, transitions: Tensor, final: Tensor) -> Tensor:
        """Tags of the best paths, int64, (rows, time), 0 where padded.

        scores (Tensor): As of `run_maxima`. final (Tensor): Tag of each row's last token, (rows,).
        """
        chains, tags = len(transitions), scores.shape[2]
        flat = scores.reshape(-1, tags)
        found = final.new_zeros(len(flat))
        into_from = transitions.transpose(1, 2).reshape(-1, tags)
        own = (torch.arange(chains, device=self.device) * tags)[:, None]

        def origin(tag: Tensor, before: Tensor) -> Tensor:
            return (before + into_from[tag + own]).argmax(2)

        def places(pieces: _Pieces, step: Tensor) -> Tensor:
            """Where the token of a step lies, counted from the end of the document, (chains, pieces)."""
            time = (self.lengths[pieces.document] - 1 - pieces.start - step).clamp_min(0)
            return ((pieces.document * chains + torch.arange(chains)[:, None]) * self.time + time).to(self.device)

        def run(pieces: _Pieces, given: Tensor, keep: bool) -> Tensor:
            packed = self.pack(pieces, (1,))
            path = found.new_empty(len(packed.source), 1)
            tag = None
            for n, here, kept in _steps(packed.live, chains, flat.index_select(0, packed.source), path):
                tag = given if tag is None else origin(tag[:, :n], here)
                kept[..., 0] = tag
            path = path[:, 0]
            if keep:
                found[packed.source] = path
            return origin(path[packed.last], flat[places(pieces, pieces.size)])

        def distance(a: Tensor, b: Tensor) -> Tensor:
            return (a != b).any(0)

        documents = len(self.lengths)
        start = final.view(documents, chains).T
        pieces = self.cut(30, chains * tags * 2e-3)
        self.settle(
            pieces, start, lambda p: flat[places(p, torch.tensor(0))].argmax(2), run, distance, DIGITS[scores.dtype]
        )
        return found.view(scores.shape[:2])


def _steps(live: List[int], groups: int, *packed: Tensor) -> Iterator[Tuple]:
    """Step through packed rows. YIELDS: number of live pieces, and a view (groups, pieces, columns) of each."""
    done = 0
    for n, steps in groupby(live):
        count = len(list(steps))
        rows = slice(done, done + count * groups * n)
        done = rows.stop
        for parts in zip(*(x[rows].view(count, groups, n, x.shape[1]).unbind(0) for x in packed)):
            yield (n, *parts)


def _to_zero(scores: Tensor) -> Tensor:
    """Move the largest of each row to 0, in place."""
    return scores.sub_(scores.amax(-1, keepdim=True))


def _sum_steps(local: Tensor, moves: Tensor, given: Tensor, live: List[int], floor: float) -> Tuple[Tensor, Tensor]:
    """The loop of the sum-product recursion over packed tokens.

    local (tokens, tags); moves (groups, tags, tags); given (groups, pieces, tags): First messages; live: See `_Packed`.
    RETURNS: messages (tokens, tags), and their scales (tokens,).
    """
    arrived, scale = torch.empty_like(local), local.new_empty(len(local), 1)
    state = None
    for n, into, here, top in _steps(live, len(moves), arrived, local, scale):
        if state is None:
            into.copy_(given)
        else:
            torch.bmm(state if n == state.shape[1] else state[:, :n].contiguous(), moves, out=into)
        into.clamp_min_(floor)
        state = into * here
        torch.amax(state, 2, keepdim=True, out=top)
        state.div_(top)
    return arrived, scale[:, 0]
