"""A convolution over the tokens of each document."""

from typing import Callable, Dict, List, Literal, Optional, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .dropout import drop

# Tokens that are worked at once.
CHUNK = 4096

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
        RETURNS (Tensor): (tokens, width).

        More than CHUNK tokens go in chunks that see the neighbours of their ends. In training nothing of a chunk is
        kept; it is worked out again on the way back.
        """
        halo = max(self.kernel_sizes, default=1) - 1
        size = max(CHUNK, halo)
        if not self.training:
            dropout = 0.0  # said to each chunk, which may be worked again when the module has been used otherwise
        if len(vectors) <= size:
            return self._embed(lengths, dropout, vectors)
        chunks = vectors.split(size)
        ends = torch.tensor([0, *lengths]).cumsum(0)
        trains = torch.is_grad_enabled()
        outputs: List[Tensor] = []
        for i, chunk in enumerate(chunks):
            before = chunks[i - 1][len(chunks[i - 1]) - halo :] if i else chunk[:0]
            after = chunks[i + 1][:halo] if i + 1 < len(chunks) else chunk[:0]
            cuts = ends.clamp(i * size - len(before), i * size + len(chunk) + len(after)).unique()
            own = cuts.diff().tolist()
            if trains:
                seen = checkpoint(self._embed, own, dropout, before, chunk, after, use_reentrant=False)
            else:
                seen = self._embed(own, dropout, before, chunk, after)
            seen = seen[len(before) : len(before) + len(chunk)]
            if trains:
                outputs.append(seen)
                continue
            if not outputs:
                outputs.append(seen.new_empty(len(vectors), seen.shape[1]))
            outputs[0][i * size : i * size + len(chunk)] = seen
        return torch.cat(outputs) if trains else outputs[0]

    def _embed(self, lengths: List[int], dropout: float, *parts: Tensor) -> Tensor:
        """Tokens that come in parts, one after another, (tokens, width)."""
        vectors = drop(torch.cat(parts) if len(parts) > 1 else parts[0], dropout, True)
        seen = self.normalize(vectors) if self.norm == "pre" else vectors
        paths = [] if self.bridge is None else [self.bridge(vectors)]
        if self.project is not None:
            hidden = ACTIVATIONS[self.activation](self._convolve(seen, lengths))
            paths.append(self.project(drop(hidden, dropout, True)))
        out = paths[0] if len(paths) == 1 else paths[0] + paths[1]
        return self.normalize(out) if self.norm == "post" else out

    def _convolve(self, vectors: Tensor, lengths: List[int]) -> Tensor:
        """All convolutions, each as one product of matrices, (tokens, channels).

        They see one long row in which zeros keep the documents apart.
        """
        if torch.is_autocast_enabled(vectors.device.type):
            # before they are copied side by side
            vectors = vectors.to(torch.get_autocast_dtype(vectors.device.type))
        gap = max(self.kernel_sizes) - 1
        document = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).to(vectors.device)
        place = torch.arange(len(vectors), device=vectors.device) + gap * (document + 1)
        row = vectors.new_zeros(len(vectors) + gap * (len(lengths) + 1), vectors.shape[1])
        row = row.index_copy(0, place, vectors)
        outputs = []
        for conv, size in zip(self.convolutions, self.kernel_sizes):
            assert isinstance(conv, nn.Conv1d)
            first, last = gap - (size - 1) // 2, len(row) - gap - (size - 1) // 2
            seen = torch.cat([row[first + i : last + i] for i in range(size)], 1)  # (places, size * n_in)
            kernel = conv.weight.transpose(1, 2).flatten(1)  # (filters, size * n_in)
            outputs.append(nn.functional.linear(seen, kernel, conv.bias)[place - gap])
        return torch.cat(outputs, 1)
