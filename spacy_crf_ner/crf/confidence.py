"""From emissions to entities, each with its exact probability under the chain that decodes.

The probability of an entity is the probability mass of all tag sequences that contain it: everything
before its first token is in the forward score, everything after its last in the backward score, and
between them the tags are given. Nothing is sampled or approximated.
"""

from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from .. import tagging
from ..tagging import BEGIN, INSIDE, LAST, UNIT, TagSpan
from .chain import _ChainMaths
from .recursions import FORBIDDEN

MAX_PADDED_TOKENS = 32_768


class ScoredSpan(NamedTuple):
    """An entity of one sequence and its probability."""

    span: TagSpan
    score: float


class SpanMarginals:
    """Probabilities of spans in one sequence.

    emissions (np.ndarray): (tokens, tags), FORBIDDEN where a token cannot have a tag.
    transitions (np.ndarray): (tags, tags).
    alpha, beta (np.ndarray): Forward and backward log scores, offsets included, float64, (tokens, tags).
    """

    def __init__(self, emissions: np.ndarray, transitions: np.ndarray, alpha: np.ndarray, beta: np.ndarray) -> None:
        self._emissions = emissions.astype(np.float64)
        self._transitions = transitions.astype(np.float64)
        self._alpha = alpha
        self._beta = beta
        # log Z as it looks from each token: the same up to rounding, which cancels in a difference nearby
        self._log_z = np.logaddexp.reduce(alpha + beta, axis=1)
        # sums over runs of I tags; forbidden tokens are counted apart, since they would swallow the sum
        inside_ids = np.arange(1 + INSIDE, emissions.shape[1], 4)
        stay = self._emissions[:, inside_ids] + self._transitions[inside_ids, inside_ids]
        wall = stay < FORBIDDEN / 2
        zero = np.zeros((1, len(inside_ids)))
        self._run = np.concatenate([zero, np.cumsum(np.where(wall, 0.0, stay), 0)])
        self._walls = np.concatenate([zero, np.cumsum(wall, 0)])

    def _inner(self, start: np.ndarray, end: np.ndarray, label: np.ndarray) -> np.ndarray:
        """Score of tokens start + 1 ... end - 1 as I tags, with the moves into them; 0 where there are none."""
        begin, inside = 1 + 4 * label + BEGIN, 1 + 4 * label + INSIDE
        first = self._transitions[begin, inside] + self._emissions[np.minimum(start + 1, end - 1), inside]
        rest = self._run[end, label] - self._run[np.minimum(start + 2, end), label]
        walls = self._walls[end, label] - self._walls[np.minimum(start + 2, end), label]
        return np.where(end - start < 2, 0.0, first + rest + FORBIDDEN * walls)

    def probabilities(self, spans: Sequence[TagSpan]) -> np.ndarray:
        """P(span) for each span, float64, (spans,)."""
        if not spans:
            return np.zeros(0)
        start, end, label = np.asarray(spans, dtype=np.int64).T
        begin, inside, last, unit = (1 + 4 * label + position for position in (BEGIN, INSIDE, LAST, UNIT))
        before = np.where(end - start == 2, begin, inside)
        closing = self._transitions[before, last] + self._emissions[end - 1, last] + self._beta[end - 1, last]
        longer = self._alpha[start, begin] + self._inner(start, end - 1, label) + closing
        single = self._alpha[start, unit] + self._beta[start, unit]
        log_p = np.where(end - start == 1, single, longer) - self._log_z[start]
        return np.exp(np.minimum(log_p, 0.0))

    def above(self, threshold: float) -> List[ScoredSpan]:
        """Every span, on the best path or not, whose probability is at least `threshold` (> 0).

        From each token that begins an entity with enough probability the entity is grown for as long as the
        mass of all entities that go on keeps above the threshold, so that the work is bounded by 1 / threshold.
        """
        marginals = np.exp(np.minimum(self._alpha + self._beta - self._log_z[:, None], 0.0))
        found = [
            TagSpan(int(t), int(t) + 1, int(label))
            for t, label in np.argwhere(marginals[:, 1 + UNIT :: 4] >= threshold)
        ]
        for t, label in np.argwhere(marginals[:, 1 + BEGIN :: 4] >= threshold).tolist():
            inside = tagging.tag_id(label, INSIDE)
            for end in range(t + 2, len(self._emissions) + 1):
                found.append(TagSpan(t, end, label))
                goes_on = self._alpha[t, tagging.tag_id(label, BEGIN)] + self._beta[end - 1, inside] - self._log_z[t]
                goes_on += self._inner(np.array([t]), np.array([end]), np.array([label]))[0]
                if np.exp(min(goes_on, 0.0)) < threshold:
                    break
        scores = self.probabilities(found)
        return [ScoredSpan(span, float(p)) for span, p in zip(found, scores) if p >= threshold]


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


def decode(
    crf: _ChainMaths,
    emissions: Tensor,
    lengths: Tensor,
    possible: Tensor,
    threshold: Optional[float] = None,
    temperature: float = 1.0,
) -> List[List[ScoredSpan]]:
    """Entities of a batch of sequences.

    emissions (Tensor): float32, (batch, time, tags).
    lengths (Tensor): int64 on the CPU, (batch,), each >= 1.
    possible (Tensor): bool, (batch, time, tags).
    threshold (Optional[float]): None gives the entities of the best path. A number gives every span that is
        at least as probable, without overlaps: it leaves out the doubtful ones of the best path and, set
        low, adds others from off it.
    temperature (float): Divides all scores before probabilities are taken; the best path does not depend on it.
    RETURNS (List[List[ScoredSpan]]): For each sequence, in order of their start.
    """
    with torch.no_grad():
        scores = crf.forward_backward(emissions, lengths, possible, temperature)
        alpha = (scores.alpha.double() + scores.alpha_offset[..., None]).cpu().numpy()
        beta = (scores.beta.double() + scores.beta_offset[..., None]).cpu().numpy()
        free = emissions.masked_fill(~possible, FORBIDDEN)
        paths = None
        if threshold is None:
            paths = crf.best_paths(emissions, lengths, possible).cpu().numpy()
        tempered = (free / temperature).cpu().numpy()
        transitions = (crf.scores(len(emissions)).transitions / temperature).cpu().numpy()
    decoded = []
    for i, n in enumerate(lengths.tolist()):
        own = transitions[i if len(transitions) > 1 else 0]
        marginals = SpanMarginals(tempered[i, :n], own, alpha[i, :n], beta[i, :n])
        if paths is None:
            assert threshold is not None
            decoded.append(without_overlaps(marginals.above(threshold)))
        else:
            spans = tagging.tags_to_spans(paths[i, :n])
            decoded.append([ScoredSpan(s, float(p)) for s, p in zip(spans, marginals.probabilities(spans))])
    return decoded


def pad(rows: Sequence[Tensor]) -> Tuple[Tensor, Tensor]:
    """Stack sequences of different length. RETURNS: (batch, longest, ...) and lengths, int64 on the CPU."""
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True), lengths
