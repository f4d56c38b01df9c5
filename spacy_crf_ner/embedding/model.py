"""The transformer + CNN embedding as a thinc model."""

import json
import logging
from dataclasses import dataclass
from typing import Any, Callable, Collection, Dict, List, Literal, Optional, Sequence, Tuple, Union

from spacy.tokens import Doc
from thinc.api import ArgsKwargs, Model, serialize_attr
from thinc.types import Floats2d

from ..torch_shim import TorchShim, split_rows, to_torch, to_xp
from .cache import CACHES, Cache
from .cnn import ACTIVATIONS, Norm
from .encoder import load_pretrained, rebuild
from .module import Frozen, TransformerCNNModule
from .pieces import POOLINGS, DocPieces, PieceBatch, PieceTokenizer, Pooling, batch_pieces
from .precision import PRECISIONS, Precision

logger = logging.getLogger("spacy")

Embedding = Model[List[Doc], List[Floats2d]]
# What is stored with the weights, beside the encoder itself.
FIXED = ("cnn", "window", "stride", "layers", "pooling")


@dataclass(frozen=True)
class Running:
    """How the model is run, which is the config's to say and not stored with the weights; see `TransformerCNN`."""

    frozen_layers: Frozen
    cache: Cache
    micro_batch_pieces: Union[int, Literal["auto"]]
    precision: Precision


@dataclass(frozen=True)
class Given:
    """What the config says of FIXED, and decides only where there are no weights yet."""

    settings: Dict[str, Any]


@serialize_attr.register(Given)
@serialize_attr.register(Running)
def _not_stored(_: Any, value: Running, name: str, model: Model) -> bytes:
    raise TypeError  # thinc's way to say that an attribute stays out of what is stored


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
    layers: Sequence[int] = (-1,),
    pooling: Pooling = "mean",
    frozen_layers: Frozen = None,
    cache: Cache = "none",
    micro_batch_pieces: Union[int, Literal["auto"]] = "auto",
    precision: Precision = "fp32",
) -> Embedding:
    """Token vectors from a pretrained encoder and a CNN over them.

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
    layers (List[int]): Layers of the encoder that make a vector: -1 the last, 0 what goes into the first. Several are
        mixed with learned weights. Those above the highest are not computed, nor stored.
    pooling (str): Which wordpieces make a token's vector: the "mean" of all, or the "first" or "last" one.
    frozen_layers (Optional[Union[int, str]]): What training leaves as it is: null: nothing; 0: the encoder's
        embeddings; a number: these and so many of its lower layers; "all": the encoder.
    cache (str): With frozen_layers = "all": where what the encoder gave is kept in training, so that later epochs cost
        only the rest: "memory", "gpu", "disk" (a temporary file) or "none".
    micro_batch_pieces (Union[int, str]): Most wordpieces, padding included, that go through the encoder in one call. It
        bounds memory, and has no influence on results. A training batch that is larger goes through it twice, but for
        so many pieces. "auto": on a CPU 2048, in prediction 1536; what fits into the memory of a GPU. It falls where
        a GPU runs out of memory.
    precision (str): "fp32", "bf16" or "fp16": what encoder and CNN are computed in. bf16 is at about twice the speed
        where the processor has it; fp16 is for GPUs that have not. Weights, their updates and the CRF are float32 all
        the same. "int8" is for pipelines that were quantized, see `deployment.quantize`.
    RETURNS (Model[List[Doc], List[Floats2d]]): One vector a token, float32.
    RAISES (ValueError): A setting is out of its range.
    """
    if activation not in ACTIVATIONS:
        raise _wrong(f'activation = "{activation}" is not one of {", ".join(ACTIVATIONS)}.')
    if norm not in (None, "pre", "post"):
        raise _wrong(f'norm = "{norm}" is not one of "pre", "post" and null.')
    if any(size < 1 for size in kernel_sizes):
        raise _wrong(f"kernel_sizes = {list(kernel_sizes)}: a convolution sees at least 1 token.")
    if window < 1:
        raise _wrong(f"window = {window} has no room for text: special wordpieces count too. 128 is a good size.")
    if not 1 <= stride <= window:
        raise _wrong(f"stride = {stride} must lie between 1 and window = {window}, or text would be left out.")
    if precision not in PRECISIONS:
        raise _wrong(f'precision = "{precision}" is not one of {", ".join(PRECISIONS)}.')
    for name, value in (("width", width), ("filters", filters)):
        if value is not None and value < 1:
            raise _wrong(f"{name} = {value} must be at least 1, or null.")
    if micro_batch_pieces != "auto" and micro_batch_pieces < 1:
        raise _wrong(f'micro_batch_pieces = {micro_batch_pieces} must be at least 1, or "auto".')
    if not layers or len(set(layers)) < len(layers):
        raise _wrong(f"layers = {list(layers)}: name at least one layer, and none twice. [-1] is the last one alone.")
    if pooling not in POOLINGS:
        raise _wrong(f'pooling = "{pooling}" is not one of {", ".join(POOLINGS)}.')
    if frozen_layers not in (None, "all") and (isinstance(frozen_layers, str) or frozen_layers < 0):
        raise _wrong(f'frozen_layers = {frozen_layers!r} must be null, a number from 0, or "all".')
    if cache not in CACHES:
        raise _wrong(f'cache = "{cache}" is not one of {", ".join(CACHES)}.')
    if cache != "none" and frozen_layers != "all":
        raise _wrong(
            f'cache = "{cache}" keeps what a frozen encoder gives. Set frozen_layers = "all" with it: otherwise the '
            "encoder changes with each step, and what it gave before is of no use."
        )
    cnn = {
        "kernel_sizes": list(kernel_sizes),
        "filters": filters,
        "activation": activation,
        "residual": residual,
        "norm": norm,
    }
    values = (cnn, window, stride, list(layers), pooling)
    fixed = dict(zip(FIXED, values))
    return Model(
        "transformer_cnn",
        forward,
        init=init,
        dims={"nO": width},
        attrs={
            "encoder": encoder,
            **fixed,
            "running": Running(frozen_layers, cache, micro_batch_pieces, precision),
            "given": Given(fixed),
            "dropout_rate": 0.0,  # set by thinc's set_dropout_rate
        },
        shims=[TorchShim(build_module)],
    )


def _wrong(what: str) -> ValueError:
    return ValueError(f"spacy_crf_ner.TransformerCNN.v1: {what}")


def warn_of_ignored(model: Model, pipe: str) -> None:
    """Say which settings the config of a pipe has, and the weights that were loaded into its model have not."""
    for node in model.walk():
        if "given" not in node.attrs:
            continue
        given = node.attrs["given"].settings
        both = [(name, node.attrs[name], given[name]) for name in FIXED if name != "cnn"]
        both += [(name, old, given["cnn"].get(name, old)) for name, old in node.attrs["cnn"].items()]
        shim: TorchShim = node.shims[0]  # type: ignore[assignment]
        if shim.is_built:
            # the same in other words
            hidden = shim.module.encoder.config.hidden_size
            same = {"layers": shim.module.layers, "filters": shim.cfg["cnn"]["filters"]}
            both = [
                (name, old, new)
                for name, old, new in both
                if name not in same or (hidden if name == "filters" and new is None else new) != same[name]
            ]
        ignored = [f"{name} = {json.dumps(old)}, not {json.dumps(new)}" for name, old, new in both if old != new]
        if ignored:
            logger.warning(
                "[components.%s] The embedding was trained with %s. It keeps that, whatever the config says: only "
                "frozen_layers, cache, micro_batch_pieces and precision can be changed in a trained pipeline.",
                pipe, "; ".join(ignored),
            )  # fmt: skip


def tokenizers(model: Model) -> List[PieceTokenizer]:
    """Tokenizers of all embeddings of this kind that a model has in it; of those without weights none.

    Calling one with documents, which may be done in a thread, makes it remember their wordpieces, so that the model
    finds them when the documents come.
    """
    modules = [shim._model for node in model.walk() for shim in node.shims if isinstance(shim, TorchShim)]
    return [module.tokenizer for module in modules if isinstance(module, TransformerCNNModule)]


def build_module(cfg: Dict[str, Any]) -> TransformerCNNModule:
    """Make the module from its description, as it is stored: no file and no network needed."""
    encoder, tokenizer = rebuild(cfg["encoder"])
    layers = cfg.get("layers", [encoder.config.num_hidden_layers])  # the first pipelines had no choice
    return TransformerCNNModule(encoder, tokenizer, cfg["width"], cfg["cnn"], layers, cfg.get("int8"))


def init(model: Embedding, X: Optional[List[Doc]] = None, Y: Optional[List[Floats2d]] = None) -> None:
    """Read the pretrained encoder; a model that has weights already keeps them."""
    shim: TorchShim = model.shims[0]  # type: ignore[assignment]
    if shim.is_built:
        return
    encoder, tokenizer, description, layers = load_pretrained(model.attrs["encoder"], model.attrs["layers"])
    tokenizer.window(model.attrs["window"], model.attrs["stride"])
    hidden = encoder.config.hidden_size
    width = model.get_dim("nO") if model.has_dim("nO") else hidden
    cnn = {**model.attrs["cnn"], "filters": model.attrs["cnn"]["filters"] or hidden}
    module = TransformerCNNModule(encoder, tokenizer, width, cnn, layers)
    shim.adopt(module, {"encoder": description, "width": width, "cnn": cnn, "layers": layers})
    module.freeze(model.attrs["running"].frozen_layers)
    model.set_dim("nO", width)


def forward(model: Embedding, docs: List[Doc], is_train: bool) -> Tuple[List[Floats2d], Callable]:
    shim: TorchShim = model.shims[0]  # type: ignore[assignment]
    module: TransformerCNNModule = shim.module
    running: Running = model.attrs["running"]
    window, stride = model.attrs["window"], model.attrs["stride"]
    module.freeze(running.frozen_layers)
    settings = (window, stride, model.attrs["pooling"], running.precision)
    documents = module.tokenizer(docs)
    budget = module.budget(running.micro_batch_pieces, window, running.precision, is_train)
    few_shapes = not is_train and module.compiles(running.precision)

    def plan(documents: List[DocPieces], known: Collection[int] = ()) -> PieceBatch:
        pooling = model.attrs["pooling"]
        return batch_pieces(module.tokenizer, documents, window, stride, budget, pooling, known, few_shapes)

    if is_train:
        module.keep_vectors(running.cache, settings)
        module.remember(documents, lambda pieces: plan([pieces]), running.precision)
        module.scale_loss(running.precision)
    known = module.known(documents, settings)
    batch = plan(documents, known)
    dropout = model.attrs["dropout_rate"] if is_train else 0.0
    tokens, to_module = shim(ArgsKwargs((batch, known, dropout, running.precision), {}), is_train)

    def backprop(d_vectors: List[Floats2d]) -> List[Doc]:
        # a single document, which may be a very long one, is not copied
        to_module(to_torch(d_vectors[0] if len(d_vectors) == 1 else model.ops.flatten(d_vectors)))
        return docs

    return split_rows(model.ops, to_xp(tokens), batch.doc_lengths), backprop
