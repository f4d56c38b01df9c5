"""The recursions of `scans` and `paths` as one GPU kernel each: a program a sequence, its state on the chip.

A loop over time in torch starts several kernels a token, and the GPU waits for most of them. Here the whole
loop is one kernel, for both directions of all sequences at once. Needs Triton, which comes with torch for
CUDA; float32 only. What these kernels may leave inexact `scans.conclude` finds out.

The kernels run on the CPU too, in Triton's interpreter (TRITON_INTERPRET=1), which is how they are tested
where there is no GPU.
"""

from typing import Tuple

import torch
import triton
import triton.language as tl
from torch import Tensor


def run_sums(local: Tensor, moves: Tensor, edges: Tensor, lengths: Tensor, floor: float) -> Tuple[Tensor, Tensor]:
    """Messages of both directions.

    local (Tensor): exp(emission - the token's largest), (rows, time, tags).
    moves, edges (Tensor): Of both directions, (2 * chains, tags, tags) and (2 * chains, tags).
    lengths (Tensor): int64, (rows,).
    RETURNS: messages (2, rows, time, tags), 0 where padded; scales (2, rows, time), 1 where padded.
    """
    rows, time, tags = local.shape
    message, scale = local.new_zeros(2, rows, time, tags), local.new_ones(2, rows, time)
    block, warps = _size(tags)
    with torch.cuda.device_of(local):
        _sum_kernel[(rows, 2)](
            local.contiguous(), moves.contiguous(), edges.contiguous(), lengths.to(local.device), message, scale,
            time, tags, len(moves) // 2, floor, BLOCK=block, num_warps=warps,
        )  # fmt: skip
    return message, scale


def best_paths(emissions: Tensor, transitions: Tensor, start: Tensor, end: Tensor, lengths: Tensor) -> Tensor:
    """Tags of the best paths, int64, (rows, time), 0 where padded. Scores are (chains, ...), as in `Chain`."""
    rows, time, tags = emissions.shape
    origins = torch.empty(rows, time, tags, dtype=torch.int16, device=emissions.device)
    found = torch.zeros(rows, time, dtype=torch.int64, device=emissions.device)
    last = torch.empty(rows, dtype=torch.int64, device=emissions.device)
    block, warps = _size(tags)
    lengths = lengths.to(emissions.device)
    with torch.cuda.device_of(emissions):
        _viterbi_kernel[(rows,)](
            emissions.contiguous(), transitions.contiguous(), start.contiguous(), end.contiguous(), lengths, origins,
            last, time, tags, len(transitions), BLOCK=block, num_warps=warps,
        )  # fmt: skip
        _trace_kernel[(rows,)](origins, last, lengths, found, time, tags, num_warps=1)
    return found


def _size(tags: int) -> Tuple[int, int]:
    """Side of the square that holds the moves, and the warps that it is spread over."""
    block = max(16, triton.next_power_of_2(tags))
    return block, min(16, max(1, block * block // 2048))


@triton.jit
def _sum_kernel(  # type: ignore[no-untyped-def]
    local, moves, edges, lengths, message, scale, time, tags, chains, floor, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    back = tl.program_id(1)
    length = tl.load(lengths + row)
    k = tl.arange(0, BLOCK)
    on = k < tags
    group = back * chains + row % chains
    square = on[:, None] & on[None, :]
    step = tl.load(moves + group * tags * tags + k[:, None] * tags + k[None, :], mask=square, other=0.0)
    arrived = tl.load(edges + group * tags + k, mask=on, other=0.0)
    out = back * tl.num_programs(0).to(tl.int64) * time
    for i in range(0, length):
        # the way back is the way there over the mirror image
        at = row * time + tl.where(back == 1, length - 1 - i, i)
        here = tl.load(local + at * tags + k, mask=on, other=0.0)
        arrived = tl.where(on, tl.maximum(arrived, floor), 0.0)
        tl.store(message + (out + at) * tags + k, arrived, mask=on)
        state = arrived * here
        top = tl.max(state, axis=0)
        tl.store(scale + out + at, top)
        state = state / top
        arrived = tl.sum(state[:, None] * step, axis=0)


@triton.jit
def _viterbi_kernel(  # type: ignore[no-untyped-def]
    emissions, transitions, start, end, lengths, origins, last, time, tags, chains, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    length = tl.load(lengths + row)
    chain = row % chains
    k = tl.arange(0, BLOCK)
    on = k < tags
    square = on[:, None] & on[None, :]
    least = -float("inf")
    step = tl.load(transitions + chain * tags * tags + k[:, None] * tags + k[None, :], mask=square, other=least)
    score = tl.load(start + chain * tags + k, mask=on, other=least)
    score += tl.load(emissions + row * time * tags + k, mask=on, other=0.0)
    for i in range(1, length):
        at = (row * time + i) * tags + k
        ways = score[:, None] + step
        # where scores are not numbers, argmax may be a lane that holds no tag
        tl.store(origins + at, tl.minimum(tl.argmax(ways, axis=0), tags - 1).to(tl.int16), mask=on)
        score = tl.max(ways, axis=0) + tl.load(emissions + at, mask=on, other=0.0)
        score -= tl.max(score, axis=0)
    score += tl.load(end + chain * tags + k, mask=on, other=0.0)
    tl.store(last + row, tl.minimum(tl.argmax(score, axis=0), tags - 1).to(tl.int64))


@triton.jit
def _trace_kernel(  # type: ignore[no-untyped-def]
    origins, last, lengths, found, time, tags
):
    row = tl.program_id(0).to(tl.int64)
    length = tl.load(lengths + row)
    tag = tl.load(last + row)
    tl.store(found + row * time + length - 1, tag)
    for i in range(1, length):
        at = row * time + length - i
        tag = tl.load(origins + at * tags + tag).to(tl.int64)
        tl.store(found + at - 1, tag)
