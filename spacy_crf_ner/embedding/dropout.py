"""Dropout that costs little on a CPU, where torch's own takes about a twelfth of a training step, and its seeds."""

import contextlib
from typing import Any, Iterator, List, Optional, Tuple

import torch
from torch import Tensor, nn

LEVELS = 1 << 16
# Between the seeds of two parts that are worked by themselves; parts of one have those between them.
SEED_STEP = 1 << 16


class Dropout(nn.Dropout):
    """`torch.nn.Dropout`; see `drop`."""

    def forward(self, vectors: Tensor) -> Tensor:
        return drop(vectors, self.p, self.training)


def drop(vectors: Tensor, rate: float, training: bool) -> Tensor:
    """Set a share of values to 0 in training, and scale up the others.

    On a CPU each value takes 16 random bits of torch's generator, so that the rate is met to 1 / 131,072; elsewhere
    it is torch's own function.
    """
    if not training or rate < 1 / (2 * LEVELS):
        return vectors
    if vectors.device.type != "cpu" or rate >= 1:
        return nn.functional.dropout(vectors, rate, training)
    return _Dropout.apply(vectors, rate)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor, rate: float) -> Tensor:
        n = vectors.numel()
        bits = torch.empty((n + 3) // 4, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
        kept = bits[:n].view(vectors.shape) < round(LEVELS * (1 - rate)) - LEVELS // 2
        ctx.save_for_backward(kept)
        ctx.scale = 1 / (1 - rate)
        return torch.mul(vectors, kept).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, *d_outputs: Any) -> Tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return torch.mul(d_outputs[0], kept).mul_(ctx.scale), None


def replace_dropout(encoder: nn.Module) -> None:
    """Put `Dropout` where a module has torch's own."""
    for module in encoder.modules():
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, Dropout(child.p).train(child.training))


def seeds(n_parts: int, drops: bool) -> List[Optional[int]]:
    """A seed for each part of a computation that may have to be done again; None where nothing is random."""
    if not drops:
        return [None] * n_parts
    # one draw, so that what is drawn next does not depend on how many there are
    first = int(torch.randint(2**62, (), device="cpu"))
    return [first + i * SEED_STEP for i in range(n_parts)]


@contextlib.contextmanager
def seeded(seed: Optional[int], device: torch.device) -> Iterator[None]:
    """Random numbers from a seed, without a trace in those that come after. None: as they come."""
    if seed is None:
        yield
        return
    gpus = [torch.cuda.current_device() if device.index is None else device.index] if device.type == "cuda" else []
    with torch.random.fork_rng(gpus):
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            torch.cuda.default_generators[gpu].manual_seed(seed)
        yield
