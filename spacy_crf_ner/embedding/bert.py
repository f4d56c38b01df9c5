"""The forward pass of BERT and its relatives in prediction, and nothing around it.

What Hugging Face's does around it (masks in every shape, caches for decoders, outputs that nobody asked for) and what
it takes to change its attention from outside cost 2 to 3 milliseconds for six layers: a third of the time of a few
short texts.
"""

from typing import Any, Callable, Dict, Iterator, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from .attention import attend
from .int8 import Int8Linear
from .precision import cpu_has_bf16

Function = Callable[..., Tensor]


class Layer(NamedTuple):
    """What a layer does, in the order in which it does it (Vaswani et al. 2017, section 3.1; Devlin et al. 2019)."""

    query: Function
    key: Function
    value: Function
    mix: Function
    attention_norm: Function
    widen: Function
    activate: Function
    narrow: Function
    norm: Function


def _bert(layer: Any) -> Layer:
    attention, inside = layer.attention.output, layer.attention.self
    return Layer(
        inside.query, inside.key, inside.value, attention.dense, attention.LayerNorm,
        layer.intermediate.dense, layer.intermediate.intermediate_act_fn, layer.output.dense, layer.output.LayerNorm,
    )  # fmt: skip


def _distilbert(layer: Any) -> Layer:
    attention, wide = layer.attention, layer.ffn
    return Layer(
        attention.q_lin, attention.k_lin, attention.v_lin, attention.out_lin, layer.sa_layer_norm,
        wide.lin1, wide.activation, wide.lin2, layer.output_layer_norm,
    )  # fmt: skip


# By the type of a model: where its layers are, and how to read one.
FAMILY: Dict[str, Tuple[str, Callable[[Any], Layer]]] = {
    "bert": ("encoder", _bert),
    "camembert": ("encoder", _bert),
    "electra": ("encoder", _bert),
    "roberta": ("encoder", _bert),
    "xlm-roberta": ("encoder", _bert),
    "distilbert": ("transformer", _distilbert),
}


def is_bert(encoder: Any) -> bool:
    """Whether `hidden_states` computes what this encoder does."""
    config = encoder.config
    positions = getattr(config, "position_embedding_type", "absolute")
    return config.model_type in FAMILY and positions == "absolute" and not getattr(config, "is_decoder", False)


def hidden_states(encoder: Any, ids: Tensor, n_real: Optional[Tensor], layers: Sequence[int]) -> Tensor:
    """The wanted layers of an encoder that `is_bert`, and is not in training.

    ids (Tensor): Wordpieces of each window, (windows, longest). n_real (Optional[Tensor]): How many of each are no
        padding, (windows,); None: all.
    layers (Sequence[int]): 0 for what goes into the first.
    RETURNS (Tensor): (windows, longest, layers * hidden).
    """
    wanted = {n: states for n, states in enumerate(_pass(encoder, ids, n_real)) if n in layers}
    states = wanted[layers[0]] if len(layers) == 1 else torch.cat([wanted[n] for n in layers], -1)
    return states.unflatten(0, ids.shape)


def _pass(encoder: Any, ids: Tensor, n_real: Optional[Tensor]) -> Iterator[Tensor]:
    """What goes into the first layer and comes out of each: (windows * longest, hidden)."""
    states = encoder.embeddings(input_ids=ids).flatten(0, 1)
    if hasattr(encoder, "embeddings_project"):
        states = encoder.embeddings_project(states)
    yield states
    mask = None
    if n_real is not None:
        padding = torch.arange(ids.shape[1], device=ids.device) >= n_real[:, None]
        least = torch.finfo(states.dtype).min
        mask = states.new_zeros(padding.shape).masked_fill_(padding, least)[:, None, None]
    where, read = FAMILY[encoder.config.model_type]
    size = encoder.config.hidden_size // encoder.config.num_attention_heads
    for layer in map(read, encoder.get_submodule(where).layer):
        states = _through(layer, states, (*ids.shape, -1, size), mask)
        yield states


def _through(layer: Layer, states: Tensor, shape: Tuple[int, ...], mask: Optional[Tensor]) -> Tensor:
    """A layer's output; shape: windows, longest, heads, the width of a head."""
    # between integers, attention is as good in bfloat16, and over long windows a fifth of the whole faster
    settings = {"kind": torch.bfloat16} if isinstance(layer.query, Int8Linear) and cpu_has_bf16() else {}
    query, key, value = (part(states, **settings).view(shape).transpose(1, 2) for part in layer[:3])
    attention = attend if states.device.type == "cpu" else scaled_dot_product_attention
    seen = attention(query, key, value, mask).transpose(1, 2).reshape(len(states), -1)
    states = layer.attention_norm(layer.mix(seen).add_(states))
    return layer.norm(layer.narrow(layer.activate(layer.widen(states))).add_(states))
