"""From emissions to entities, each with its exact probability under the chain that decodes.

The probability of an entity is the probability mass of all tag sequences that contain it: everything
before its first token is in the forward score, everything after its last in the backward score, and
between them the tags are given. Nothing is sampled or approximated.
"""

from typing import List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from .. import tagging
from ..tagging import BEGIN, INSIDE, LAST, UNIT, TagSpan
from .chain import _ChainMaths, restrict
from .recursions import FORBIDDEN, is_forbidden, token_mask

MAX_PADDED_TOKENS = 32_768


class ScoredSpan(NamedTuple):
    """An entity of one sequence and its probability."""

    span: TagSpan
    score: float


class SpanMarginals:
    """Probabilities of spans in a batch of sequences, under the BILUO chain that decodes; no gradient.

    Parameters are those of `decode`. Spans are given and returned as int64 tensors (spans, 4): sequence, first
    token, last + 1, label.

    RAISES (ValueError): The chain is not over BILUO tags.
    """

    @torch.no_grad()
    def __init__(
        self,
        crf: _ChainMaths,
        emissions: Tensor,
        lengths: Tensor,
        possible: Optional[Tensor] = None,
        temperature: float = 1.0,
    ) -> None:
        n_tags = emissions.shape[2]
        if n_tags % 4 != 1:
            raise ValueError(f"Spans are read from BILUO tags, 1 + 4 a label; this chain has {n_tags} tags.")
        self._scores = crf.per_token(emissions, lengths, possible, temperature)
        self._left_offset, self._right_offset = self._scores.offsets()
        self._lengths = lengths.to(emissions.device)
        self._emissions = restrict(emissions / temperature, possible)
        self._transitions = crf.scores().transitions.double() / temperature
        # sums over runs of I tags; forbidden tokens are counted apart, since they would swallow the sum
        inside_ids = torch.arange(1 + INSIDE, emissions.shape[2], 4, device=emissions.device)
        loops = self._transitions[:, inside_ids, inside_ids]  # (chains, labels)
        stay = self._emissions[..., 1 + INSIDE :: 4].double()
        stay = stay + loops.repeat(len(emissions) // len(loops), 1)[:, None]
        wall = is_forbidden(stay)
        self._run = torch.nn.functional.pad(stay.masked_fill_(wall, 0.0).cumsum(1), (0, 0, 1, 0))
        self._walls = torch.nn.functional.pad(wall.cumsum(1), (0, 0, 1, 0))

    def _move(self, row: Tensor, before: Tensor, after: Tensor) -> Tensor:
        return self._transitions[row % len(self._transitions), before, after]

    def _inner(self, row: Tensor, start: Tensor, end: Tensor, label: Tensor) -> Tensor:
        """Score of tokens start + 1 ... end - 1 as I tags, with the moves into them; 0 where there are none."""
        begin, inside = 1 + 4 * label + BEGIN, 1 + 4 * label + INSIDE
        second = torch.minimum(start + 1, end - 1)
        first = self._move(row, begin, inside) + self._emissions[row, second, inside]
        third = torch.minimum(start + 2, end)
        rest = self._run[row, end, label] - self._run[row, third, label]
        walls = self._walls[row, end, label] - self._walls[row, third, label]
        return torch.where(end - start < 2, 0.0, first + rest + FORBIDDEN * walls)

    def _log_z(self, row: Tensor, token: Tensor) -> Tensor:
        """log Z as it looks from a token: the same for all up to rounding, which cancels in a difference nearby."""
        return self._scores.log_mass(row, token) + self._left_offset[row, token] + self._right_offset[row, token]

    def _through(self, row: Tensor, start: Tensor, first: Tensor, last: Tensor, end: Tensor, inner: Tensor) -> Tensor:
        """P(tags `first` at start and `last` at end - 1, and what `inner` scores between them)."""
        left = self._scores.log_left(row, start, first) + self._left_offset[row, start]
        right = self._scores.log_right(row, end - 1, last) + self._right_offset[row, end - 1]
        return (left + inner + right - self._log_z(row, start)).clamp_max(0.0).exp()

    @torch.no_grad()
    def probabilities(self, spans: Tensor) -> Tensor:
        """P(span) of each span, float64, (spans,).

        RAISES (ValueError): A span does not lie in its sequence, or its label is not one of the chain's.
        """
        row, start, end, label = spans.T
        n_labels = self._emissions.shape[2] // 4
        known = (row >= 0) & (row < len(self._lengths)) & (label >= 0) & (label < n_labels)
        fits = known & (start >= 0) & (start < end) & (end <= self._lengths[row.clamp(0, len(self._lengths) - 1)])
        if not fits.all():
            wrong = spans[~fits][0].tolist()
            raise ValueError(f"Span {wrong} (sequence, first token, last + 1, label) is not in the batch.")
        begin, inside, last, unit = (1 + 4 * label + position for position in (BEGIN, INSIDE, LAST, UNIT))
        single = end - start == 1
        before = torch.where(end - start == 2, begin, inside)
        closing = self._move(row, before, last) + self._emissions[row, end - 1, last]
        inner = torch.where(single, 0.0, self._inner(row, start, torch.maximum(end - 1, start + 1), label) + closing)
        return self._through(row, start, torch.where(single, unit, begin), torch.where(single, unit, last), end, inner)

    @torch.no_grad()
    def above(self, threshold: float) -> Tensor:
        """Every span, on the best path or not, whose probability is at least `threshold` (> 0).

        From each token that begins an entity with enough probability the entity is grown for as long as the
        mass of all entities that go on keeps above the threshold, so that the work is bounded by 1 / threshold.
        """
        marginals = self._scores.marginals()
        marginals = marginals * token_mask(marginals, self._lengths)[..., None]
        # what rounding takes off must not lose an entity; the last filter is exact
        reach = threshold * (1 - 1e-5)
        row, start, label = torch.nonzero(marginals[..., 1 + UNIT :: 4] >= reach).T
        found = [torch.stack([row, start, start + 1, label], 1)]
        row, start, label = torch.nonzero(marginals[..., 1 + BEGIN :: 4] >= reach).T
        end = start + 2
        while len(row):
            fits = end <= self._lengths[row]
            row, start, end, label = (x[fits] for x in (row, start, end, label))
            found.append(torch.stack([row, start, end, label], 1))
            begin, inside = 1 + 4 * label + BEGIN, 1 + 4 * label + INSIDE
            inner = self._inner(row, start, end, label)
            goes_on = self._through(row, start, begin, inside, end, inner) >= reach
            row, start, label, end = row[goes_on], start[goes_on], label[goes_on], end[goes_on] + 1
        spans = torch.cat(found)
        spans = spans[self.probabilities(spans) >= threshold]
        order = np.lexsort(spans.cpu().numpy().T[[3, 2, 1, 0]])
        return spans[torch.from_numpy(order).to(spans.device)]


def without_overlaps(spans: Sequence[ScoredSpan]) -> List[ScoredSpan]:
    """The most probable spans that do not overlap: taken by falling probability, in order of their start."""
    chosen: List[ScoredSpan] = []
    taken = np.zeros(max((s.span.end for s in spans), default=0), dtype=bool)
    for candidate in sorted(spans, key=lambda s: (-s.score, s.span)):
        if not taken[candidate.span.start : candidate.span.end].any():
            taken[candidate.span.start : candidate.span.end] = True
            chosen.append(candidate)
    return sorted(chosen, key=lambda s: s.span)


def buckets(lengths: Sequence[int], budget: int = MAX_PADDED_TOKENS) -> List[List[int]]:
    """Group sequences of like length so that a group, padded to its longest, stays within a budget.

    A sequence that is longer than the budget is alone in its group.
    """
    groups: List[List[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if groups and (len(groups[-1]) + 1) * lengths[groups[-1][0]] <= budget:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


class Rules(NamedTuple):
    """How entities are read off chains. Labels are ids; those of the chains of a document follow each other.

    threshold (Optional[float]): None gives the entities of the best path. A number gives every span that is at least
        as probable, without overlaps: it leaves out the doubtful ones of the best path and, set low, adds others from
        off it.
    temperature (float): Divides all scores before probabilities are taken; the best path does not depend on it.
    label_thresholds (Mapping[int, float]): Of single labels, in the place of `threshold`.
    label_exponents (Mapping[int, float]): Powers to which the probabilities of a label's entities are then raised; of
        labels that are not there 1.
    """

    threshold: Optional[float] = None
    temperature: float = 1.0
    label_thresholds: Mapping[int, float] = {}
    label_exponents: Mapping[int, float] = {}

    def thresholds(self, n_labels: int) -> np.ndarray:
        """Of each label, float64, (n_labels,); NaN where the best path decides."""
        overall = np.nan if self.threshold is None else self.threshold
        return np.array([self.label_thresholds.get(label, overall) for label in range(n_labels)], dtype=np.float64)

    def exponents(self, n_labels: int) -> np.ndarray:
        """Of each label, float64, (n_labels,)."""
        return np.array([self.label_exponents.get(label, 1.0) for label in range(n_labels)], dtype=np.float64)


def decode(
    crf: _ChainMaths,
    emissions: Tensor,
    lengths: Tensor,
    possible: Optional[Tensor] = None,
    rules: Rules = Rules(),  # it is not changed
) -> List[List[ScoredSpan]]:
    """Entities of a batch of sequences.

    emissions (Tensor): float32, (batch, time, tags).
    lengths (Tensor): int64 on the CPU, (batch,), each >= 1.
    possible (Optional[Tensor]): Tags that a token may have, bool, (batch, time, tags); None: all.
    RETURNS (List[List[ScoredSpan]]): For each sequence, in order of their start.

    With thresholds, of spans that overlap the most probable stays, among all that reach the lowest threshold of any
    label; where that one does not reach its own, what is less probable does not take its place. So a threshold only
    ever takes entities away from those of a lower one. Where some labels have a threshold and others none, these take
    part with their entities of the best path.
    """
    with torch.no_grad():
        emissions = restrict(emissions, possible)
        labels = _LabelIds(len(crf.scores().transitions), emissions.shape[2] // 4)
        thresholds, exponents = rules.thresholds(labels.n_labels), rules.exponents(labels.n_labels)
        free = np.isnan(thresholds)
        decoded: List[List[ScoredSpan]] = [[] for _ in range(len(emissions))]
        if free.any():
            spans = torch.from_numpy(tagging.paths_to_spans(crf.best_paths(emissions, lengths).cpu().numpy()))
            spans = spans[torch.from_numpy(free[labels.of(spans)])]
            scores = _probabilities(crf, emissions, lengths, spans, rules.temperature)
            _add(decoded, spans, _raised(scores, exponents[labels.of(spans)]))
        if free.all():
            return decoded
        lowest = float(np.nanmin(thresholds))
        marginals = SpanMarginals(crf, emissions, lengths, temperature=rules.temperature)
        # what is raised to it is at least this before; a little less, for rounding
        spans = marginals.above(float((lowest ** (1 / exponents[~free])).min()) * (1 - 1e-9))
        raised = _raised(marginals.probabilities(spans), exponents[labels.of(spans)])
        reach = (raised >= lowest) & ~free[labels.of(spans)]
        _add(decoded, spans[torch.from_numpy(reach).to(spans.device)], raised[reach])
    needed = np.nan_to_num(thresholds)  # 0 where there is none
    return [
        [entity for entity in without_overlaps(found) if entity.score >= needed[labels.base(row) + entity.span.label]]
        for row, found in enumerate(decoded)
    ]


class _LabelIds(NamedTuple):
    """Which of the labels of all chains together a span of one sequence has."""

    n_chains: int
    per_chain: int

    @property
    def n_labels(self) -> int:
        return self.n_chains * self.per_chain

    def base(self, row: int) -> int:
        """Id of the first label of a sequence's chain."""
        return row % self.n_chains * self.per_chain

    def of(self, spans: Tensor) -> np.ndarray:
        """int64, (spans,)"""
        rows, _, _, labels = spans.cpu().numpy().T
        return rows % self.n_chains * self.per_chain + labels


def _raised(probabilities: Tensor, exponents: np.ndarray) -> np.ndarray:
    return probabilities.double().cpu().numpy() ** exponents


def _add(decoded: List[List[ScoredSpan]], spans: Tensor, scores: np.ndarray) -> None:
    for (row, start, end, label), score in zip(spans.tolist(), scores.tolist()):
        decoded[row].append(ScoredSpan(TagSpan(start, end, label), score))


def _probabilities(crf: _ChainMaths, emissions: Tensor, lengths: Tensor, spans: Tensor, temperature: float) -> Tensor:
    """Probabilities of spans, worked out for those documents alone that have some; spans on the CPU."""
    if not len(spans):
        return emissions.new_zeros(0)
    n_chains = len(crf.scores().transitions)
    documents, place = (spans[:, 0] // n_chains).unique(return_inverse=True)
    rows = (documents[:, None] * n_chains + torch.arange(n_chains)).flatten()
    moved = torch.cat([(place * n_chains + spans[:, 0] % n_chains)[:, None], spans[:, 1:]], 1)
    marginals = SpanMarginals(crf, emissions[rows.to(emissions.device)], lengths[rows], temperature=temperature)
    return marginals.probabilities(moved.to(emissions.device))


def pad(rows: Sequence[Tensor]) -> Tuple[Tensor, Tensor]:
    """Stack sequences of different length. RETURNS: (batch, longest, ...) and lengths, int64 on the CPU."""
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True), lengths
