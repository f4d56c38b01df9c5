"""The recursions of linear chains as fast as they go in plain torch: products of small matrices.

A message is the mass of all paths that reach a token from one side, before the token's own score. The
largest entry of each step is divided out and kept beside it. Both directions run in the same loop: the way
back over a sequence is the way there over its mirror image.

No message falls below a floor, so that nothing vanishes, and what the floor adds can be bounded. Both
messages with it are upper bounds, and at each token the mass that it adds to all paths is at most the floor
times the largest other message; beside what both messages agree on there (`Messages.agreement`) that is
either nothing, or the sequence is not `safe` and has to be worked in more digits, or in the log domain.

A long sequence is cut into pieces that run side by side. Each starts from a guess, got by running the end
of the piece before it from nothing; the pieces whose guess turns out wrong run again from what the piece
before them really passed on, until nothing changes (Maleki et al. 2014, "Parallelizing dynamic programming
through rank convergence", PPoPP). A chain soon forgets where it came from, so that this is rare; a chain
that never forgets costs as much as without pieces.

Shapes: emissions (rows, time, tags); lengths int64 on the CPU, (rows,). With several chains the rows are
documents times chains, row i goes by chain i modulo their number, and all rows of a document are of equal length.
"""

from importlib.util import find_spec
from itertools import groupby
from typing import Callable, Iterator, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from .log_domain import Chain, Counts, ForwardBackward

# Tokens in a piece, and in the run that guesses how it starts.
PIECES = (32, 64, 128, 256)
WARM_UP = 16
# Tags whose moves one program of `recursions_triton` can hold.
MAX_TAGS_ON_CHIP = 256


class Digits(NamedTuple):
    """What a precision allows.

    floor (float): No message is smaller; none is larger than the number of tags.
    slack (float): Share of the mass of all paths that the floor may add.
    same (float): Two messages are the same when every entry agrees to this share (in a Viterbi pass: to this score).
    rare (float): Probabilities below this are not to be trusted.
    """

    floor: float
    slack: float
    same: float
    rare: float


DIGITS = {torch.float32: Digits(1e-30, 1e-7, 1e-5, 1e-18), torch.float64: Digits(1e-290, 1e-12, 1e-9, 1e-250)}


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
    log_z (Tensor): nats, float64, (rows,).
    safe (Tensor): Whether the floor left the row's results as they are, bool, (rows,).
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
    log_z: Tensor
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

        moved = torch.zeros_like(self.moves)
        for left, right in pairs:
            moved.baddbmm_(by_chain(left[:, :-1]).transpose(1, 2), by_chain(right[:, 1:]))
        ends = per_token.gather(1, self._last()[:, None, None].expand(-1, 1, tags))
        start, end = (by_chain(x).sum(1) for x in (per_token[:, :1], ends))
        return Counts(per_token, moved * self.moves, start, end)

    def _last(self) -> Tensor:
        """The last token of each row, (rows,)."""
        return (self.lengths - 1).to(self.local.device)

    def expected_score(self, emissions: Tensor, chain: Chain) -> Tensor:
        """Mean score of a sequence under its chain, float64, (rows,)."""
        rows, _, tags = self.local.shape
        marginals = self.marginals().double()
        transitions, start, end = (part.double() for part in chain)
        moves = self.moves.double()
        priced = (moves * torch.where(moves > 0, transitions, 0.0)).repeat(rows // len(moves), 1, 1)
        moved = (torch.bmm(self.left()[:, :-1].double(), priced) * self.right[:, 1:].double()).sum((1, 2))
        last = marginals.gather(1, self._last()[:, None, None].expand(-1, 1, tags))[:, 0]
        ends = [
            (p * torch.where(p > 0, s.repeat(rows // len(s), 1), 0.0)).sum(1)
            for p, s in ((marginals[:, 0], start), (last, end))
        ]
        # a tag that cannot be is of no weight, however it is scored
        own = (marginals * torch.where(marginals > 0, emissions.double(), 0.0)).sum((1, 2))
        return own + moved + ends[0] + ends[1]

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

    def log_scores(self) -> ForwardBackward:
        """The same as rescaled log scores."""
        shift, start, end = self.bounds
        steps = torch.arange(self.peaks.shape[1], device=self.peaks.device)
        left_to_go = self._last()[:, None] - steps
        inside = left_to_go >= 0
        passed = torch.cumsum(self.forward_scale.log() + self.peaks, 1)
        to_come = self.backward_scale.log() + self.peaks
        to_come = to_come.sum(1, keepdim=True) - torch.cumsum(to_come, 1)
        return ForwardBackward(
            torch.where(inside[..., None], self.left().log(), 0.0),
            torch.where(inside[..., None], self.backward.log(), 0.0),
            torch.where(inside, passed + start[:, None] + shift[:, None] * steps, 0.0),
            torch.where(inside, to_come + end[:, None] + shift[:, None] * left_to_go, 0.0),
            self.log_z,
        )


def messages(emissions: Tensor, chain: Chain, lengths: Tensor) -> Messages:
    """Run both directions over a batch, in the precision of the emissions: float32 or float64.

    Parameters are those of `recursions.log_normalizer`.
    """
    prepared = prepare(emissions, chain)
    moves = _both_ways(prepared.moves)
    if _on_chip(emissions):
        from . import recursions_triton

        floor = DIGITS[emissions.dtype].floor
        message, scale = recursions_triton.run_sums(prepared.local, moves, prepared.edges, lengths, floor)
    else:
        index = _Index(lengths, emissions.shape[1], len(chain.transitions), emissions.device)
        message, scale = index.run_sums(prepared.local, moves, prepared.edges)
    return conclude(prepared, message, scale, lengths)


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


def conclude(prepared: Prepared, message: Tensor, scale: Tensor, lengths: Tensor) -> Messages:
    """Put together what the two directions have found: message (2, rows, time, tags), scale (2, rows, time)."""
    local, peaks, moves, _, bounds = prepared
    digits, tags = DIGITS[local.dtype], local.shape[2]
    forward, backward = message
    last = (lengths - 1).to(local.device)[:, None]
    inside = torch.arange(local.shape[1], device=local.device) <= last
    peaks = peaks * inside
    right = backward * local
    agreement = torch.where(inside, torch.linalg.vecdot(forward, right).clamp_min(digits.floor), 1.0)
    right /= agreement[..., None]
    # the last token counts with what both sides agree on there, the others with what was divided out
    logs = scale[0].double().log().scatter(1, last, agreement.double().log().gather(1, last))
    shift, start, end = bounds
    log_z = logs.sum(1) + peaks.sum(1) + shift * last[:, 0] + start + end
    added = 2 * tags**2 * digits.floor * (1 / agreement.double()).sum(1)
    return Messages(
        forward, backward, local, right, scale[0], scale[1], agreement, peaks, moves, bounds, log_z,
        added <= digits.slack, lengths,
    )  # fmt: skip


def best_paths(emissions: Tensor, chain: Chain, lengths: Tensor) -> Tensor:
    """Viterbi (1967). Parameters and result are those of `recursions.viterbi`."""
    rows, time, _ = emissions.shape
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
    return fits and find_spec("triton") is not None


def _both_ways(moves: Tensor) -> Tensor:
    """(2 * chains, tags, tags): there, and back."""
    return torch.cat([moves, moves.transpose(1, 2)])


class _Pieces(NamedTuple):
    """Runs of tokens of documents, longest first. `following` is the piece that goes on where one ends, or -1.

    In a mirrored document positions count from its end.
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
        differs: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        """Run all pieces until each has started from what the piece before it passed on.

        start (Tensor): What documents start with, (groups, documents, ...).
        guess (Callable): What pieces might start with, where nothing is known, (groups, pieces, ...).
        run (Callable): Run pieces from their starts, keep the results if told so, and return what they pass on.
        differs (Callable): Which of two lots of starts are not the same, bool, (pieces,).
        """
        given = start[:, pieces.document.to(self.device)]
        cut = torch.nonzero(pieces.following >= 0)[:, 0]
        if len(cut):
            # what is followed by something is of full size
            ends = pieces.take(cut)
            ends = ends._replace(start=ends.start + ends.size - WARM_UP, size=torch.full_like(cut, WARM_UP))
            given[:, ends.following.to(self.device)] = run(ends, guess(ends), False)
        todo = torch.arange(len(pieces.size))
        while len(todo):
            passed = run(pieces.take(todo), given[:, todo.to(self.device)], True)
            cut = torch.nonzero(pieces.following[todo] >= 0)[:, 0]
            if not len(cut):
                break
            passed, after = passed[:, cut.to(self.device)], pieces.following[todo[cut]]
            wrong = differs(passed, given[:, after.to(self.device)]).cpu()
            given[:, after[wrong].to(self.device)] = passed[:, wrong.to(self.device)]
            todo = after[wrong].sort().values

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

    def run_sums(self, local: Tensor, moves: Tensor, edges: Tensor) -> Tuple[Tensor, Tensor]:
        """Messages of both directions.

        moves (2 * chains, tags, tags); edges (2 * chains, tags): What comes in at either end.
        RETURNS: messages (2, rows, time, tags), 0 where padded; scales (2, rows, time), 1 where padded.
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

        def differs(a: Tensor, b: Tensor) -> Tensor:
            return ((a - b).abs() > digits.same * a).any(-1).any(0)

        documents = len(self.lengths)
        start = edges.clamp_min(digits.floor)[:, None].expand(-1, documents, -1)
        pieces = self.cut(18, len(moves) * tags * (2e-3 + 2.2e-5 * tags))
        self.settle(pieces, start, lambda p: edges.new_ones(len(moves), len(p.size), tags), run, differs)
        assert message is not None
        assert scale is not None
        return message.view(2, self.rows, self.time, tags), scale.view(2, self.rows, self.time)

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
        same = DIGITS[emissions.dtype].same
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

        def differs(a: Tensor, b: Tensor) -> Tensor:
            return ((a - b).abs() > same * (1 + a.abs())).any(-1).any(0)

        documents = len(self.lengths)
        begin = start[:, None].expand(-1, documents, -1)
        pieces = self.cut(15, len(start) * tags * (1e-3 + 3e-4 * tags))
        self.settle(pieces, begin, lambda p: start.new_zeros(len(start), len(p.size), tags), run, differs)
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

        def differs(a: Tensor, b: Tensor) -> Tensor:
            return (a != b).any(0)

        documents = len(self.lengths)
        start = final.view(documents, chains).T
        pieces = self.cut(30, chains * tags * 2e-3)
        self.settle(pieces, start, lambda p: flat[places(p, torch.tensor(0))].argmax(2), run, differs)
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
    """The loop of the sum-product recursion over packed tokens. RETURNS: messages, and their scales (tokens,)."""
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
