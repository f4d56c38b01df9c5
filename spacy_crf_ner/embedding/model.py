"""The transformer + CNN embedding as a thinc model."""

from typing import Any, Callable, Dict, List, Literal, Optional, Sequence, Tuple

from spacy.tokens import Doc
from thinc.api import ArgsKwargs, Model
from thinc.types import Floats2d

from ..torch_shim import TorchShim, split_rows, to_torch, to_xp
from .cnn import ACTIVATIONS, Norm
from .encoder import TransformerCNNModule, load_pretrained, rebuild
from .pieces import batch_pieces

Precision = Literal["fp32", "bf16"]
PRECISIONS = ("fp32", "bf16")
Embedding = Model[List[Doc], List[Floats2d]]


def TransformerCNN(
    encoder: str,
    *,
    window: int = 128,
    stride: int = 96,
    width: Optional[int] = None,
    kernel_sizes: Sequence[int] = (3,),
    filters: Optional[int] = None,
    activation: str = "relu",
    residual: bool = True,
    norm: Norm = "pre",
    micro_batch_pieces: int = 2048,
    precision: Precision = "fp32",
) -> Embedding:
    """Token vectors from a pretrained encoder and a CNN over its mean-pooled wordpieces.

    encoder (str): Name on the Hugging Face hub, folder, or package:NAME/FOLDER. It is read once, by
        `nlp.initialize()`; a saved pipeline holds all of it.
    window (int): Wordpieces that go through the encoder at once, special ones included; never more than it takes.
    stride (int): Distance between two windows, in wordpieces. Of each window the centre is kept.
    width (Optional[int]): Width of the vectors that come out; null: the encoder's own.
    kernel_sizes (List[int]): Tokens seen by each convolution, side by side; empty: none.
    filters (Optional[int]): Channels of each convolution; null: as many as the encoder is wide.
    activation (str): relu, gelu, silu or tanh.
    residual (bool): Add the convolutions' input to their output.
    norm (Optional[str]): Layer normalisation: "pre", "post" or null.
    micro_batch_pieces (int): Most wordpieces, padding included, that go through the encoder in one call. It
        bounds memory, and has no influence on results. A training batch that is larger goes through it twice.
    precision (str): "fp32", or "bf16": encoder and CNN are computed in bfloat16, where the processor has it at about
        twice the speed. Weights, their updates and the CRF are float32 all the same.
    RETURNS (Model[List[Doc], List[Floats2d]]): One vector a token, float32.
    RAISES (ValueError): A setting is out of its range.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f'activation = "{activation}" is not one of {", ".join(ACTIVATIONS)}.')
    if norm not in (None, "pre", "post"):
        raise ValueError(f'norm = "{norm}" is not one of "pre", "post" and null.')
    if any(size < 1 for size in kernel_sizes):
        raise ValueError(f"kernel_sizes = {list(kernel_sizes)}: a convolution sees at least 1 token.")
    if not 1 <= stride <= window:
        raise ValueError(f"stride = {stride} must lie between 1 and window = {window}, or text would be left out.")
    if precision not in PRECISIONS:
        raise ValueError(f'precision = "{precision}" is not one of {", ".join(PRECISIONS)}.')
    for name, value in (("width", width), ("filters", filters)):
        if value is not None and value < 1:
            raise ValueError(f"{name} = {value} must be at least 1, or null.")
    if micro_batch_pieces < 1:
        raise ValueError(f"micro_batch_pieces = {micro_batch_pieces} must be at least 1.")
    cnn = {
        "kernel_sizes": list(kernel_sizes),
        "filters": filters,
        "activation": activation,
        "residual": residual,
        "norm": norm,
    }
    return Model(
        "transformer_cnn",
        forward,
        init=init,
        dims={"nO": width},
        attrs={
            "encoder": encoder,
            "cnn": cnn,
            "window": window,
            "stride": stride,
            "micro_batch_pieces": micro_batch_pieces,
            "precision": precision,
            "dropout_rate": 0.0,  # set by thinc's set_dropout_rate
        },
        shims=[TorchShim(build_module)],
    )


def build_module(cfg: Dict[str, Any]) -> TransformerCNNModule:
    """Make the module from its description, as it is stored: no file and no network needed."""
    encoder, tokenizer = rebuild(cfg["encoder"])
    return TransformerCNNModule(encoder, tokenizer, cfg["width"], cfg["cnn"])


def init(model: Embedding, X: Optional[List[Doc]] = None, Y: Optional[List[Floats2d]] = None) -> None:
    """Read the pretrained encoder; a model that has weights already keeps them."""
    shim: TorchShim = model.shims[0]  # type: ignore[assignment]
    if shim.is_built:
        return
    encoder, tokenizer, description = load_pretrained(model.attrs["encoder"])
    tokenizer.window(model.attrs["window"], model.attrs["stride"])
    hidden = encoder.config.hidden_size
    width = model.get_dim("nO") if model.has_dim("nO") else hidden
    cnn = {**model.attrs["cnn"], "filters": model.attrs["cnn"]["filters"] or hidden}
    module = TransformerCNNModule(encoder, tokenizer, width, cnn)
    shim.adopt(module, {"encoder": description, "width": width, "cnn": cnn})
    model.set_dim("nO", width)


def forward(model: Embedding, docs: List[Doc], is_train: bool) -> Tuple[List[Floats2d], Callable]:
    shim: TorchShim = model.shims[0]  # type: ignore[assignment]
    batch = batch_pieces(
        shim.module.tokenizer,
        docs,
        model.attrs["window"],
        model.attrs["stride"],
        model.attrs["micro_batch_pieces"],
    )
    dropout = model.attrs["dropout_rate"] if is_train else 0.0
    tokens, to_module = shim(ArgsKwargs((batch, dropout, model.attrs["precision"]), {}), is_train)

    def backprop(d_vectors: List[Floats2d]) -> List[Doc]:
        to_module(to_torch(model.ops.flatten(d_vectors)))
        return docs

    return split_rows(model.ops, to_xp(tokens), batch.doc_lengths), backprop
