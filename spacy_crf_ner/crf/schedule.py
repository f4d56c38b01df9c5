"""How a batch of sequences is worked step by step: the longest first, the long ones in pieces side by side.

A long sequence is cut into pieces. Each starts from a guess, got by running the end of the piece before it from
nothing; the pieces whose guess turns out wrong run again from what the piece before them really passed on, until
nothing changes (Maleki et al. 2014, "Parallelizing dynamic programming through rank convergence", PPoPP). What is
passed on over a small difference is added up and counts as error. A chain soon forgets where it came from; a
document whose chain does not is run in one piece.

Shapes: lengths int64 on the CPU, (rows,). With several chains the rows are documents times chains, row i goes by chain
i modulo their number, and all rows of a document are of equal length.
"""

from itertools import groupby
from typing import Callable, Iterator, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

# Tokens in a piece, and in the run that guesses how it starts.
PIECES = (32, 64, 128, 256)
WARM_UP = 16
# Rounds in which pieces are mended before their documents are run in one piece.
ROUNDS = 3


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


class Pieces(NamedTuple):
    """Runs of tokens of documents, longest first; all int64 on the CPU, (pieces,).

    document, start, size (Tensor): Which document, the first token, and how many. In a mirrored document positions
        count from its end.
    following (Tensor): The piece that goes on where this one ends, or -1.
    """

    document: Tensor
    start: Tensor
    size: Tensor
    following: Tensor

    def take(self, which: Tensor) -> "Pieces":
        return Pieces(*(part[which] for part in self))


def cut_pieces(lengths: Tensor, size: int) -> Pieces:
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
    return Pieces(document[order], start[order], sizes[order], following[order])


class Packed(NamedTuple):
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


class Schedule:
    """How a batch is worked: its documents longest first, the long ones in pieces side by side."""

    def __init__(self, lengths: Tensor, time: int, chains: int, device: torch.device) -> None:
        self.lengths = lengths[::chains]
        self.rows, self.time, self.chains, self.device = len(lengths), time, chains, device

    def cut(self, step: float, token: float) -> Pieces:
        """Cut documents so that they are worked fastest.

        step, token (float): Microseconds that a step takes by itself, and what each token of a document adds, as
            they were on two CPU cores; the ratio is what counts.
        """
        longest, tokens = int(self.lengths.max()), int(self.lengths.sum())
        cost = {longest: longest * step + tokens * token}
        for size in PIECES:
            if size + WARM_UP < longest:
                cost[size] = (size + WARM_UP) * step + tokens * token * (1 + WARM_UP / size)
        return cut_pieces(self.lengths, min(cost, key=lambda size: cost[size]))

    def pack(self, pieces: Pieces, directions: Tuple[int, ...]) -> Packed:
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
        return Packed(live.tolist(), *(x.to(self.device) for x in (*places, last)))

    def settle(
        self,
        pieces: Pieces,
        start: Tensor,
        guess: Callable[[Pieces], Tensor],
        run: Callable[[Pieces, Tensor, bool], Tensor],
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
            alone = cut_pieces(self.lengths[whole], int(self.lengths[whole].max()))
            alone = alone._replace(document=whole[alone.document])
            run(alone, start[:, alone.document.to(self.device)], True)
        return drift.repeat_interleave(self.chains).to(self.device)

    def _drift(self, pieces: Pieces, gaps: Tensor, digits: Digits) -> Tensor:
        """Sum over each document of what its pieces differ by beyond the noise, (documents,)."""
        beyond = torch.where(gaps > digits.same, 0.0, (gaps - digits.noise).clamp_min(0.0))
        return torch.zeros(len(self.lengths), dtype=torch.float64).index_add_(0, pieces.document, beyond)

    def keep(self, kept: Optional[Tensor], packed: Packed, found: Tensor, blank: float, directions: int) -> Tensor:
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


def steps(live: List[int], groups: int, *packed: Tensor) -> Iterator[Tuple]:
    """Step through packed rows. YIELDS: number of live pieces, and a view (groups, pieces, columns) of each."""
    done = 0
    for n, run in groupby(live):
        count = len(list(run))
        rows = slice(done, done + count * groups * n)
        done = rows.stop
        for parts in zip(*(x[rows].view(count, groups, n, x.shape[1]).unbind(0) for x in packed)):
            yield (n, *parts)
