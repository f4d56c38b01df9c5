"""Attention over short windows on a CPU: no slow tail of its softmax, and a dropout that costs little."""

import contextlib
from functools import cache
from typing import Any, Callable, ContextManager, Dict, Optional, Tuple

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from .dropout import drop

# Numbers that the processor takes at once, and from how many left over they are filled up. In bfloat16 always: so the
# order of most sums does not depend on how long the longest window of a batch is.
LANES = 16
TAILS = {torch.float32: 6, torch.bfloat16: 1}
# Up to how many keys training in bfloat16 goes by steps also without dropout: they hold a number for each two pieces.
MOST_STEPS = 512


def quick_attention(device: torch.device) -> ContextManager[Any]:
    """A context in which attention is computed by `attend`, where that is faster."""
    return QuickAttention() if device.type == "cpu" else contextlib.nullcontext()


@cache
def _has_lanes() -> bool:
    return torch.backends.cpu.get_cpu_capability() == "AVX512"


class QuickAttention(TorchFunctionMode):
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
    scale: Optional[float] = None,
    enable_gqa: bool = False,
) -> Tensor:
    """`scaled_dot_product_attention`, on a CPU, by the fastest way that there is.

    query, key, value (Tensor): (windows, heads, pieces, width). attn_mask: What is added to the scores, or where they
        count, broadcast to (windows, heads, pieces, pieces). The rest is torch's.
    RETURNS (Tensor): (windows, heads, pieces, width).
    """
    # torch has no fused kernel with dropout, and in bfloat16 a slow one for the way back
    learns = torch.is_grad_enabled() and query.requires_grad
    usual = key.dim() == 4 and not is_causal and not enable_gqa
    slow_back = learns and key.dtype == torch.bfloat16 and key.shape[-2] <= MOST_STEPS
    if usual and (dropout_p or slow_back):
        return attend_by_steps(query, key, value, attn_mask, dropout_p, scale)
    if usual and not learns and _has_lanes():
        key, value, attn_mask = fill_up(key, value, attn_mask)
    return scaled_dot_product_attention(
        query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
    )


def fill_up(key: Tensor, value: Tensor, mask: Optional[Tensor]) -> Tuple[Tensor, Tensor, Optional[Tensor]]:
    """Add keys that nothing attends to, up to a whole number of LANES, where too many are left over (TAILS).

    key, value (Tensor): (windows, heads, keys, width). mask: As in `attend`.
    RETURNS: The three with more keys.

    torch computes the softmax over the keys LANES at a time, and what is left over one by one: 127 keys take twice as
    long as 128.
    """
    n_keys = key.shape[-2]
    if n_keys % LANES < TAILS.get(key.dtype, LANES):
        return key, value, mask
    more = -n_keys % LANES
    # as they lie in memory, where the heads stand behind the keys
    key, value = (pad(part.transpose(1, 2), (0, 0, 0, 0, 0, more)).transpose(1, 2) for part in (key, value))
    if mask is None:
        mask = key.new_zeros(1, 1, 1, n_keys)
    mask = pad(
        mask.expand(*mask.shape[:-1], n_keys), (0, more), value=False if mask.dtype == torch.bool else -torch.inf
    )
    return key, value, mask


def attend_by_steps(
    query: Tensor, key: Tensor, value: Tensor, mask: Optional[Tensor], dropout: float, scale: Optional[float]
) -> Tensor:
    """Attention with dropout, and a way back, in float32 at least; the parameters are those of `attend`.

    Not in bfloat16, as torch's own is not: for products as small as these oneDNN is no faster, and it would compile,
    and keep, six kernels for each shape that windows come in.
    """
    kind = query.dtype
    with torch.autocast("cpu", enabled=False):
        query, key, value = (part.to(torch.promote_types(kind, torch.float32)) for part in (query, key, value))
        scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.transpose(-1, -2)
        if mask is not None:
            # finite, so that a piece that may attend to nothing is no NaN
            least = torch.finfo(scores.dtype if mask.dtype == torch.bool else mask.dtype).min
            scores = scores.masked_fill(~mask, least) if mask.dtype == torch.bool else scores + mask.clamp_min(least)
        return (drop(scores.softmax(-1), dropout, True) @ value).to(kind)
