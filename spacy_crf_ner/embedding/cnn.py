"""A convolution over the tokens of each document."""

from typing import Any, Callable, Dict, Iterator, List, Literal, NamedTuple, Optional, Sequence

import torch
from torch import Tensor, nn

from .dropout import drop, seeded, seeds
from .rows import ROWS

# Tokens that are worked at once.
CHUNK = 4096
# Rows are filled up to whole numbers of this where that adds less than a tenth; see `rows`.
MORE_ROWS = 256

ACTIVATIONS: Dict[str, Callable[[Tensor], Tensor]] = {
    "relu": nn.functional.relu,
    "gelu": nn.functional.gelu,
    "silu": nn.functional.silu,
    "tanh": torch.tanh,
}

Norm = Optional[Literal["pre", "post"]]


class TextCNN(nn.Module):
    """Convolutions of several widths side by side, then a linear layer, with a residual path around both.

    n_in (int): Width of the token vectors that come in.
    width (int): Width of the vectors that go out.
    kernel_sizes (Sequence[int]): Tokens that each convolution sees; one that is even sees one more to the
        right than to the left. Empty: no convolution, and only what is needed to reach `width`.
    filters (int): Output channels of each convolution.
    activation (str): relu, gelu, silu or tanh, after the convolutions.
    residual (bool): Add the input, through a linear map where the widths differ.
    norm (Optional[str]): "pre": layer normalisation of what the convolutions see; "post": of what goes out.
    """

    def __init__(
        self,
        n_in: int,
        width: int,
        kernel_sizes: Sequence[int] = (3,),
        filters: int = 384,
        activation: str = "relu",
        residual: bool = True,
        norm: Norm = "pre",
    ) -> None:
        super().__init__()
        self.activation = activation
        self.kernel_sizes = list(kernel_sizes)
        self.convolutions = nn.ModuleList(nn.Conv1d(n_in, filters, size) for size in kernel_sizes)
        self.project = nn.Linear(filters * len(kernel_sizes), width) if kernel_sizes else None
        needs_bridge = residual or not kernel_sizes
        self.bridge: Optional[nn.Module] = None
        if needs_bridge:
            self.bridge = nn.Identity() if n_in == width else nn.Linear(n_in, width)
        self.norm = norm
        self.normalize = nn.Identity() if norm is None else nn.LayerNorm(n_in if norm == "pre" else width)

    def forward(self, vectors: Tensor, lengths: List[int], dropout: float = 0.0) -> Tensor:
        """Embed tokens in the context of their neighbours.

        vectors (Tensor): The tokens of all documents one after another, (tokens, n_in).
        lengths (List[int]): Tokens in each document; nothing passes from one to the next.
        dropout (float): Share of the input and of the convolutions' outputs set to 0 in training.
        RETURNS (Tensor): float32, (tokens, width).

        More than CHUNK tokens go in chunks that see the neighbours of their ends. In training nothing of a chunk is
        kept; it is worked out again on the way back.
        """
        if not self.training:
            dropout = 0.0  # said to each chunk, which may be worked again when the module has been used otherwise
        if len(vectors) <= CHUNK:
            return self.embed(vectors, lengths, dropout).float()
        chunks = list(cut_chunks(lengths, max(self.kernel_sizes, default=1) - 1))
        return _InChunks.apply(self, chunks, dropout, vectors, *(p for p in self.parameters() if p.requires_grad))

    def embed(self, vectors: Tensor, lengths: List[int], dropout: float) -> Tensor:
        """`forward`, all at once."""
        vectors = drop(vectors, dropout, True)
        seen = self.normalize(vectors) if self.norm == "pre" else vectors
        paths = [] if self.bridge is None else [self.bridge(vectors)]
        if self.project is not None:
            hidden = ACTIVATIONS[self.activation](self._convolve(seen, lengths))
            paths.append(self.project(drop(hidden, dropout, True))[: len(vectors)])
        out = paths[0] if len(paths) == 1 else paths[0] + paths[1]
        return self.normalize(out) if self.norm == "post" else out

    def _convolve(self, vectors: Tensor, lengths: List[int]) -> Tensor:
        """All convolutions, each as one product of matrices, (tokens and those of `_rows_to_add`, channels)."""
        device = vectors.device
        if torch.is_autocast_enabled(device.type):
            # before they are copied side by side
            vectors = vectors.to(torch.get_autocast_dtype(device.type))
        n_tokens = len(vectors)
        # of each token, where its document begins and ends; those that fill up see nothing
        more = _rows_to_add(n_tokens, device)
        sizes = torch.tensor([*lengths, more])
        ends = sizes.cumsum(0).repeat_interleave(sizes)[:, None]
        begins = ends - sizes.repeat_interleave(sizes)[:, None]
        begins[n_tokens:] = ends[n_tokens:]
        token = torch.arange(n_tokens + more)[:, None]
        # at its end a vector of zeros, which stands where a document has no more neighbours
        table = nn.functional.pad(vectors, (0, 0, 0, 1))
        outputs = []
        for conv, size in zip(self.convolutions, self.kernel_sizes):
            assert isinstance(conv, nn.Conv1d)
            neighbours = token + torch.arange(size) - (size - 1) // 2  # (tokens, size)
            neighbours = torch.where((neighbours >= begins) & (neighbours < ends), neighbours, n_tokens)
            around = table.index_select(0, neighbours.flatten().to(device)).view(len(token), size * vectors.shape[1])
            kernel = conv.weight.transpose(1, 2).flatten(1)  # (filters, size * n_in)
            outputs.append(nn.functional.linear(around, kernel, conv.bias))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)


def _rows_to_add(n_rows: int, device: torch.device) -> int:
    """How many rows to add where oneDNN computes, which is in half precision on a CPU."""
    whole = ROWS if n_rows <= 10 * MORE_ROWS else MORE_ROWS
    return -n_rows % whole if device.type == "cpu" and torch.is_autocast_enabled("cpu") else 0


class Chunk(NamedTuple):
    """Some tokens, and what a convolution sees of those around them.

    start, end (int): The tokens, end exclusive. first, last (int): With their neighbours. lengths (List[int]): How many
        of the latter there are of each document.
    """

    start: int
    end: int
    first: int
    last: int
    lengths: List[int]


def cut_chunks(lengths: Sequence[int], halo: int) -> Iterator[Chunk]:
    """All tokens in chunks of CHUNK, which see `halo` tokens on each side."""
    ends = torch.tensor([0, *lengths]).cumsum(0)
    n_tokens = int(ends[-1])
    for start in range(0, n_tokens, CHUNK):
        end = min(start + CHUNK, n_tokens)
        first, last = max(start - halo, 0), min(end + halo, n_tokens)
        yield Chunk(start, end, first, last, ends.clamp(first, last).unique().diff().tolist())


class _InChunks(torch.autograd.Function):
    """`TextCNN.embed` of one chunk after another; each is worked out again on the way back, with the same dropout.

    Unlike with checkpoints over chunks nothing is split and joined again: beside the vectors that go in and out, and
    their gradients, one chunk's activations are held.
    """

    @staticmethod
    def forward(
        ctx: Any, cnn: TextCNN, chunks: List[Chunk], dropout: float, vectors: Tensor, *parameters: nn.Parameter
    ) -> Tensor:
        kind = vectors.device.type
        ctx.autocast = {"dtype": torch.get_autocast_dtype(kind), "enabled": torch.is_autocast_enabled(kind)}
        ctx.cnn, ctx.dropout, ctx.parameters = cnn, dropout, parameters
        ctx.chunks = list(zip(chunks, seeds(len(chunks), dropout > 0)))
        # saved also that a change of them before the way back is noticed
        ctx.save_for_backward(vectors, *parameters)
        outputs: Optional[Tensor] = None
        for chunk, seed in ctx.chunks:
            seen = _embed_chunk(ctx, vectors[chunk.first : chunk.last], chunk, seed)
            if outputs is None:
                outputs = seen.new_empty(len(vectors), seen.shape[1], dtype=torch.float32)
            outputs[chunk.start : chunk.end] = seen
        return outputs  # type: ignore[return-value]

    @staticmethod
    def backward(ctx: Any, *d_outputs: Any) -> Any:
        vectors, *_ = ctx.saved_tensors
        needs = ctx.needs_input_grad[3]
        d_vectors = torch.zeros_like(vectors) if needs else None
        total: List[Optional[Tensor]] = [None] * len(ctx.parameters)
        for chunk, seed in ctx.chunks:
            part = vectors[chunk.first : chunk.last].detach().requires_grad_(needs)
            with torch.enable_grad():
                seen = _embed_chunk(ctx, part, chunk, seed)
            wanted = [part, *ctx.parameters] if needs else ctx.parameters
            d_seen = d_outputs[0][chunk.start : chunk.end].to(seen.dtype)
            gradients = list(torch.autograd.grad(seen, wanted, d_seen, allow_unused=True))
            if d_vectors is not None:
                d_vectors[chunk.first : chunk.last] += gradients.pop(0)
            # None for what has no part in it, as the normalisation where there is no convolution
            total = [new if old is None or new is None else old.add_(new) for old, new in zip(total, gradients)]
        return (None, None, None, d_vectors, *total)


def _embed_chunk(ctx: Any, vectors: Tensor, chunk: Chunk, seed: Optional[int]) -> Tensor:
    with seeded(seed, vectors.device), torch.autocast(vectors.device.type, **ctx.autocast):
        seen = ctx.cnn.embed(vectors, chunk.lengths, ctx.dropout)
    return seen[chunk.start - chunk.first : chunk.end - chunk.first]
