"""Dropout that costs little on a CPU, where torch's own takes about a twelfth of a training step."""

from typing import Any, Tuple

import torch
from torch import Tensor, nn

LEVELS = 1 << 16


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
