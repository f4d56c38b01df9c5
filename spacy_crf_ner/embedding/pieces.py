"""From documents to wordpieces: tokenise, align pieces with tokens, cut windows. NumPy, no torch."""

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
from spacy.tokens import Doc

NO_LIMIT = 1_000_000


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

    ids (np.ndarray): int64, (pieces,).
    token_pieces (np.ndarray): The pieces of token 0, of token 1 and so on, int64, (pairs,). A piece that
        covers parts of several tokens belongs to each of them.
    token_counts (np.ndarray): How many pieces each token has, 0 for some (white space), int64, (tokens,).
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
    return pieces[order], np.bincount(tokens, minlength=n_tokens).astype(np.int64)


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

    @property
    def n_special(self) -> int:
        """Special pieces around each window."""
        return len(self.prefix) + len(self.suffix)

    def count(self, texts: Sequence[str]) -> List[int]:
        """Wordpieces of each text, special ones not included."""
        encodings = self._backend.encode_batch(list(texts), add_special_tokens=False)
        return [len(encoding) for encoding in encodings]

    def __call__(self, docs: Sequence[Doc]) -> List[DocPieces]:
        """Tokenise whole documents, of any length."""
        encodings = self._backend.encode_batch([doc.text for doc in docs], add_special_tokens=False)
        pieces = []
        for doc, encoding in zip(docs, encodings):
            offsets = np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2)
            pieces.append(DocPieces(np.asarray(encoding.ids, dtype=np.int64), *align(offsets, doc)))
        return pieces

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


@dataclass
class PieceBatch:
    """Everything the torch module needs to embed a batch of documents.

    doc_lengths (List[int]): Tokens in each document.
    token_pieces, token_counts (np.ndarray): As in DocPieces, over all documents one after another.
    micro_batches: Windows of like length that go through the encoder together. For each: input ids, int64,
        (windows, longest), padded with `pad_id`; how many are real, int64, (windows,); which are kept, bool,
        (windows, longest).
    restore (np.ndarray): Where each piece of the batch is among the kept ones, int64, (pieces,).
    """

    doc_lengths: List[int]
    token_pieces: np.ndarray
    token_counts: np.ndarray
    micro_batches: List[Tuple[np.ndarray, np.ndarray, np.ndarray]]
    restore: np.ndarray


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
    windows: List[Tuple[Window, int, np.ndarray]] = []  # window, first piece of its document in the batch, ids
    offset = 0
    shifted = []
    for pieces in documents:
        windows += [(w, offset, pieces.ids) for w in cut_windows(len(pieces.ids), size, step)]
        shifted.append(pieces.token_pieces + offset)
        offset += len(pieces.ids)
    windows.sort(key=lambda item: item[0].start - item[0].end)  # longest first, stable
    micro_batches = []
    kept = []
    at = 0
    while at < len(windows):
        longest = windows[at][0].end - windows[at][0].start + tokenizer.n_special
        n = len(windows) if budget is None else max(1, budget // longest)
        group = windows[at : at + n]
        ids = np.full((len(group), longest), tokenizer.pad_id, dtype=np.int64)
        n_real = np.zeros(len(group), dtype=np.int64)
        keep = np.zeros((len(group), longest), dtype=bool)
        lead = len(tokenizer.prefix)
        for row, (w, first, doc_ids) in enumerate(group):
            framed = [*tokenizer.prefix, *doc_ids[w.start : w.end], *tokenizer.suffix]
            ids[row, : len(framed)] = framed
            n_real[row] = len(framed)
            keep[row, lead + w.keep_start - w.start : lead + w.keep_end - w.start] = True
            kept.append(np.arange(first + w.keep_start, first + w.keep_end))
        micro_batches.append((ids, n_real, keep))
        at += n
    order = np.concatenate(kept) if kept else np.zeros(0, dtype=np.int64)
    restore = np.empty_like(order)
    restore[order] = np.arange(len(order))
    return PieceBatch(
        doc_lengths=[len(doc) for doc in docs],
        token_pieces=np.concatenate([np.zeros(0, dtype=np.int64), *shifted]),
        token_counts=np.concatenate([np.zeros(0, dtype=np.int64), *(p.token_counts for p in documents)]),
        micro_batches=micro_batches,
        restore=restore,
    )


def special_settings(tokenizer: Any) -> Dict[str, Any]:
    """The special tokens of a Hugging Face tokenizer, as plain strings by name."""
    return {name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
