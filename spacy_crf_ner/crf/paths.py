"""The best paths of linear chains in plain torch (Viterbi 1967).

Shapes are those of `scans`.
"""

from typing import Optional

import torch
from torch import Tensor

from .kernels import on_chip
from .log_domain import Chain
from .schedule import DIGITS, Pieces, Schedule, steps


def best_paths(emissions: Tensor, chain: Chain, lengths: Tensor) -> Tensor:
    """Parameters and result are those of `recursions.viterbi`."""
    rows, time, _ = emissions.shape
    chains = len(chain.transitions)
    # what all tags of a token have in common decides nothing, and would cost digits
    emissions = emissions - emissions.amax(-1, keepdim=True)
    transitions, start, end = (part.to(emissions.dtype) for part in chain)
    if on_chip(emissions):
        from . import recursions_triton

        return recursions_triton.best_paths(emissions, transitions, start, end, lengths)
    schedule = Schedule(lengths, time, chains, emissions.device)
    scores = _run_maxima(schedule, emissions, transitions, start)
    last = (lengths - 1).to(emissions.device)
    final = scores[torch.arange(rows, device=last.device), last] + end.repeat(rows // chains, 1)
    return _trace(schedule, scores, transitions, final.argmax(1))


def _run_maxima(schedule: Schedule, emissions: Tensor, transitions: Tensor, start: Tensor) -> Tensor:
    """Score of the best path to each token and tag, up to a number a token, (rows, time, tags); 0 where padded.

    transitions (chains, from, to); start (chains, tags).
    """
    tags = emissions.shape[2]
    flat = emissions.reshape(-1, tags)
    scores: Optional[Tensor] = None
    digits = DIGITS[emissions.dtype]
    into_from = transitions.transpose(1, 2).contiguous()[:, None]  # (chains, 1, to, from)

    def best_move(state: Tensor) -> Tensor:
        return (state[:, :, None] + into_from).amax(3)

    def run(pieces: Pieces, given: Tensor, keep: bool) -> Tensor:
        nonlocal scores
        packed = schedule.pack(pieces, (0,))
        best = flat.index_select(0, packed.source)
        state = None
        for i, (n, here) in enumerate(steps(packed.live, len(start), best)):
            here += given if state is None else best_move(state[:, :n])
            # often enough to keep all digits
            state = _to_zero(here) if i % 16 == 15 else here
        if keep:
            scores = schedule.keep(scores, packed, best, 0.0, 1)
        return best_move(_to_zero(best[packed.last]))

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return ((a - b).abs() / (1 + a.abs())).amax((0, 2))

    begin = start[:, None].expand(-1, len(schedule.lengths), -1)
    pieces = schedule.cut(15, len(start) * tags * (1e-3 + 3e-4 * tags))
    schedule.settle(pieces, begin, lambda p: start.new_zeros(len(start), len(p.size), tags), run, distance, digits)
    assert scores is not None
    return scores.view(emissions.shape)


def _trace(schedule: Schedule, scores: Tensor, transitions: Tensor, final: Tensor) -> Tensor:
    """Tags of the best paths, int64, (rows, time), 0 where padded; ties go to the lower tag.

    scores (Tensor): As of `_run_maxima`. final (Tensor): Tag of each row's last token, (rows,).
    """
    chains, tags = len(transitions), scores.shape[2]
    flat = scores.reshape(-1, tags)
    found = final.new_zeros(len(flat))
    into_from = transitions.transpose(1, 2).reshape(-1, tags)
    own = (torch.arange(chains, device=final.device) * tags)[:, None]

    def origin(tag: Tensor, before: Tensor) -> Tensor:
        return (before + into_from[tag + own]).argmax(2)

    def places(pieces: Pieces, step: Tensor) -> Tensor:
        """Where the token of a step lies, counted from the end of the document, (chains, pieces)."""
        time = (schedule.lengths[pieces.document] - 1 - pieces.start - step).clamp_min(0)
        return ((pieces.document * chains + torch.arange(chains)[:, None]) * schedule.time + time).to(final.device)

    def run(pieces: Pieces, given: Tensor, keep: bool) -> Tensor:
        packed = schedule.pack(pieces, (1,))
        path = found.new_empty(len(packed.source), 1)
        tag = None
        for n, here, kept in steps(packed.live, chains, flat.index_select(0, packed.source), path):
            tag = given if tag is None else origin(tag[:, :n], here)
            kept[..., 0] = tag
        path = path[:, 0]
        if keep:
            found[packed.source] = path
        return origin(path[packed.last], flat[places(pieces, pieces.size)])

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return (a != b).any(0)

    def guess(pieces: Pieces) -> Tensor:
        return flat[places(pieces, torch.tensor(0))].argmax(2)

    start = final.view(len(schedule.lengths), chains).T
    pieces = schedule.cut(30, chains * tags * 2e-3)
    schedule.settle(pieces, start, guess, run, distance, DIGITS[scores.dtype])
    return found.view(scores.shape[:2])


def _to_zero(scores: Tensor) -> Tensor:
    """Move the largest of each row to 0, in place."""
    return scores.sub_(scores.amax(-1, keepdim=True))
