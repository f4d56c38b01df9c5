"""Several embeddings side by side, and an optional BiLSTM over them."""

from typing import Any, Callable, Dict, List, Optional, Tuple

import torch
from spacy.tokens import Doc
from thinc.api import ArgsKwargs, Model
from thinc.types import Floats2d
from torch import Tensor, nn

from ..torch_shim import TorchShim, split_rows, to_torch, to_xp
from .model import Embedding


def Stack(embeddings: Dict[str, Any], *, lstm_width: Optional[int] = None, lstm_depth: int = 1) -> Embedding:
    """Concatenate the vectors that several embeddings give each token.

    embeddings (Dict[str, Model[List[Doc], List[Floats2d]]]): Any number, under names of your choice: static
        vectors (`spacy.Tok2Vec.v2` with `spacy.MultiHashEmbed.v2`), characters (`spacy.CharacterEmbed.v2`),
        a CNN, a transformer, listeners.
    lstm_width (Optional[int]): Width of a bidirectional LSTM over the concatenation, both directions together;
        null: none, and what comes out is as wide as all embeddings together.
    lstm_depth (int): Its layers.
    RETURNS (Model[List[Doc], List[Floats2d]]): float32.
    RAISES (ValueError): There is no embedding, or the LSTM cannot have that size.
    """
    if not embeddings:
        raise ValueError("spacy_crf_ner.Stack.v1 needs at least one embedding in [….embeddings].")
    if lstm_width is not None and (lstm_width < 2 or lstm_width % 2 or lstm_depth < 1):
        raise ValueError(
            f"spacy_crf_ner.Stack.v1: lstm_width = {lstm_width} must be even (half of it for each direction) and "
            f"lstm_depth = {lstm_depth} at least 1."
        )
    return Model(
        "stack",
        forward,
        init=init,
        layers=list(embeddings.values()),
        dims={"nO": lstm_width},
        attrs={"lstm_width": lstm_width, "lstm_depth": lstm_depth, "dropout_rate": 0.0},
        shims=[TorchShim(build_lstm)] if lstm_width is not None else [],
    )


class DocumentLSTM(nn.Module):
    """A bidirectional LSTM over the tokens of each document.

    n_in, width (int): Width of what comes in and goes out (both directions). depth (int): Layers.
    """

    def __init__(self, n_in: int, width: int, depth: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(n_in, width // 2, depth, bidirectional=True, batch_first=True)

    def forward(self, vectors: Tensor, lengths: List[int], dropout: float = 0.0) -> Tensor:
        """vectors (Tensor): All documents one after another, (tokens, n_in). RETURNS (Tensor): (tokens, width)."""
        vectors = nn.functional.dropout(vectors, dropout, self.training)
        documents = [part for part in vectors.split(lengths) if len(part)]
        if not documents:
            return vectors.new_zeros(0, 2 * self.lstm.hidden_size)
        packed = nn.utils.rnn.pack_sequence(documents, enforce_sorted=False)
        hidden, _ = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return torch.cat([row[: len(doc)] for row, doc in zip(hidden, documents)])


def build_lstm(cfg: Dict[str, Any]) -> DocumentLSTM:
    """Make the LSTM from its description, as it is stored."""
    return DocumentLSTM(**cfg)


def init(model: Embedding, X: Optional[List[Doc]] = None, Y: Optional[List[Floats2d]] = None) -> None:
    if X and not X[0].vocab.vectors.size and any(node.name == "static_vectors" for node in model.walk()):
        raise ValueError(
            "spacy_crf_ner.Stack.v1: one of its embeddings reads static vectors, and the pipeline has none. Name in "
            "[paths] vectors an installed pipeline or a folder that has them (after python -m spacy download "
            "en_core_web_md: --paths.vectors en_core_web_md), or set include_static_vectors = false."
        )
    for layer in model.layers:
        layer.initialize(X=X)
    n_in = sum(layer.get_dim("nO") for layer in model.layers)
    if not model.shims:
        model.set_dim("nO", n_in)
        return
    shim: TorchShim = model.shims[0]  # type: ignore[assignment]
    if not shim.is_built:
        shim.build({"n_in": n_in, "width": model.attrs["lstm_width"], "depth": model.attrs["lstm_depth"]})


def forward(model: Embedding, docs: List[Doc], is_train: bool) -> Tuple[List[Floats2d], Callable]:
    outputs = [layer(docs, is_train) for layer in model.layers]
    stacked = [model.ops.xp.concatenate(parts, axis=1) for parts in zip(*(vectors for vectors, _ in outputs))]
    widths = [layer.get_dim("nO") for layer in model.layers]

    def split(d_stacked: List[Floats2d]) -> List[Doc]:
        at = 0
        for width, (_, backprop) in zip(widths, outputs):
            backprop([model.ops.xp.ascontiguousarray(d[:, at : at + width]) for d in d_stacked])
            at += width
        return docs

    if not model.shims:
        return stacked, split
    lengths = [len(doc) for doc in docs]
    dropout = model.attrs["dropout_rate"] if is_train else 0.0
    inputs = to_torch(model.ops.flatten(stacked), requires_grad=is_train)
    hidden, to_module = model.shims[0](ArgsKwargs((inputs, lengths, dropout), {}), is_train)

    def backprop(d_vectors: List[Floats2d]) -> List[Doc]:
        to_module(to_torch(model.ops.flatten(d_vectors)))
        return split(split_rows(model.ops, to_xp(inputs.grad), lengths))

    return split_rows(model.ops, to_xp(hidden), lengths), backprop
