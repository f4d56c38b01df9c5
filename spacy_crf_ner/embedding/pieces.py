"""From documents to wordpieces: tokenise, align pieces with tokens, cut windows. NumPy, no torch."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from spacy.attrs import ORTH, SPACY
from spacy.tokens import Doc

NO_LIMIT = 1_000_000
# Wordpieces that a tokenizer remembers, with some ten bytes for each.
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


@dataclass
class DocPieces:
    """The wordpieces of one document.

    ids (np.ndarray): int32, (pieces,).
    token_pieces (np.ndarray): The pieces of token 0, of token 1 and so on, int32, (pairs,). A piece that
        covers parts of several tokens belongs to each of them.
    token_counts (np.ndarray): How many pieces each token has, 0 for some (white space), int32, (tokens,).
    """

    ids: np.ndarray
    token_pieces: np.ndarray
    token_counts: np.ndarray


def align(offsets: np.ndarray, doc: Doc) -> Tuple[np.ndarray, np.ndarray]:
    """Which pieces each token has, by the characters that both cover.

    offsets (np.ndarray): First and last + 1 character of each piece, int64, (pieces, 2).
    RETURNS: `token_pieces` and `token_counts`, see DocPieces.
    """
    n_tokens = len(doc)
    starts = np.fromiter((t.idx for t in doc), dtype=np.int64, count=n_tokens)
    ends = starts + np.fromiter((len(t) for t in doc), dtype=np.int64, count=n_tokens)
    # a piece [a, b) meets the tokens that end after a and start before b
    first = np.searchsorted(ends, offsets[:, 0], side="right")
    last = np.searchsorted(starts, offsets[:, 1], side="left")
    n_met = np.maximum(last - first, 0)
    n_met[offsets[:, 0] >= offsets[:, 1]] = 0
    pieces = np.repeat(np.arange(len(offsets)), n_met)
    within = np.arange(n_met.sum()) - np.repeat(np.cumsum(n_met) - n_met, n_met)
    tokens = np.repeat(first, n_met) + within
    order = np.argsort(tokens, kind="stable")
    return pieces[order].astype(np.int32), np.bincount(tokens, minlength=n_tokens).astype(np.int32)


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
        self._remembered: OrderedDict[bytes, DocPieces] = OrderedDict()
        self._n_remembered = 0

    def __getstate__(self) -> Dict[str, Any]:
        return {**self.__dict__, "_remembered": OrderedDict(), "_n_remembered": 0}

    @property
    def n_special(self) -> int:
        """Special pieces around each window."""
        return len(self.prefix) + len(self.suffix)

    def count(self, texts: Sequence[str]) -> List[int]:
        """Wordpieces of each text, special ones not included."""
        encodings = self._backend.encode_batch(list(texts), add_special_tokens=False)
        return [len(encoding) for encoding in encodings]

    def __call__(self, docs: Sequence[Doc]) -> List[DocPieces]:
        """Tokenise whole documents, of any length. What was tokenised lately is remembered by its content."""
        # words and the spaces between them are all that a Doc's text and its tokens' borders consist of
        keys = [doc.to_array([ORTH, SPACY]).tobytes() for doc in docs]
        found = {key: self._recall(key) for key in keys}
        fresh = {key: doc for key, doc in zip(keys, docs) if found[key] is None}
        encodings = self._backend.encode_batch([doc.text for doc in fresh.values()], add_special_tokens=False)
        for (key, doc), encoding in zip(fresh.items(), encodings):
            offsets = np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2)
            pieces = DocPieces(np.asarray(encoding.ids, dtype=np.int32), *align(offsets, doc))
            found[key] = pieces
            self._remember(key, pieces)
        return [found[key] for key in keys]  # type: ignore[misc]

    def _recall(self, key: bytes) -> Optional[DocPieces]:
        if key in self._remembered:
            self._remembered.move_to_end(key)
        return self._remembered.get(key)

    def _remember(self, key: bytes, pieces: DocPieces) -> None:
        """Keep a document's pieces; what was not asked for longest makes room."""
        self._remembered[key] = pieces
        self._n_remembered += len(pieces.ids)
        while self._n_remembered > REMEMBERED_PIECES:
            _, oldest = self._remembered.popitem(last=False)
            self._n_remembered -= len(oldest.ids)

    def window(self, window: int, stride: int) -> Tuple[int, int]:
        """Size and stride of windows in pieces of text, from sizes that count special pieces.

        Where the encoder takes less than `window`, the stride shrinks with it.

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
        return size, min(max(1, stride * longest // window), size)

    def files(self) -> str:
        """The whole tokenizer as the text of a tokenizer.json."""
        return self._backend.to_str()


class MicroBatch(NamedTuple):
    """Windows of like length that go through the encoder together, and what becomes of their pieces.

    ids (np.ndarray): Input ids, padded with `pad_id`, int64, (windows, longest).
    n_real (np.ndarray): How many of each row are not padding, int64, (windows,).
    tokens (np.ndarray): Tokens of the batch that have pieces here, int64, (here,).
    places (np.ndarray): Where the pieces of these tokens stand in the flattened ids, int64, (pairs,).
    owners (np.ndarray): Which of `tokens` each of them belongs to, int64, (pairs,).
    shares (np.ndarray): What part of the token's vector each piece makes, float32, (pairs,).
    """

    ids: np.ndarray
    n_real: np.ndarray
    tokens: np.ndarray
    places: np.ndarray
    owners: np.ndarray
    shares: np.ndarray


@dataclass
class PieceBatch:
    """Everything the torch module needs to embed a batch of documents.

    doc_lengths (List[int]): Tokens in each document.
    no_pieces (np.ndarray): Tokens of the batch that have no piece, int64, (tokens without,).
    micro_batches (List[MicroBatch]): All windows, the longest first.
    """

    doc_lengths: List[int]
    no_pieces: np.ndarray
    micro_batches: List[MicroBatch]


def batch_pieces(
    tokenizer: PieceTokenizer, docs: Sequence[Doc], window: int, stride: int, budget: Optional[int]
) -> PieceBatch:
    """Tokenise documents and pack their windows.

    window, stride (int): In wordpieces, special ones included in the window.
    budget (Optional[int]): Most wordpieces, padding included, that go through the encoder at once; a single
        window may exceed it. None: no limit.
    """
    size, step = tokenizer.window(window, stride)
    documents = tokenizer(docs)
    first = np.cumsum([0, *(len(pieces.ids) for pieces in documents)])
    windows = [
        (w, start, pieces.ids)  # and the first piece of its document in the batch
        for start, pieces in zip(first.tolist(), documents)
        for w in cut_windows(len(pieces.ids), size, step)
    ]
    windows.sort(key=lambda item: item[0].start - item[0].end)  # longest first, stable
    lead, frame = len(tokenizer.prefix), tokenizer.n_special
    group_of, place_of = np.zeros(first[-1], dtype=np.int64), np.zeros(first[-1], dtype=np.int64)
    inputs: List[Tuple[np.ndarray, np.ndarray]] = []
    at = 0
    while at < len(windows):
        longest = windows[at][0].end - windows[at][0].start + frame
        n = len(windows) if budget is None else max(1, budget // longest)
        group = windows[at : at + n]
        ids = np.full((len(group), longest), tokenizer.pad_id, dtype=np.int64)
        n_real = np.array([w.end - w.start + frame for w, _, _ in group])
        ids[:, :lead] = tokenizer.prefix
        for row, (w, start, doc_ids) in enumerate(group):
            ids[row, lead : lead + w.end - w.start] = doc_ids[w.start : w.end]
            ids[row, lead + w.end - w.start : n_real[row]] = tokenizer.suffix
            kept = slice(start + w.keep_start, start + w.keep_end)
            group_of[kept] = len(inputs)
            place_of[kept] = np.arange(w.keep_start, w.keep_end) + (row * longest + lead - w.start)
        inputs.append((ids, n_real))
        at += n
    counts = np.concatenate([np.zeros(0, dtype=np.int64), *(p.token_counts for p in documents)])
    pieces = np.concatenate([np.zeros(0, dtype=np.int64), *(p.token_pieces + s for p, s in zip(documents, first))])
    return PieceBatch(
        doc_lengths=[len(doc) for doc in docs],
        no_pieces=np.flatnonzero(counts == 0),
        micro_batches=_pool_into(inputs, counts, group_of[pieces], place_of[pieces]),
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
        tokens, owners = np.unique(owner[pairs], return_inverse=True)
        shares = (1 / counts[owner[pairs]]).astype(np.float32)
        micro_batches.append(MicroBatch(ids, n_real, tokens, place[pairs], owners, shares))
    return micro_batches


def special_settings(tokenizer: Any) -> Dict[str, Any]:
    """The special tokens of a Hugging Face tokenizer, as plain strings by name."""
    return {name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
