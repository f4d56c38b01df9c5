"""What the encoder and the CNN are computed in: float32, bfloat16, or float16 with a loss scale."""

import contextlib
import copy
import logging
from functools import cache
from typing import Any, ContextManager, Dict, Iterable, Literal

import torch

from . import fused
from .int8 import restored

logger = logging.getLogger("spacy")

Precision = Literal["fp32", "bf16", "fp16", "int8"]
PRECISIONS = ("fp32", "bf16", "fp16", "int8")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def computed_in(precision: Precision, device: torch.device) -> ContextManager:
    """A context in which torch computes what it safely can in a precision, from float32 weights.

    What stands beside an encoder in int8 is computed in bfloat16 where the processor has it.
    """
    if precision == "int8":
        precision = "bf16" if device.type == "cpu" and cpu_has_bf16() else "fp32"
    if precision == "fp32":
        return contextlib.nullcontext()
    warn_of(precision, device.type, device.index)
    return torch.autocast(device.type, DTYPES[precision])


@cache
def warn_of(precision: Precision, kind: str, index: int) -> None:
    """Say, once, that a processor is slow at a precision, and which to use."""
    if precision == "bf16" and kind == "cuda" and torch.cuda.get_device_capability(index) < (8, 0):
        logger.warning(
            'precision = "bf16": %s has no bfloat16 arithmetic and is slow at it. precision = "fp16" is fast there.',
            torch.cuda.get_device_name(index),
        )
    if precision == "bf16" and kind == "cpu" and not cpu_has_bf16():
        logger.warning('precision = "bf16": this processor has no bfloat16 arithmetic; "fp32" is faster here.')
    if precision == "fp16" and kind == "cpu":
        logger.warning(
            'precision = "fp16" is meant for GPUs without bfloat16. On a CPU "bf16" or "fp32" is faster and safer.'
        )


@cache
def warn_without_int8(kind: str) -> None:
    logger.warning(
        "The pipeline is quantized to int8, which %s has no instructions for: it runs in float32, from these weights.",
        "a GPU" if kind == "cuda" else "this processor",
    )


@cache
def cpu_has_bf16() -> bool:
    """Whether the processor multiplies matrices in bfloat16. True where torch cannot tell."""
    if hasattr(torch.cpu, "get_capabilities"):  # torch 2.11 and later
        found = torch.cpu.get_capabilities()
        if found.get("architecture") == "x86_64":
            return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
        return bool(found.get("bf16", True))
    return bool(torch.cpu._is_avx512_bf16_supported()) if hasattr(torch.cpu, "_is_avx512_bf16_supported") else True


class Converted:
    """An encoder with its weights in another precision, for prediction: they are converted once and not in each call.

    Whoever changes the encoder's own weights has to say so (`drop`); what loads others in place is noticed.
    """

    def __init__(self) -> None:
        self._encoder: Any = None
        self._made_of: Any = None

    def get(self, encoder: torch.nn.Module, precision: Precision) -> Any:
        # torch counts most changes of a tensor, though not those of its fused optimizers
        parameters = list(encoder.parameters())
        state = (precision, [(p.data_ptr(), p._version) for p in parameters])
        if state != self._made_of:
            warn_of(precision, parameters[0].device.type, parameters[0].device.index)
            self._encoder = restored(copy.deepcopy(encoder)).to(DTYPES[precision]).eval().requires_grad_(False)
            if precision == "bf16" and parameters[0].device.type == "cpu" and cpu_has_bf16() and fused.works():
                self._encoder = fused.fuse(self._encoder)
            self._made_of = state
        return self._encoder

    def drop(self) -> None:
        self._encoder = self._made_of = None


class LossScale:
    """Keeps float16 gradients from vanishing: they are computed of a loss so many times as large.

    The factor halves when a gradient is not finite and doubles after `GROWTH` steps without that. It changes only
    when the gradients of a step are taken, so that all that add up in one step have the same.

    state (Dict[str, Any]): Where factor and count are kept, as "loss_scale" and "loss_scale_steps"; may hold them
        already.
    """

    GROWTH = 2000
    FIRST, LARGEST = 2.0**16, 2.0**24

    def __init__(self, state: Dict[str, Any]) -> None:
        self._state = state
        state.setdefault("loss_scale", self.FIRST)
        state.setdefault("loss_scale_steps", 0)

    @property
    def factor(self) -> float:
        return self._state["loss_scale"]

    def unscale(self, parameters: Iterable[torch.nn.Parameter]) -> bool:
        """Divide gradients by the factor, and choose the factor of the next step.

        RETURNS (bool): Whether all gradients are finite.
        """
        gradients = [p.grad._values() if p.grad.is_sparse else p.grad for p in parameters if p.grad is not None]
        if not gradients:
            return True
        torch._foreach_mul_(gradients, 1 / self.factor)
        finite = bool(torch.isfinite(torch.nn.utils.get_total_norm(gradients)))
        if not finite:
            self._state.update(loss_scale=max(self.factor / 2, 1.0), loss_scale_steps=0)
            logger.info("A float16 gradient is not finite: the loss is now scaled by %g.", self.factor)
        elif self._state["loss_scale_steps"] + 1 == self.GROWTH:
            self._state.update(loss_scale=min(self.factor * 2, self.LARGEST), loss_scale_steps=0)
        else:
            self._state["loss_scale_steps"] += 1
        return finite
