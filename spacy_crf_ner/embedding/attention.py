"""Attention over short windows on a CPU, without the slow tail of its softmax."""

import contextlib
from functools import cache
from typing import Any, Callable, ContextManager, Dict, Optional, Tuple

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from .precision import Precision

# Numbers that the processor takes at once, and from how many left over they are filled up.
LANES, TAIL = 16, 6


def filled_up(precision: Precision, device: torch.device) -> ContextManager[Any]:
    """A context in which attention is computed by `attend`, where that is faster.

    In half precision it is not: the other order of sums would show in what batch-mates change.
    """
    faster = precision not in ("bf16", "fp16") and device.type == "cpu" and _has_lanes()
    return FilledUp() if faster else contextlib.nullcontext()


@cache
def _has_lanes() -> bool:
    return torch.backends.cpu.get_cpu_capability() == "AVX512"


class FilledUp(TorchFunctionMode):
    """Sees to torch's calls of `scaled_dot_product_attention`, whichever encoder makes them."""

    def __torch_function__(
        self, func: Callable, types: Any, args: Tuple[Any, ...] = (), kwargs: Optional[Dict[str, Any]] = None
    ) -> Any:
        return (attend if func is scaled_dot_product_attention else func)(*args, **(kwargs or {}))


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Optional[Tensor] = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **settings: Any,
) -> Tensor:
    """`scaled_dot_product_attention`, with keys that nothing attends to up to a whole number of LANES.

    query, key, value (Tensor): (windows, heads, pieces, width). attn_mask: What is added to the scores, or where they
        count, broadcast to (windows, heads, pieces, pieces). The rest is torch's.
    RETURNS (Tensor): (windows, heads, pieces, width).

    torch computes the softmax over the keys LANES at a time, and what is left over one by one: 127 keys take twice as
    long as 128.
    """
    n_keys = key.shape[-2]
    unusual = key.dim() != 4 or key.dtype != torch.float32 or is_causal or dropout_p
    if n_keys % LANES < TAIL or attn_mask is None or attn_mask.shape[-1] != n_keys or unusual:
        return scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, **settings)
    more = -n_keys % LANES
    # filled up as they lie in memory, where the heads stand behind the keys
    key, value = (pad(part.transpose(1, 2), (0, 0, 0, 0, 0, more)).transpose(1, 2) for part in (key, value))
    mask = pad(attn_mask, (0, more), value=False if attn_mask.dtype == torch.bool else -torch.inf)
    return scaled_dot_product_attention(query, key, value, mask, **settings)
