"""From documents to wordpieces: tokenise, align pieces with tokens, cut windows. NumPy, no torch."""

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Collection, Dict, List, Literal, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from spacy.attrs import LENGTH, ORTH, SPACY
from spacy.tokens import Doc

from ..context import get_context
from .rows import few_sizes

Pooling = Literal["mean", "first", "last"]
POOLINGS = ("mean", "first", "last")
# A digest of what a document's pieces depend on.
Content = bytes
NO_LIMIT = 1_000_000
# Wordpieces that a tokenizer remembers: some 10 MB of short documents, less of long ones.
REMEMBERED_PIECES = 500_000


@dataclass
class Window:
    """A run of wordpieces that goes through the encoder at once, and the part of it that is kept.

    start, end (int): Position in the document's pieces, end exclusive.
    keep_start, keep_end (int): The centre: what is kept of it. The centres of all windows tile the document.
    """

    start: int
    end: int
    keep_start: int
    keep_end: int


def cut_windows(n_pieces: int, size: int, stride: int) -> List[Window]:
    """Cover a document with overlapping windows, each piece kept from the window where it stands most centrally.

    n_pieces (int): Wordpieces in the document.
    size (int): Pieces a window holds.
    stride (int): Distance between the starts of two windows, at most `size`. The last window is moved back
        to be full, so that the end of a document has as much context as the rest.
    """
    if n_pieces == 0:
        return []
    starts = list(range(0, max(n_pieces - size, 0), stride)) + [max(n_pieces - size, 0)]
    borders = [0]
    for start, previous in zip(starts[1:], starts):
        borders.append((start + previous + size) // 2)
    borders.append(n_pieces)
    return [Window(s, min(s + size, n_pieces), a, b) for s, a, b in zip(starts, borders, borders[1:])]


def fit_context(n_before: int, n_own: int, n_after: int, size: int, stride: int) -> Tuple[int, int]:
    """How many pieces of context a document gets on each side.

    A document that fits into a window gets what else fits into it, evenly from both sides as far as there is enough; a
    longer one as much at its ends as stands around the centre of its windows.
    """
    room = size - n_own if n_own <= size else size - stride
    before = min(n_before, max(room // 2, room - n_after))
    return before, min(n_after, room - before)


def cut_document(
    n_before: int, n_own: int, n_after: int, size: int, stride: int
) -> Tuple[List[Window], Tuple[int, int]]:
    """Windows over a document and its context; see `cut_windows`.

    RETURNS: Windows, whose positions count from the first piece of context that is taken and that keep pieces of
        the document only; and how many pieces of context are taken on each side.
    """
    before, after = fit_context(n_before, n_own, n_after, size, stride)
    windows = []
    for w in cut_windows(before + n_own + after if n_own else 0, size, stride):
        keep_start, keep_end = max(w.keep_start, before), min(w.keep_end, before + n_own)
        if keep_start < keep_end:
            windows.append(Window(w.start, w.end, keep_start, keep_end))
    return windows, (before, after)


@dataclass
class DocPieces:
    """The wordpieces of one document.

    ids (np.ndarray): int32, (pieces,).
    token_pieces (np.ndarray): The pieces of token 0, of token 1 and so on, int32, (pairs,). A piece that
        covers parts of several tokens belongs to each of them.
    token_counts (np.ndarray): How many pieces each token has, 0 for some (white space), int32, (tokens,).
    before, after (np.ndarray): Pieces of its context, int32, (before,) and (after,).
    key (Content): What tells it from every document that has other pieces.
    """

    ids: np.ndarray
    token_pieces: np.ndarray
    token_counts: np.ndarray
    before: np.ndarray
    after: np.ndarray
    key: Content

    @property
    def size(self) -> int:
        return len(self.before) + len(self.ids) + len(self.after)

    def packed(self) -> bytes:
        """Its arrays as `unpacked` takes them: an array of its own has a hundred bytes beside what is in it."""
        arrays = (self.ids, self.token_pieces, self.token_counts, self.before, self.after)
        return np.concatenate([np.array([len(array) for array in arrays], dtype=np.int32), *arrays]).tobytes()

    @classmethod
    def unpacked(cls, packed: bytes, key: Content) -> "DocPieces":
        whole = np.frombuffer(packed, dtype=np.int32)
        ends = np.cumsum([5, *whole[:5]]).tolist()
        ids, token_pieces, token_counts, before, after = (whole[start:end] for start, end in zip(ends, ends[1:]))
        return cls(ids, token_pieces, token_counts, before, after, key)

    def pooled(self, pooling: Pooling) -> Tuple[np.ndarray, np.ndarray]:
        """`token_pieces` and `token_counts` of those pieces that make a token's vector."""
        if pooling == "mean":
            return self.token_pieces, self.token_counts
        ends = np.cumsum(self.token_counts)
        has = self.token_counts > 0
        chosen = (ends - self.token_counts if pooling == "first" else ends - 1)[has]
        return self.token_pieces[chosen], has.astype(np.int32)


def align(offsets: Sequence[np.ndarray], docs: Sequence[Doc]) -> List[Tuple[np.ndarray, np.ndarray]]:
    """Which pieces each token has, by the characters that both cover.

    offsets (Sequence[np.ndarray]): First and last + 1 character of each piece, for each document, int64, (pieces, 2).
    RETURNS: `token_pieces` and `token_counts` of each document, see DocPieces.

    All documents at once, as if their texts stood one after another.
    """
    if not docs:
        return []
    words = np.concatenate([doc.to_array([LENGTH, SPACY]).astype(np.int64).reshape(-1, 2) for doc in docs])
    borders = np.concatenate([[0], np.cumsum(words.sum(1))])
    starts, ends = borders[:-1], borders[:-1] + words[:, 0]
    first_token = np.cumsum([0, *(len(doc) for doc in docs)])
    first_piece = np.cumsum([0, *map(len, offsets)])
    spans = np.concatenate(offsets)
    spans += np.repeat(borders[first_token[:-1]], np.diff(first_piece))[:, None]
    # a piece [a, b) meets the tokens that end after a and start before b
    first = np.searchsorted(ends, spans[:, 0], side="right")
    last = np.searchsorted(starts, spans[:, 1], side="left")
    n_met = np.maximum(last - first, 0)
    n_met[spans[:, 0] >= spans[:, 1]] = 0
    pieces = np.repeat(np.arange(len(spans)), n_met)
    tokens = np.repeat(first, n_met) + np.arange(n_met.sum()) - np.repeat(np.cumsum(n_met) - n_met, n_met)
    pieces = pieces[np.argsort(tokens, kind="stable")].astype(np.int32)
    counts = np.bincount(tokens, minlength=len(words)).astype(np.int32)
    first_pair = np.concatenate([[0], np.cumsum(counts)])[first_token]
    found = []
    for d in range(len(docs)):
        own = pieces[first_pair[d] : first_pair[d + 1]] - np.int32(first_piece[d])
        # a copy, since a part of an array keeps the whole of it
        found.append((own, counts[first_token[d] : first_token[d + 1]].copy()))
    return found


class PieceTokenizer:
    """A Hugging Face fast tokenizer, as far as an encoder's input needs it.

    tokenizer: A `transformers.PreTrainedTokenizerFast`.
    max_length (int): Most pieces that the encoder takes at once, special ones included.
    RAISES (ValueError): The tokenizer is not a fast one.
    """

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise ValueError(
                f"{type(tokenizer).__name__} is a slow (pure Python) tokenizer, which gives no character offsets. "
                "Use an encoder whose folder has a tokenizer.json; most models on the hub have one."
            )
        self.max_length = max_length
        self._backend = tokenizer.backend_tokenizer
        # what a tokenizer.json says of cutting and filling is for other uses: nothing is ever truncated here
        self._backend.no_truncation()
        self._backend.no_padding()
        self.pad_id = tokenizer.pad_token_id or 0
        framed = self._backend.encode("a", add_special_tokens=True)
        solid = [i for i, special in enumerate(framed.special_tokens_mask) if not special]
        self.prefix: List[int] = framed.ids[: solid[0]]
        self.suffix: List[int] = framed.ids[solid[-1] + 1 :]
        # each with its number of pieces
        self._remembered: OrderedDict[Content, Tuple[bytes, int]] = OrderedDict()
        self._n_remembered = 0
        # documents are also made ready in a thread, ahead of their step
        self._lock = threading.Lock()

    def __getstate__(self) -> Dict[str, Any]:
        state = {**self.__dict__, "_remembered": OrderedDict(), "_n_remembered": 0}
        del state["_lock"]
        return state

    def __setstate__(self, state: Dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    @property
    def n_special(self) -> int:
        """Special pieces around each window."""
        return len(self.prefix) + len(self.suffix)

    @property
    def unknown_id(self) -> Optional[int]:
        """Id of the wordpiece that stands for text which the vocabulary has nothing for; None: there is none."""
        name = getattr(self._backend.model, "unk_token", None)
        return self._backend.token_to_id(name) if name else getattr(self._backend.model, "unk_id", None)

    def count(self, texts: Sequence[str]) -> List[int]:
        """Wordpieces of each text, special ones not included."""
        return [len(encoding) for encoding in self._encode(texts)]

    def _encode(self, texts: Sequence[str]) -> List[Any]:
        return self._backend.encode_batch(list(texts), add_special_tokens=False) if texts else []

    def __call__(self, docs: Sequence[Doc]) -> List[DocPieces]:
        """Tokenise whole documents, of any length. What was tokenised lately is remembered by its content."""
        keys = [_content(doc) for doc in docs]
        with self._lock:
            found = {key: self._recall(key) for key in keys}
        fresh = {key: doc for key, doc in zip(keys, docs) if found[key] is None}
        contexts = list({part for doc in fresh.values() for part in get_context(doc) if part})
        context_ids = {"": np.zeros(0, dtype=np.int32)}
        context_ids.update(zip(contexts, (_ids(encoding) for encoding in self._encode(contexts))))
        encodings = self._encode([doc.text for doc in fresh.values()])
        aligned = align([_offsets(encoding) for encoding in encodings], list(fresh.values()))
        for (key, doc), encoding, (token_pieces, counts) in zip(fresh.items(), encodings, aligned):
            before, after = (context_ids[part] for part in get_context(doc))
            pieces = DocPieces(_ids(encoding), token_pieces, counts, before, after, key)
            found[key] = pieces
            with self._lock:
                self._remember(key, pieces)
        return [found[key] for key in keys]  # type: ignore[misc]

    def forget(self) -> None:
        """Forget what is remembered."""
        with self._lock:
            self._remembered.clear()
            self._n_remembered = 0

    def _recall(self, key: Content) -> Optional[DocPieces]:
        if key not in self._remembered:
            return None
        self._remembered.move_to_end(key)
        return DocPieces.unpacked(self._remembered[key][0], key)

    def _remember(self, key: Content, pieces: DocPieces) -> None:
        """Keep a document's pieces; what was not asked for longest makes room."""
        if key in self._remembered:
            return  # two threads had made the same
        self._remembered[key] = (pieces.packed(), pieces.size)
        self._n_remembered += pieces.size
        while self._n_remembered > REMEMBERED_PIECES:
            _, (_, size) = self._remembered.popitem(last=False)
            self._n_remembered -= size

    def window(self, window: int, stride: int) -> Tuple[int, int]:
        """Size and stride of windows in pieces of text, from sizes that count special pieces.

        Where the encoder takes less than `window`, a stride that is too large for that shrinks: in proportion, or to
        three quarters of what the encoder takes, if that is more.

        RAISES (ValueError): The window has no room for text, or the stride would leave pieces out.
        """
        longest = min(window, self.max_length)
        size = longest - self.n_special
        if size < 1:
            raise ValueError(
                f"window = {window} leaves no room for text: {self.n_special} of its wordpieces are special ones. "
                "Set it to 128 or more."
            )
        if not 1 <= stride <= window:
            raise ValueError(f"stride = {stride} must lie between 1 and window = {window}, or text would be left out.")
        if longest < window:
            stride = min(stride, max(stride * longest // window, 3 * longest // 4))
        return size, min(stride, size)

    def files(self) -> str:
        """The whole tokenizer as the text of a tokenizer.json."""
        return self._backend.to_str()


class MicroBatch(NamedTuple):
    """Windows of like length that go through the encoder together, and what becomes of their pieces.

    ids (np.ndarray): Input ids, padded with `pad_id`, int64, (windows, longest). With `few_shapes` the last window may
        be there more than once; see `rows`.
    n_real (np.ndarray): How many of each row are not padding, int64, (windows,).
    tokens (np.ndarray): Tokens of the batch that have pieces here, int64, rising, (here,).
    begins (np.ndarray): At which of the pairs each of them begins, int64, (here,).
    places (np.ndarray): Where their pieces stand in the flattened ids, token after token, int64, (pairs,).
    shares (np.ndarray): What part of the token's vector each piece makes, float32, (pairs,).
    """

    ids: np.ndarray
    n_real: np.ndarray
    tokens: np.ndarray
    begins: np.ndarray
    places: np.ndarray
    shares: np.ndarray

    @classmethod
    def of(
        cls, ids: np.ndarray, n_real: np.ndarray, owners: np.ndarray, places: np.ndarray, shares: np.ndarray
    ) -> "MicroBatch":
        """owners: The token of each pair, (pairs,), rising."""
        begins = np.flatnonzero(np.diff(owners, prepend=-1))
        return cls(ids, n_real, owners[begins], begins, places, shares)

    @property
    def owners(self) -> np.ndarray:
        """The token of each pair, int64, (pairs,)."""
        return np.repeat(self.tokens, np.diff(self.begins, append=len(self.places)))

    def halves(self) -> List["MicroBatch"]:
        """The same windows in two micro-batches."""
        parts = []
        middle, longest = len(self.ids) // 2, self.ids.shape[1]
        for rows in (slice(0, middle), slice(middle, len(self.ids))):
            first = rows.start * longest
            here = (self.places >= first) & (self.places < rows.stop * longest)
            parts.append(
                MicroBatch.of(
                    self.ids[rows], self.n_real[rows], self.owners[here], self.places[here] - first, self.shares[here]
                )
            )
        return parts


@dataclass
class PieceBatch:
    """Everything the torch module needs to embed a batch of documents.

    documents (List[DocPieces]): What the batch is made of.
    doc_lengths (List[int]): Tokens in each document.
    no_pieces (np.ndarray): Tokens of the batch that have no piece, int64, (tokens without,).
    micro_batches (List[MicroBatch]): All windows, the longest first.
    """

    documents: List[DocPieces]
    doc_lengths: List[int]
    no_pieces: np.ndarray
    micro_batches: List[MicroBatch]


def batch_pieces(
    tokenizer: PieceTokenizer,
    documents: List[DocPieces],
    window: int,
    stride: int,
    budget: Optional[int],
    pooling: Pooling = "mean",
    known: Collection[int] = (),
    few_shapes: bool = False,
) -> PieceBatch:
    """Pack the windows of documents.

    window, stride (int): In wordpieces, special ones included in the window.
    budget (Optional[int]): Most wordpieces, padding included, that go through the encoder at once; a single
        window may exceed it. None: no limit.
    pooling (str): Which pieces make a token's vector.
    known (Collection[int]): Documents that are in the batch, but need no encoder any more.
    few_shapes (bool): Fill up the last micro-batch, if it is not the only one, to one of few numbers of windows.
    """
    size, step = tokenizer.window(window, stride)
    first = np.cumsum([0, *(len(pieces.ids) for pieces in documents)])
    windows: List[Tuple[Window, int, np.ndarray]] = []
    for i, (start, pieces) in enumerate(zip(first.tolist(), documents)):
        if i in known:
            continue
        cuts, (before, after) = cut_document(len(pieces.before), len(pieces.ids), len(pieces.after), size, step)
        ids = pieces.ids
        if before or after:
            ids = np.concatenate([pieces.before[len(pieces.before) - before :], ids, pieces.after[:after]])
        # with where the document's first piece would stand in the batch if the context were part of it
        windows.extend((w, start - before, ids) for w in cuts)
    windows.sort(key=lambda item: item[0].start - item[0].end)  # longest first, stable
    lead, frame = len(tokenizer.prefix), tokenizer.n_special
    group_of, place_of = np.full(first[-1], -1, dtype=np.int64), np.zeros(first[-1], dtype=np.int64)
    inputs: List[Tuple[np.ndarray, np.ndarray]] = []
    at = 0
    while at < len(windows):
        longest = windows[at][0].end - windows[at][0].start + frame
        n = len(windows) if budget is None else max(1, budget // longest)
        group = windows[at : at + n]
        n_rows = min(n, few_sizes(len(group))) if few_shapes and at else len(group)
        ids = np.full((n_rows, longest), tokenizer.pad_id, dtype=np.int64)
        n_real = np.array([w.end - w.start + frame for w, _, _ in group])
        ids[:, :lead] = tokenizer.prefix
        for row, (w, start, doc_ids) in enumerate(group):
            ids[row, lead : lead + w.end - w.start] = doc_ids[w.start : w.end]
            ids[row, lead + w.end - w.start : n_real[row]] = tokenizer.suffix
            kept = slice(start + w.keep_start, start + w.keep_end)
            group_of[kept] = len(inputs)
            place_of[kept] = np.arange(w.keep_start, w.keep_end) + (row * longest + lead - w.start)
        ids[len(group) :] = ids[len(group) - 1]
        inputs.append((ids, np.pad(n_real, (0, n_rows - len(group)), mode="edge")))
        at += n
    pooled = [pieces.pooled(pooling) for pieces in documents]
    counts = np.concatenate([np.zeros(0, dtype=np.int64), *(own for _, own in pooled)])
    pairs = np.concatenate([np.zeros(0, dtype=np.int64), *(own + s for (own, _), s in zip(pooled, first))])
    return PieceBatch(
        documents=documents,
        doc_lengths=[len(pieces.token_counts) for pieces in documents],
        no_pieces=np.flatnonzero(counts == 0),
        micro_batches=_pool_into(inputs, counts, group_of[pairs], place_of[pairs]),
    )


def _pool_into(
    inputs: List[Tuple[np.ndarray, np.ndarray]], counts: np.ndarray, group: np.ndarray, place: np.ndarray
) -> List[MicroBatch]:
    """Say which pieces of each micro-batch make which tokens.

    counts (np.ndarray): Pieces of each token, (tokens,). group, place: Of each (token, piece) pair, (pairs,).
    """
    owner = np.repeat(np.arange(len(counts)), counts)
    order = np.argsort(group, kind="stable")
    borders = np.searchsorted(group[order], np.arange(len(inputs) + 1))
    micro_batches = []
    for (ids, n_real), a, b in zip(inputs, borders, borders[1:]):
        pairs = order[a:b]
        shares = (1 / counts[owner[pairs]]).astype(np.float32)
        micro_batches.append(MicroBatch.of(ids, n_real, owner[pairs], place[pairs], shares))
    return micro_batches


def _ids(encoding: Any) -> np.ndarray:
    return np.asarray(encoding.ids, dtype=np.int32)


def _offsets(encoding: Any) -> np.ndarray:
    # an array at once: so many tuples, if they lived on, would set off Python's garbage collector time and again
    return np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)


def _content(doc: Doc) -> Content:
    """What a document's pieces depend on: its words, the spaces between them, and its context."""
    # the hashes of words stay what they are when a memory zone ends, unlike the strings themselves
    context = (part.encode("utf-8", "surrogatepass") for part in get_context(doc))
    digest = hashlib.blake2b(digest_size=16)
    for part in (doc.to_array([ORTH, SPACY]).tobytes(), *context):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.digest()


def special_settings(tokenizer: Any) -> Dict[str, Any]:
    """The special tokens of a Hugging Face tokenizer, as plain strings by name."""
    return {name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
