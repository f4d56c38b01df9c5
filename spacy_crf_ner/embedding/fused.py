"""Linear layers in bfloat16 as oneDNN computes them, with the GELU that follows, for prediction on a CPU.

torch's own path takes up to half as long again for the same product, and GELU another pass over what comes out. The
operator is the one that PyTorch's compiler emits for such a layer.
"""

from functools import cache
from typing import Any, Dict, List, Optional, Tuple

import torch
from torch import Tensor, nn

from .memory import CPU_PREDICTION
from .rows import with_rows_added

# How a GELU is computed, by its name in a Hugging Face config.
GELU = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}


@cache
def works() -> bool:
    """Whether this build of torch has the operator, and it computes what is expected of it."""
    try:
        generator = torch.Generator().manual_seed(0)
        vectors, weight = (torch.randn(n, 8, generator=generator).bfloat16() for n in (4, 6))
        expected = nn.functional.gelu(nn.functional.linear(vectors, weight).float())
        weight = torch.ops.mkldnn._reorder_linear_weight(weight, len(vectors))
        found = torch.ops.mkldnn._linear_pointwise(vectors, weight, None, "gelu", [], "none")
        return bool(torch.allclose(found.float(), expected, atol=0.05))
    except (AttributeError, RuntimeError, TypeError):
        return False


class FusedLinear(nn.Module):
    """A linear layer and what follows it.

    linear (nn.Linear): Its weights. gelu (Optional[str]): Which GELU follows, "none" (the exact one) or "tanh"; None:
        nothing.
    """

    def __init__(self, linear: nn.Linear, gelu: Optional[str]) -> None:
        super().__init__()
        # laid out as oneDNN wants it, which otherwise would happen in each call
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), CPU_PREDICTION)
        self.bias, self.gelu = linear.bias, gelu
        self._after: Tuple[str, List[float], str] = ("gelu", [], gelu) if gelu else ("none", [], "")

    def forward(self, vectors: Tensor) -> Tensor:
        """vectors (Tensor): bfloat16, (..., n_in). RETURNS (Tensor): bfloat16, (..., n_out)."""
        rows = vectors.flatten(0, -2)
        # a kernel with a GELU is compiled in 15 ms, for which rows are copied; one without in 2 to 6, for which not
        filled = with_rows_added(rows, copy=bool(self.gelu))
        out = torch.ops.mkldnn._linear_pointwise(filled, self.weight, self.bias, *self._after)
        return out[: len(rows)].unflatten(0, vectors.shape[:-1])


def fuse(encoder: Any) -> Any:
    """Put fused layers in the place of an encoder's linear ones; the encoder is one's own, in bfloat16, on a CPU."""
    gelus = followed_by_gelu(encoder)
    for name, part in list(encoder.named_modules()):
        if isinstance(part, nn.Linear):
            parent = encoder.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], FusedLinear(part, gelus.get(name)))
            if name in gelus:
                parent.intermediate_act_fn = nn.Identity()
    return encoder


def followed_by_gelu(encoder: Any) -> Dict[str, str]:
    """Linear layers that are followed by GELU alone, and which: in BERT and its many relatives."""
    kind = GELU.get(getattr(encoder.config, "hidden_act", ""))
    return {
        f"{name}.dense": kind
        for name, part in encoder.named_modules()
        if kind and name.endswith(".intermediate") and hasattr(part, "intermediate_act_fn")
        if isinstance(getattr(part, "dense", None), nn.Linear)
    }
