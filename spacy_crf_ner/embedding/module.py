"""The embedding as a torch module: encoder, pooling and CNN, a few windows at a time."""

import contextlib
import logging
from typing import Any, Callable, Dict, Iterable, Iterator, List, Literal, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from torch import Tensor, nn

from .attention import quick_attention
from .bert import hidden_states, is_bert
from .cache import Cache, VectorCache
from .cnn import TextCNN
from .dropout import SEED_STEP, seeded, seeds
from .int8 import Int8Linear, Plan, insert, make_int8, observe, works
from .memory import CPU_PREDICTION, CPU_TRAINING, device_name, find_budget, out_of_memory
from .pieces import DocPieces, MicroBatch, PieceBatch, PieceTokenizer
from .precision import Converted, LossScale, Precision, computed_in, warn_without_int8
from .threads import side_by_side

logger = logging.getLogger("spacy")

Frozen = Optional[Union[int, Literal["all"]]]


class Mode(NamedTuple):
    """How windows go through the encoder: the same on the way back, whatever the module was used for in between.

    precision (str): What it is computed in. trains (bool): With gradients. drops (bool): With the encoder's dropout.
    encoder: The one that computes.
    """

    precision: Precision
    trains: bool
    drops: bool
    encoder: Any


class TransformerCNNModule(nn.Module):
    """Encoder over windows of wordpieces, token vectors pooled from their pieces, CNN over the tokens.

    encoder: A Hugging Face encoder.
    tokenizer (PieceTokenizer): Its tokenizer; kept here so that the two travel together.
    width (int): Width of the token vectors that come out.
    cnn (Dict[str, Any]): Settings of TextCNN but for its widths.
    layers (Sequence[int]): Layers of the encoder that make a vector, 0 for what goes into the first; several are mixed.
    int8 (Optional[Dict[str, Plan]]): How the encoder's linear layers are quantized, if they are.
    """

    def __init__(
        self,
        encoder: Any,
        tokenizer: PieceTokenizer,
        width: int,
        cnn: Dict[str, Any],
        layers: Sequence[int],
        int8: Optional[Dict[str, Plan]] = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.layers = list(layers)
        hidden = encoder.config.hidden_size
        self.mix = LayerMix(len(layers)) if len(layers) > 1 else None
        self.no_pieces = nn.Parameter(torch.zeros(hidden))
        self.cnn = TextCNN(hidden, width, **cnn)
        self._integers = insert(encoder, int8) if int8 else None
        # what was found while running, which is stored with the weights: budgets by device, the loss scale
        self.found: Dict[str, Any] = {}
        self.loss_scale: Optional[LossScale] = None
        self._frozen: Frozen = None
        self._cache: Optional[VectorCache] = None
        self._converted = Converted()

    def __getstate__(self) -> Dict[str, Any]:
        return {**self.__dict__, "_cache": None, "_converted": Converted()}

    @property
    def device(self) -> torch.device:
        return self.no_pieces.device

    # How it runs

    def freeze(self, frozen: Frozen) -> None:
        """Let training change only what is not frozen.

        frozen: None: nothing is. 0: the encoder's embeddings are; n: these and its n lowest layers; "all": all of it.
        RAISES (ValueError): The encoder has no such layers.
        """
        if frozen == self._frozen:
            return
        self.encoder.requires_grad_(frozen != "all")
        if isinstance(frozen, int):
            blocks = _blocks(self.encoder)
            if not 0 <= frozen <= len(blocks):
                raise ValueError(
                    f"frozen_layers = {frozen}: the encoder ({self.encoder.config.model_type}) has {len(blocks)} "
                    'layers that can be frozen by themselves. "all" freezes the whole encoder.'
                )
            for part in (getattr(self.encoder, "embeddings", self.encoder.get_input_embeddings()), *blocks[:frozen]):
                part.requires_grad_(False)
        self._frozen = frozen

    def keep_vectors(self, place: Cache, settings: Any) -> None:
        """Keep what a frozen encoder gives; "none" forgets it.

        settings: What its vectors depend on but for the document; others begin anew.
        """
        if place == "none":
            self._cache = None
        elif self._cache is None or self._cache.settings != settings:
            self._cache = VectorCache(place, self.device, settings)

    def weights_changed(self) -> None:
        """Forget what was made of weights that are no more."""
        self._converted.drop()

    def scale_loss(self, precision: Precision) -> None:
        """Have gradients scaled where the precision asks for it."""
        if precision == "fp16" and self.loss_scale is None:
            self.loss_scale = LossScale(self.found)
        elif precision != "fp16":
            self.loss_scale = None

    def known(self, documents: Sequence[DocPieces], settings: Any) -> Dict[int, Tensor]:
        """Which documents the encoder need not see again, and their pooled vectors; settings: see `keep_vectors`."""
        if self._cache is None or self._cache.settings != settings:
            return {}
        kept = ((i, self._cache.get(pieces.key)) for i, pieces in enumerate(documents))
        return {i: vectors for i, vectors in kept if vectors is not None}

    def remember(
        self, documents: Sequence[DocPieces], plan: Callable[[DocPieces], PieceBatch], precision: Precision
    ) -> None:
        """Put what a frozen encoder gives for documents into the cache, where it is not there yet.

        plan (Callable): The windows of a document. Each goes through by itself: so its vectors do not depend, not even
            in their last bit, on which others came with it when it was first seen.
        """
        if self._cache is None:
            return
        for pieces in documents:
            if self._cache.wants(pieces.key):
                self._cache.put(pieces.key, self._pool(plan(pieces), self.mode(precision, True, False)))

    def budget(self, wanted: Union[int, Literal["auto"]], window: int, precision: Precision, is_train: bool) -> int:
        """Wordpieces, padding included, that go through the encoder at once.

        wanted: So many, or "auto": what fits into the memory of a GPU, found at the first use and remembered. Where
            memory turned out to be too small for either, less.
        """
        key = self._budget_key(precision, is_train)
        if wanted != "auto":
            return min(wanted, self.found.get(key, wanted))
        if self.device.type != "cuda":
            return CPU_TRAINING if is_train else CPU_PREDICTION
        if key not in self.found:
            mode = self.mode(precision, is_train, is_train)
            self.found[key] = find_budget(self.device, lambda n: self._try_out(n, window, mode))
        return self.found[key]

    def compiles(self, precision: Precision) -> bool:
        """Whether oneDNN computes, with kernels that are compiled for each number of wordpieces; see `rows`."""
        return self.device.type == "cpu" and precision in ("bf16", "int8")

    def _budget_key(self, precision: Precision, trains: bool) -> str:
        use = "training" if trains else "prediction"
        return f"micro_batch_pieces, {use}, {precision}, {device_name(self.device)}"

    def _try_out(self, n_pieces: int, window: int, mode: Mode) -> None:
        """Run a micro-batch of so many pieces, and in training its way back."""
        longest = min(window, self.tokenizer.max_length)
        ids = np.full((max(1, n_pieces // longest), longest), self.tokenizer.pad_id, dtype=np.int64)
        one = np.zeros(1, dtype=np.int64)
        batch = MicroBatch.of(ids, np.full(len(ids), longest), one, one, np.ones(1, dtype=np.float32))
        trained = self._trained() if mode.trains else []
        with torch.set_grad_enabled(bool(trained)):
            part = self._pool_windows(batch, 0, mode)
        if trained:
            torch.autograd.grad(part.sum(), trained, allow_unused=True)

    def mode(self, precision: Precision, trains: bool, drops: bool) -> Mode:
        return Mode(precision, trains, drops, self.encoder if trains else self.predictor(precision))

    def _trained(self) -> List[nn.Parameter]:
        return [p for p in self.encoder.parameters() if p.requires_grad]

    # What it computes

    def forward(
        self, batch: PieceBatch, known: Dict[int, Tensor], dropout: float = 0.0, precision: Precision = "fp32"
    ) -> Tensor:
        """Vectors of all tokens of a batch.

        known (Dict[int, Tensor]): Pooled vectors of documents that have no windows in the batch; see `known`.
        dropout (float): In training, the share of values set to 0 in the token vectors and in the CNN. At 0
            the encoder's own dropout is off too; above, it keeps the rate of its own configuration.
        precision (str): What encoder and CNN are computed in. Weights are float32 all the same.
        RETURNS (Tensor): float32, (tokens, width).
        """
        if self.training:
            if self._integers is not None or precision == "int8":
                raise ValueError(
                    "A quantized pipeline cannot be trained. Train the one that it was made of, then quantize."
                )
            self.weights_changed()
            words = self.encoder.get_input_embeddings()
            if isinstance(words, nn.Embedding):
                # on a CPU filling a gradient for the whole vocabulary with zeros would take a twentieth of the step
                words.sparse = self.device.type == "cpu"
        drops = self.training and dropout > 0 and self._frozen != "all"
        tokens = self._pool(batch, self.mode(precision, self.training, drops))  # (tokens, layers * hidden)
        if known:
            self._fill_in(batch, known, tokens)
        if self.mix is not None:
            tokens = self.mix(tokens)
        without = torch.from_numpy(batch.no_pieces).to(self.device)
        tokens = tokens.index_add_(0, without, self.no_pieces.expand(len(without), -1))
        with computed_in(precision, self.device):
            return self.cnn(tokens, batch.doc_lengths, dropout)

    def _pool(self, batch: PieceBatch, mode: Mode) -> Tensor:
        """Each token's vector from pieces, those from the centre of a window: float32, (tokens, layers * hidden)."""
        n_tokens = sum(batch.doc_lengths)
        parameters = self._trained() if torch.is_grad_enabled() else []
        if parameters and batch.micro_batches:
            return _Pool.apply(self, batch.micro_batches, n_tokens, mode, *parameters)
        with torch.no_grad():
            tokens = self.empty_tokens(n_tokens)
            for runs in self._run_all(batch.micro_batches, mode):
                for run in runs:
                    tokens.index_add_(0, run.tokens, run.part)
            return tokens

    def _run_all(self, micro_batches: Sequence[MicroBatch], mode: Mode) -> Iterator[Iterable["_Run"]]:
        """`run` without dropout or gradients."""
        if not self.compiles(mode.precision):
            # on a CPU the libraries for float32 are as fast with all threads at one product
            return (self.run(micro_batch, None, mode) for micro_batch in micro_batches)

        @torch.no_grad()
        def work(micro_batch: MicroBatch) -> List["_Run"]:
            return list(self.run(micro_batch, None, mode))

        # here, since a thread must not begin while another is half-way through switching dropout off
        mode.encoder.train(mode.drops)
        return side_by_side(work, micro_batches)

    def empty_tokens(self, n_tokens: int) -> Tensor:
        return self.no_pieces.new_zeros(n_tokens, len(self.layers) * len(self.no_pieces), requires_grad=False)

    def _fill_in(self, batch: PieceBatch, known: Dict[int, Tensor], tokens: Tensor) -> None:
        """Put what is known of whole documents into the vectors of all tokens."""
        at = 0
        for i, length in enumerate(batch.doc_lengths):
            if i in known:
                tokens[at : at + length] = known[i]
            at += length

    def run(self, micro_batch: MicroBatch, seed: Optional[int], mode: Mode) -> Iterator["_Run"]:
        """Embed a micro-batch, in halves and quarters where the GPU's memory does not suffice."""
        left = [(micro_batch, seed, SEED_STEP)]
        while left:
            part, seed, step = left.pop()
            most = self.found.get(self._budget_key(mode.precision, mode.trains), part.ids.size)
            if len(part.ids) == 1 or part.ids.size <= most:
                vectors = self.attempt(part, seed, mode)
                if vectors is not None:
                    yield _Run(part, seed, vectors, torch.from_numpy(part.tokens).to(self.device))
                    continue
                self.note_lack(part, mode)
            first, second = part.halves()
            step //= 2
            left += [(second, None if seed is None else seed + step, step), (first, seed, step)]

    def attempt(self, micro_batch: MicroBatch, seed: Optional[int], mode: Mode) -> Optional[Tensor]:
        """`_pool_windows`, or None where the memory does not suffice."""
        with contextlib.suppress(torch.OutOfMemoryError):
            return self._pool_windows(micro_batch, seed, mode)
        return None

    def note_lack(self, micro_batch: MicroBatch, mode: Mode) -> None:
        """Remember that so much does not fit into memory. RAISES (RuntimeError): It is a single window."""
        if len(micro_batch.ids) == 1:
            raise out_of_memory(micro_batch.ids.size)
        key = self._budget_key(mode.precision, mode.trains)
        self.found[key] = min(self.found.get(key, micro_batch.ids.size), micro_batch.ids.size // 2)
        logger.warning(
            "%s: out of memory with %d wordpieces at once; %d from now on.",
            device_name(self.device), micro_batch.ids.size, self.found[key],
        )  # fmt: skip
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _pool_windows(self, micro_batch: MicroBatch, seed: Optional[int], mode: Mode) -> Tensor:
        """What the windows of a micro-batch add to the vectors of their tokens, float32, (here, layers * hidden)."""
        ids, n_real, _, begins, places, shares = (torch.from_numpy(part).to(self.device) for part in micro_batch)
        if mode.encoder.training != mode.drops:
            mode.encoder.train(mode.drops)
        with seeded(seed, self.device):
            has_padding = bool((micro_batch.n_real < ids.shape[1]).any())
            hidden = self._encode(mode, ids, n_real if has_padding else None)  # (windows, longest, layers * hidden)
        if self._integers is not None:
            self._integers.clear()
        pieces = hidden.flatten(0, 1).float()
        return nn.functional.embedding_bag(places, pieces, begins, mode="sum", per_sample_weights=shares)

    def quantize(self, batches: Iterable[Tuple[Tensor, Tensor]]) -> Dict[str, Plan]:
        """Turn the encoder into one of integers, fitted to examples: input ids and attention mask of each."""
        self.eval()
        self._cache = None
        plans = make_int8(self.encoder, observe(self.encoder, batches))
        self._integers = next(m.shared for m in self.encoder.modules() if isinstance(m, Int8Linear))
        return plans

    def predictor(self, precision: Precision) -> Any:
        """The encoder as it runs in prediction. RAISES (ValueError): int8 is asked of one that is not quantized."""
        if self._integers is None:
            if precision == "int8":
                raise ValueError(
                    'precision = "int8" is for a pipeline that was quantized: '
                    "python -m spacy crf-ner quantize MODEL OUTPUT. This one was not; choose another precision."
                )
            return self.encoder if precision == "fp32" else self._converted.get(self.encoder, precision)
        if precision == "int8" and self.device.type == "cpu" and works():
            return self.encoder
        if precision == "int8":
            warn_without_int8(self.device.type)
        return self._converted.get(self.encoder, "fp32" if precision == "int8" else precision)

    def _encode(self, mode: Mode, ids: Tensor, n_real: Optional[Tensor]) -> Tensor:
        """The wanted layers side by side; see `bert.hidden_states`."""
        if not mode.trains and is_bert(mode.encoder):
            return hidden_states(mode.encoder, ids, n_real, self.layers)
        mask = torch.ones_like(ids)
        if n_real is not None:
            mask = (torch.arange(ids.shape[1], device=ids.device) < n_real[:, None]).long()
        # a predictor has its weights in its own precision
        inside = computed_in(mode.precision, self.device) if mode.trains else contextlib.nullcontext()
        with inside, quick_attention(self.device):
            if self.mix is None and self.layers[0] == mode.encoder.config.num_hidden_layers:
                return mode.encoder(input_ids=ids, attention_mask=mask)[0]
            states = mode.encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        return torch.cat([states[layer] for layer in self.layers], -1)


class LayerMix(nn.Module):
    """A weighted mean of layers, with learned weights and a learned scale (ELMo; Peters et al. 2018)."""

    def __init__(self, n_layers: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(n_layers))
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, layers: Tensor) -> Tensor:
        """layers (Tensor): Side by side, (tokens, layers * hidden). RETURNS (Tensor): (tokens, hidden)."""
        shares = self.weights.softmax(0) * self.scale
        return torch.einsum("tlh,l->th", layers.unflatten(1, (len(shares), -1)), shares)


class _Run(NamedTuple):
    """A micro-batch that was embedded: with which seed, and what it adds to which tokens."""

    micro_batch: MicroBatch
    seed: Optional[int]
    part: Tensor
    tokens: Tensor


class _Pool(torch.autograd.Function):
    """`TransformerCNNModule._pool` in training, holding the activations of one micro-batch at a time.

    Those of the first micro-batch, which is the largest, are kept; all others are worked out again on the way back,
    with the same dropout, as gradient checkpointing does. Unlike there nothing of a micro-batch outlives it, be it
    ever so small: what is left between large blocks splits the heap, which then grows with the length of the text.
    Gradients are added up only where all of them could be computed, so that running out of memory leaves no trace in
    them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        module: TransformerCNNModule,
        micro_batches: Sequence[MicroBatch],
        n_tokens: int,
        mode: Mode,
        *parameters: nn.Parameter,
    ) -> Tensor:
        tokens = module.empty_tokens(n_tokens)
        again = list(zip(micro_batches, seeds(len(micro_batches), mode.drops)))
        done: List[Tuple[MicroBatch, Optional[int]]] = []
        with torch.enable_grad():
            kept = module.attempt(*again[0], mode)
        if kept is not None:
            tokens.index_add_(0, torch.from_numpy(micro_batches[0].tokens).to(tokens.device), kept.detach())
            done.append(again.pop(0))
        for micro_batch, seed in again:
            for run in module.run(micro_batch, seed, mode):
                tokens.index_add_(0, run.tokens, run.part)
                done.append((run.micro_batch, run.seed))
        ctx.module, ctx.mode, ctx.kept, ctx.done, ctx.parameters = module, mode, kept, done, parameters
        ctx.save_for_backward(*parameters)
        return tokens

    @staticmethod
    def backward(ctx: Any, *d_outputs: Any) -> Any:
        (d_tokens,) = d_outputs
        ctx.saved_tensors  # noqa: B018 # torch complains where weights have changed since
        total: List[Optional[Tensor]] = [None] * len(ctx.parameters)
        for micro_batch, seed in ctx.done:
            kept, ctx.kept = ctx.kept, None
            d_part = d_tokens[torch.from_numpy(micro_batch.tokens).to(d_tokens.device)]
            gradients = _way_back(ctx, kept, micro_batch, seed, d_part)
            if gradients is None:
                # once more, when what was held is free; not in parts, which would drop other values than before
                kept = None
                if len(micro_batch.ids) > 1:
                    ctx.module.note_lack(micro_batch, ctx.mode)
                gradients = _way_back(ctx, kept, micro_batch, seed, d_part)
            if gradients is None:
                raise out_of_memory(micro_batch.ids.size)
            for i, gradient in enumerate(gradients):
                if gradient is None:
                    continue
                if total[i] is None:
                    # sparse ones would grow with every micro-batch that is added
                    total[i] = gradient if len(ctx.done) == 1 else gradient.to_dense()
                else:
                    total[i].add_(gradient)  # type: ignore[union-attr]
        return (None, None, None, None, *total)


def _way_back(
    ctx: Any, kept: Optional[Tensor], micro_batch: MicroBatch, seed: Optional[int], d_part: Tensor
) -> Optional[Sequence[Optional[Tensor]]]:
    """Gradients of the parameters through one micro-batch, or None where the memory does not suffice."""
    with contextlib.suppress(torch.OutOfMemoryError):
        if kept is None:
            with torch.enable_grad():
                kept = ctx.module._pool_windows(micro_batch, seed, ctx.mode)
        return torch.autograd.grad(kept, ctx.parameters, d_part, allow_unused=True)
    return None


def _blocks(encoder: Any) -> Sequence[nn.Module]:
    """The layers of an encoder, the lowest first; empty where they are not modules of their own (ALBERT)."""
    depth = encoder.config.num_hidden_layers
    lists = (list(part) for part in encoder.modules() if isinstance(part, nn.ModuleList) and len(part) == depth)
    return next(lists, [])
