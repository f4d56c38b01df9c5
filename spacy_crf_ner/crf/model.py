"""The CRF tagger as a thinc model: any embedding, then emissions, with the chain beside them."""

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import torch
from spacy.tokens import Doc
from thinc.api import ArgsKwargs, Model, chain
from thinc.layers.with_array import forward as forward_all
from thinc.layers.with_array import init as init_all
from thinc.types import Floats2d
from torch import Tensor, nn

from .. import tagging
from ..torch_shim import TorchShim, to_torch, to_xp
from .chain import LinearChainCRF, PerLabelChains
from .recursions import Chain

Tagger = Model[List[Doc], List[Floats2d]]


class TaggerHead(nn.Module):
    """Token vectors to emissions, and the chain that scores sequences of them.

    n_labels (int): Number of entity labels.
    width (int): Width of the token vectors.
    overlap (bool): One chain a label rather than one over all.
    learn_transitions (bool): False: all legal moves score 0 and stay so.
    """

    def __init__(self, n_labels: int, width: int, overlap: bool, learn_transitions: bool) -> None:
        super().__init__()
        self.n_labels = n_labels
        self.overlap = overlap
        self.n_tags = tagging.count_tags(1 if overlap else n_labels)
        self.n_chains = n_labels if overlap else 1
        self.linear = nn.Linear(width, self.n_tags * self.n_chains)
        self.crf: Union[LinearChainCRF, PerLabelChains]
        self.crf = PerLabelChains(n_labels) if overlap else LinearChainCRF.biluo(n_labels)
        if not learn_transitions:
            for parameter in self.crf.parameters():
                nn.init.zeros_(parameter)
                parameter.requires_grad_(False)

    def forward(self, vectors: Tensor) -> Tensor:
        """Emissions of single tokens, float32, (tokens, n_chains * n_tags)."""
        return self.linear(vectors.float())

    def fold(self, per_token: Tensor) -> Tensor:
        """One sequence a chain. (documents, time, n_chains * tags) becomes (documents * n_chains, time, tags)."""
        documents, time, columns = per_token.shape
        chains = per_token.view(documents, time, self.n_chains, columns // self.n_chains).transpose(1, 2)
        return chains.reshape(documents * self.n_chains, time, columns // self.n_chains)

    def fold_lengths(self, lengths: Tensor) -> Tensor:
        return lengths.repeat_interleave(self.n_chains)

    def select(self, labels: Sequence[int], per_token: Tensor) -> Tuple[Tensor, Chain]:
        """The model as it would be over some of its labels.

        labels (Sequence[int]): Which, by id, in the order that is wanted.
        per_token (Tensor): Emissions, (documents, time, n_chains * tags).
        RETURNS: Folded emissions, and the chains' move scores.
        """
        rows = self.fold(per_token)
        chain = self.crf.scores()
        if self.overlap:
            kept = torch.arange(len(rows)).view(-1, self.n_chains)[:, list(labels)].flatten()
            return rows[kept], Chain(*(part[list(labels)] for part in chain))
        tags = [tagging.OUTSIDE] + [tagging.tag_id(k, position) for k in labels for position in range(4)]
        moves = chain.transitions[:, tags][:, :, tags]
        return rows[..., tags], Chain(moves, chain.start[:, tags], chain.end[:, tags])


def CRFTagger(tok2vec: Model[List[Doc], List[Floats2d]]) -> Tagger:
    """A tagger whose tag sequences are scored by a linear-chain CRF.

    tok2vec (Model[List[Doc], List[Floats2d]]): Any embedding: `spacy_crf_ner.TransformerCNN.v1`,
        `spacy_crf_ner.Stack.v1`, `spacy.HashEmbedCNN.v2`, or a listener to a shared one.
    RETURNS (Model[List[Doc], List[Floats2d]]): Emissions of each token, float32. The chain is in the module
        of its "head"; how many labels there are and whether they may overlap is the pipe's to say.
    """
    head: Model = Model(
        "crf_head",
        head_forward,
        init=head_init,
        dims={"nI": None, "nO": None},
        attrs={"labels": [], "overlap": False, "learn_transitions": True},
        shims=[TorchShim(build_head)],
    )
    return Model(
        "crf_tagger",
        forward,
        init=init,
        layers=[chain(tok2vec, per_token(head))],  # type: ignore[misc]
        refs={"tok2vec": tok2vec, "head": head},
    )


def per_token(head: Model) -> Model:
    """thinc's `with_array`, but that a single document, which may be a very long one, is not copied."""
    dims = {name: head.maybe_get_dim(name) for name in head.dim_names}
    return Model(
        f"with_array({head.name})", per_token_forward, init=init_all, layers=[head], attrs={"pad": 0}, dims=dims
    )


def per_token_forward(model: Tagger, vectors: List[Floats2d], is_train: bool) -> Tuple[List[Floats2d], Callable]:
    if len(vectors) != 1:
        return forward_all(model, vectors, is_train)  # type: ignore[arg-type]
    emissions, backprop = model.layers[0](vectors[0], is_train)
    return [emissions], lambda d_emissions: [backprop(d_emissions[0])]


def init(model: Tagger, X: Optional[List[Doc]] = None, Y: Optional[Any] = None) -> None:
    model.layers[0].initialize(X=X)


def forward(model: Tagger, docs: List[Doc], is_train: bool) -> Tuple[List[Floats2d], Callable]:
    # a step that is owed is taken before the embedding runs, not between it and the head
    head_shim(model).settle()
    return model.layers[0](docs, is_train)


def build_head(cfg: Dict[str, Any]) -> TaggerHead:
    """Make the head from its description, as it is stored."""
    return TaggerHead(**cfg)


def head_init(model: Model, X: Optional[Floats2d] = None, Y: Optional[Floats2d] = None) -> None:
    shim: TorchShim = model.shims[0]  # type: ignore[assignment]
    if shim.is_built:
        return
    if X is not None:
        model.set_dim("nI", X.shape[1])
    _build(model)


def _build(head: Model) -> TaggerHead:
    shim: TorchShim = head.shims[0]  # type: ignore[assignment]
    module: Any = shim.build(
        {
            "n_labels": len(head.attrs["labels"]),
            "width": head.get_dim("nI"),
            "overlap": head.attrs["overlap"],
            "learn_transitions": head.attrs["learn_transitions"],
        }
    )
    head.set_dim("nO", module.n_tags * module.n_chains, force=True)
    return module


def head_forward(model: Model, vectors: Floats2d, is_train: bool) -> Tuple[Floats2d, Callable]:
    shim: TorchShim = model.shims[0]  # type: ignore[assignment]
    inputs = to_torch(vectors, requires_grad=is_train)
    emissions, to_module = shim(ArgsKwargs((inputs,), {}), is_train)

    def backprop(d_emissions: Floats2d) -> Floats2d:
        to_module(to_torch(d_emissions))
        return to_xp(inputs.grad)

    return to_xp(emissions), backprop


def head_shim(model: Tagger) -> TorchShim:
    return model.get_ref("head").shims[0]  # type: ignore[return-value]


def head_module(model: Tagger) -> TaggerHead:
    """The torch module of a tagger. RAISES (ValueError): It is not initialized."""
    return head_shim(model).module


def open_sizes(model: Tagger) -> None:
    """Let a tagger be loaded over by one that has other labels: thinc refuses another size where it knows one."""
    head = model.get_ref("head")
    for node in model.walk():
        if node.has_dim("nO") and any(inner is head for inner in node.walk()):
            node.set_dim("nO", None, force=True)  # type: ignore[arg-type]


def resize_head(model: Tagger, new: Sequence[str]) -> None:
    """Give a tagger other labels, in the order of their ids; what was learned of those that stay is kept."""
    head, shim = model.get_ref("head"), head_shim(model)
    old, head.attrs["labels"] = head.attrs["labels"], list(new)
    if not shim.is_built:
        return
    before = shim.module
    after = _build(head)
    stays = [(old.index(label), k) for k, label in enumerate(new) if label in old]
    with torch.no_grad():
        if after.overlap:
            for then, now in stays:
                for name in ("transitions", "start_transitions", "end_transitions"):
                    getattr(after.crf, name)[now] = getattr(before.crf, name)[then]
                after.linear.weight[5 * now : 5 * now + 5] = before.linear.weight[5 * then : 5 * then + 5]
                after.linear.bias[5 * now : 5 * now + 5] = before.linear.bias[5 * then : 5 * then + 5]
            return
        pairs = [(tagging.OUTSIDE, tagging.OUTSIDE)]
        pairs += [(tagging.tag_id(a, p), tagging.tag_id(b, p)) for a, b in stays for p in range(4)]
        source, target = (torch.tensor(side) for side in zip(*pairs))
        after.linear.weight[target] = before.linear.weight[source]
        after.linear.bias[target] = before.linear.bias[source]
        after.crf.start_transitions[target] = before.crf.start_transitions[source]
        after.crf.end_transitions[target] = before.crf.end_transitions[source]
        after.crf.transitions[target[:, None], target] = before.crf.transitions[source[:, None], source]
