"""An encoder whose linear layers multiply 8-bit integers, for prediction on a CPU.

Weights are int8 with a scale for each output; activations uint8 with one scale and zero for each layer, found once
from examples (Jacob et al. 2018). Since neither depends on what else is in a batch, neither does a result. What is
left of the error is made small in four ways. Large channels of an input are divided down, and the weights that meet
them multiplied (SmoothQuant; Xiao et al. 2023); how far, and where the range of an input is cut, is searched for on
the examples. Between a layer that is followed by GELU and the next linear layer all stays uint8; the few units there
that are much larger than the others go aside in float32, as outliers do in LLM.int8 (Dettmers et al. 2022). And the
mean error goes into the bias.

The products are oneDNN's, through the operators that PyTorch's own compiler emits
(`torch.ops.onednn.qlinear_pointwise`).
"""

import copy
import threading
from functools import cache
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from .fused import GELU, followed_by_gelu
from .rows import copied_with_rows_added, with_rows_added

# How a layer is quantized, as JSON: see Int8Linear.
Plan = Dict[str, Any]
SMOOTHING = (0.0, 0.3, 0.5, 0.65, 0.75, 0.85)
CUTS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
# Rows of each layer's input that are kept to search on.
ROWS = 2048
# Units between two layers that go aside in float32: about a hundredth of them, which have most of the range.
ASIDE = 16


@cache
def works() -> bool:
    """Whether this processor multiplies uint8 by int8 exactly, by the operators that are used here.

    Without AVX512-VNNI, AVX-VNNI or AMX sums of two products may be cut off at 16 bits, and some builds of torch lack
    the operators.
    """
    try:
        weight = torch.full((16, 64), 127, dtype=torch.int8)
        ones, zeros = torch.ones(16), torch.zeros(16, dtype=torch.int64)
        packed = torch.ops.onednn.qlinear_prepack(weight, None)
        numbers = torch.full((8, 64), 255, dtype=torch.uint8)
        out = torch.ops.onednn.qlinear_pointwise(
            numbers, 1.0, 0, packed, ones, zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        return bool((out == 255 * 127 * 64).all())
    except (AttributeError, RuntimeError, TypeError):
        return False


class Int8Linear(nn.Module):
    """A linear layer over integers.

    n_in, n_out (int): Widths.
    plan (Plan): "input": scale and zero of what comes in. "smooth": whether its channels are divided first. "bias":
        whether there is one. "gelu": null, or which GELU follows. "output": null for float32, or scale and zero of
        the uint8 that goes out. "aside": how many units of the uint8 that goes out, or comes in, go aside in float32.
        "group": layers of one group take the same input.
    shared (Shared): Common to all layers of an encoder.
    """

    weight: Tensor
    scale: Tensor
    bias: Optional[Tensor]
    divisor: Optional[Tensor]
    aside: Optional[Tensor]
    aside_weight: Tensor

    def __init__(self, n_in: int, n_out: int, plan: Plan, shared: "Shared") -> None:
        super().__init__()
        self.plan = plan
        self.shared = shared
        self.register_buffer("weight", torch.zeros(n_out, n_in, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(n_out))
        self.register_buffer("bias", torch.zeros(n_out) if plan["bias"] else None)
        self.register_buffer("divisor", torch.ones(n_in) if plan["smooth"] else None)
        aside = plan["aside"]
        self.register_buffer("aside", torch.zeros(aside, dtype=torch.int64) if aside else None)
        shape = (aside, n_in) if plan["output"] else (n_out, aside)
        self.register_buffer("aside_weight", torch.zeros(shape) if aside else None)
        self._packed: Any = None

    def __getstate__(self) -> Dict[str, Any]:
        return {**self.__dict__, "_packed": None}

    def _load_from_state_dict(self, *arguments: Any, **settings: Any) -> None:
        self._packed = None
        super()._load_from_state_dict(*arguments, **settings)

    def _pack(self) -> Any:
        scale, zero = self.plan["input"]
        return (
            torch.ops.onednn.qlinear_prepack(self.weight, None),
            torch.zeros(len(self.weight), dtype=torch.int64),
            # with an axis, so that what it multiplies in bfloat16 becomes float32
            torch.tensor([1 / scale]) if self.divisor is None else 1 / (scale * self.divisor),
            torch.tensor(zero + 0.5),
        )

    def forward(self, vectors: Tensor, kind: torch.dtype = torch.float32) -> Tensor:
        """Multiply what comes in.

        vectors (Tensor): Floats, or uint8 from the layer before, (..., n_in).
        kind: What goes out, if it is no uint8: float32 or bfloat16.
        RETURNS (Tensor): (..., n_out).
        """
        if self._packed is None:
            self._packed = self._pack()
        weight, zeros, factor, shift = self._packed
        if vectors.dtype == torch.uint8:
            integers = with_rows_added(vectors.reshape(-1, vectors.shape[-1]))
        else:
            integers = self.shared.quantize(vectors, self.plan["group"], factor, shift)
        out_scale, out_zero = self.plan["output"] or (1.0, 0)
        kind = torch.uint8 if self.plan["output"] else kind
        after: Tuple[str, List[float], str] = ("gelu", [], self.plan["gelu"]) if self.plan["gelu"] else ("none", [], "")
        out = torch.ops.onednn.qlinear_pointwise(
            integers, *self.plan["input"], weight, self.scale, zeros, self.bias, out_scale, out_zero, kind, *after
        )
        out = out[: vectors[..., 0].numel()].view(*vectors.shape[:-1], out.shape[1])
        if self.aside is None:
            return out
        if self.plan["output"]:
            bias = None if self.bias is None else self.bias[self.aside]
            units = nn.functional.linear(vectors, self.aside_weight, bias)
            self.shared.aside = (out, nn.functional.gelu(units, approximate=self.plan["gelu"]))
            return out
        of, units = self.shared.aside
        assert of is vectors, "what went aside belongs to another tensor"
        out.flatten(0, -2).addmm_(units.flatten(0, -2), self.aside_weight.T)
        return out

    def as_float(self) -> nn.Module:
        """The same layer, with what follows it, in float32: weights as they are stored, activations as they come."""
        weight = self.weight.float() * self.scale[:, None]
        if self.divisor is not None:
            weight = weight / self.divisor
        if self.aside is not None:
            if self.plan["output"]:
                weight[self.aside] = self.aside_weight
            else:
                weight[:, self.aside] = self.aside_weight
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=self.bias is not None)
        with torch.no_grad():
            linear.weight.copy_(weight)
            if self.bias is not None:
                linear.bias.copy_(self.bias)
        return nn.Sequential(linear, nn.GELU(self.plan["gelu"])) if self.plan["gelu"] else linear


class Shared(threading.local):
    """What the layers of an encoder pass each other: integers of an input that several take, and units aside.

    Each thread has its own.
    """

    def __init__(self) -> None:
        self.clear()

    def __reduce__(self) -> Any:
        return Shared, ()

    def clear(self) -> None:
        """Let go of the tensors of the last run."""
        self.aside: Any = None
        self._of: Optional[Tuple[Tensor, str]] = None
        self._integers: Optional[Tensor] = None

    def quantize(self, vectors: Tensor, group: str, factor: Tensor, shift: Tensor) -> Tensor:
        """vectors * factor + shift, cut off to 0 ... 255. What stands behind the point goes; shift has half a unit.

        RETURNS (Tensor): uint8, (n and the rows that are missing, width); see `rows`.
        """
        if self._of is None or self._of[0] is not vectors or self._of[1] != group:
            self._of = (vectors, group)
            rows = torch.addcmul(shift, vectors, factor).clamp_(0, 255).reshape(-1, vectors.shape[-1])
            self._integers = copied_with_rows_added(rows, torch.uint8)
        assert self._integers is not None
        return self._integers


def insert(encoder: Any, plans: Dict[str, Plan]) -> Shared:
    """Put integer layers, still without weights, in the place of an encoder's linear ones.

    plans (Dict[str, Plan]): By the name of the layer.
    """
    shared = Shared()
    for name, plan in plans.items():
        parent, _, leaf = name.rpartition(".")
        linear = encoder.get_submodule(name)
        n_out, n_in = linear.weight.shape
        setattr(encoder.get_submodule(parent), leaf, Int8Linear(n_in, n_out, plan, shared))
        if plan["gelu"]:
            # it is part of the layer's own kernel now
            encoder.get_submodule(parent).intermediate_act_fn = nn.Identity()
    return shared


def restored(encoder: Any) -> Any:
    """Put float layers back in the place of integer ones, in an encoder of one's own."""
    for name, module in list(encoder.named_modules()):
        if isinstance(module, Int8Linear):
            parent, _, leaf = name.rpartition(".")
            setattr(encoder.get_submodule(parent), leaf, module.as_float())
    return encoder


# How the plans are found


class Observation:
    """What came into a group of linear layers: some rows of it, and its range."""

    def __init__(self) -> None:
        self.layers: List[str] = []
        self.rows: List[Tensor] = []
        self.low: Optional[Tensor] = None
        self.high: Optional[Tensor] = None

    def add(self, rows: Tensor, n_kept: int) -> None:
        low, high = rows.amin(0), rows.amax(0)
        self.low = low if self.low is None else torch.minimum(self.low, low)
        self.high = high if self.high is None else torch.maximum(self.high, high)
        self.rows.append(rows[torch.linspace(0, len(rows) - 1, min(n_kept, len(rows))).long()].clone())

    def most(self, n: int) -> Tensor:
        """The channels with the largest values."""
        assert self.low is not None
        assert self.high is not None
        return torch.maximum(-self.low, self.high).topk(min(n, len(self.low))).indices.sort().values

    def without(self, aside: Optional[Tensor]) -> Tuple[Tensor, Tensor, Tensor]:
        """Rows, and the smallest and largest of each channel; those aside are 0."""
        assert self.low is not None
        assert self.high is not None
        rows, low, high = torch.cat(self.rows), self.low.clone(), self.high.clone()
        if aside is not None:
            rows[:, aside], low[aside], high[aside] = 0, 0, 0
        return rows, low, high


def observe(encoder: Any, batches: Iterable[Tuple[Tensor, Tensor]]) -> List[Observation]:
    """Run an encoder over examples, and see what comes into its linear layers.

    batches: Input ids and attention mask of each, (windows, longest).
    """
    found: Dict[str, Observation] = {}
    last: List[Any] = [None, None]
    mask = torch.zeros(0, dtype=torch.bool)
    batches = list(batches)
    n_kept = max(1, ROWS // max(1, len(batches)))

    def watch(name: str) -> Callable:
        def see(module: nn.Module, arguments: Tuple[Tensor, ...]) -> None:
            vectors = arguments[0]
            if name not in found:
                # layers that are called one after another with the same tensor are a group
                found[name] = found[last[1]] if last[0] is vectors else Observation()
                found[name].layers.append(name)
            first_of_group = last[0] is not vectors
            last[:] = [vectors, name]
            if first_of_group:
                rows = vectors.detach().flatten(0, -2)
                found[name].add(rows[mask.flatten()] if len(rows) == mask.numel() else rows, n_kept)

        return see

    linears = [(name, part) for name, part in encoder.named_modules() if isinstance(part, nn.Linear)]
    hooks = [part.register_forward_pre_hook(watch(name)) for name, part in linears]
    try:
        with torch.no_grad():
            for ids, real in batches:
                mask = real.bool()
                encoder(input_ids=ids, attention_mask=real)
    finally:
        for hook in hooks:
            hook.remove()
    return list({id(group): group for group in found.values()}.values())


def make_int8(encoder: Any, groups: Sequence[Observation]) -> Dict[str, Plan]:
    """Turn an encoder's linear layers into integer ones, in place.

    groups (Sequence[Observation]): What `observe` saw of it.
    RETURNS (Dict[str, Plan]): From which `insert` makes the like.
    """
    names = [name for group in groups for name in group.layers]
    linears = {name: copy.deepcopy(encoder.get_submodule(name)).requires_grad_(False) for name in names}
    follows = dict(_chained(encoder, linears))
    plans: Dict[str, Plan] = {}
    weights: Dict[str, Dict[str, Tensor]] = {}
    for group in groups:
        own = [linears[name] for name in group.layers]
        is_second = group.layers[0] in follows.values()
        aside = group.most(ASIDE) if is_second and ASIDE else None
        divisor, scale, zero = _search(group, own, (0.0,) if is_second else SMOOTHING, aside)
        for name, linear in zip(group.layers, own):
            plans[name] = {
                "input": [scale, zero],
                "smooth": divisor is not None,
                "bias": linear.bias is not None,
                "gelu": GELU[encoder.config.hidden_act] if name in follows else None,
                "output": None,
                "aside": 0 if aside is None else len(aside),
                "group": group.layers[0],
            }
            weights[name] = _quantized(group, linear, divisor, scale, zero, aside)
    for first, second in follows.items():
        plans[first].update(output=plans[second]["input"], aside=plans[second]["aside"])
        if "aside" in weights[second]:
            units = weights[second]["aside"]
            weights[first].update(aside=units, aside_weight=linears[first].weight[units].clone())
    insert(encoder, plans)
    for name, tensors in weights.items():
        encoder.get_submodule(name).load_state_dict(tensors)
    return plans


def _chained(encoder: Any, linears: Dict[str, nn.Module]) -> Iterable[Tuple[str, str]]:
    """Layers that are followed by GELU and one other linear layer."""
    for name in followed_by_gelu(encoder):
        after = name.removesuffix("intermediate.dense") + "output.dense"
        if name in linears and after in linears:
            yield name, after


def _search(
    group: Observation, linears: Sequence[Any], smoothings: Sequence[float], aside: Optional[Tensor]
) -> Tuple[Optional[Tensor], float, int]:
    """The divisor of each channel, scale and zero that change the outputs of the layers least."""
    rows, low, high = group.without(aside)
    matrices = [_without(linear.weight, aside) for linear in linears]
    exact = [rows @ weight.T for weight in matrices]
    strongest = torch.stack([weight.abs().amax(0) for weight in matrices]).amax(0).clamp_min(1e-5)
    largest = torch.maximum(-low, high).clamp_min(1e-5)
    best: Tuple[float, Optional[Tensor], float, int] = (float("inf"), None, 1.0, 0)
    for smoothing in smoothings:
        divisor = torch.ones_like(largest)
        if smoothing:
            divisor = largest**smoothing / strongest ** (1 - smoothing)
            divisor = (divisor / divisor.log().mean().exp()).clamp(1e-2, 1e2)
        weights = [_round_weight(weight * divisor) for weight in matrices]
        moved = rows / divisor
        lowest, highest = float((low / divisor).min()), float((high / divisor).max())
        for cut in CUTS:
            scale, zero = _affine(cut * lowest, cut * highest)
            rounded = _rounded(moved, scale, zero)
            error = 0.0
            for (q, s), y in zip(weights, exact):
                difference = rounded @ (q.float() * s[:, None]).T - y
                # the mean goes into the bias
                error += float((difference - difference.mean(0)).pow(2).sum())
            if error < best[0]:
                best = (error, divisor if smoothing else None, scale, zero)
    return best[1:]


def _quantized(
    group: Observation, linear: Any, divisor: Optional[Tensor], scale: float, zero: int, aside: Optional[Tensor]
) -> Dict[str, Tensor]:
    """The tensors of an Int8Linear; the mean of its error on the rows that were seen is taken off its bias."""
    rows, _, _ = group.without(aside)
    weight = _without(linear.weight, aside)
    q, q_scale = _round_weight(weight if divisor is None else weight * divisor)
    rounded = _rounded(rows if divisor is None else rows / divisor, scale, zero)
    found = {"weight": q, "scale": q_scale}
    if linear.bias is not None:
        found["bias"] = linear.bias - (rounded @ (q.float() * q_scale[:, None]).T - rows @ weight.T).mean(0)
    if divisor is not None:
        found["divisor"] = divisor
    if aside is not None:
        found.update(aside=aside, aside_weight=linear.weight[:, aside].clone())
    return found


def _without(weight: Tensor, aside: Optional[Tensor]) -> Tensor:
    """A weight that does not see the units aside."""
    if aside is None:
        return weight
    weight = weight.clone()
    weight[:, aside] = 0
    return weight


def _round_weight(weight: Tensor) -> Tuple[Tensor, Tensor]:
    scale = weight.detach().abs().amax(1).clamp_min(1e-8) / 127
    return torch.round(weight.detach() / scale[:, None]).clamp_(-127, 127).to(torch.int8), scale


def _rounded(vectors: Tensor, scale: float, zero: int) -> Tensor:
    """What is left of vectors when they have been integers."""
    return (vectors / scale + (zero + 0.5)).clamp_(0, 255).floor_().sub_(zero).mul_(scale)


def _affine(low: float, high: float) -> Tuple[float, int]:
    """Scale and zero that put a range on 0 ... 255; 0 itself is always met."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / 255, 1e-8)
    return scale, round(-low / scale)
