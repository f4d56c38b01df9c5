import math
from itertools import product
from typing import Optional, Union

import pytest
import torch

from spacy_crf_ner import tagging
from spacy_crf_ner.crf.chain import LinearChainCRF, PerLabelChains
from spacy_crf_ner.crf.confidence import Rules, ScoredSpan, SpanMarginals, buckets, decode, without_overlaps
from spacy_crf_ner.crf.model import TaggerHead
from spacy_crf_ner.crf.recursions import Chain
from spacy_crf_ner.tagging import TagSpan

from . import brute

LENGTHS = torch.tensor([5, 3, 1])


@pytest.fixture
def crf() -> LinearChainCRF:
    torch.manual_seed(3)
    return LinearChainCRF.biluo(1).double()


def setting() -> tuple:
    torch.manual_seed(4)
    emissions = torch.randn(3, 5, 5, dtype=torch.float64)
    possible = torch.ones(3, 5, 5, dtype=torch.bool)
    possible[0, 1, [1, 3, 4]] = False  # white space
    possible[1, 0] = torch.tensor([True, False, False, False, False])  # held outside
    return emissions, possible


def span_probabilities(
    crf: LinearChainCRF, emissions: torch.Tensor, possible: torch.Tensor, temperature: float
) -> dict:
    """P(span) of every span that has any, by enumeration."""
    chain = crf.scores()
    chain = type(chain)(*(part / temperature for part in chain))
    z = brute.log_z(emissions / temperature, chain, possible)
    total: dict = {}
    for tags, score in brute.sequences(emissions / temperature, chain, possible):
        for span in tagging.tags_to_spans(tags):
            total[span] = total.get(span, 0.0) + float((score - z).exp())
    return total


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_best_path_and_its_probabilities_are_those_of_enumeration(crf: LinearChainCRF, temperature: float) -> None:
    emissions, possible = setting()
    decoded = decode(crf, emissions, LENGTHS, possible, Rules(temperature=temperature))
    for i, n in enumerate(LENGTHS.tolist()):
        best = brute.best(emissions[i, :n], crf.scores(), possible[i, :n])
        assert [s.span for s in decoded[i]] == tagging.tags_to_spans(best)
        expected = span_probabilities(crf, emissions[i, :n], possible[i, :n], temperature)
        for span, score in decoded[i]:
            assert score == pytest.approx(expected[span], abs=1e-9)


@pytest.mark.parametrize("threshold", [0.02, 0.2, 0.6])
def test_threshold_gives_the_likeliest_spans_of_all_that_reach_it(crf: LinearChainCRF, threshold: float) -> None:
    emissions, possible = setting()
    decoded = decode(crf, emissions, LENGTHS, possible, Rules(threshold))
    for i, n in enumerate(LENGTHS.tolist()):
        every = span_probabilities(crf, emissions[i, :n], possible[i, :n], 1.0)
        reached = [ScoredSpan(span, p) for span, p in every.items() if p >= threshold]
        assert [s.span for s in decoded[i]] == [s.span for s in without_overlaps(reached)]
        assert [s.score for s in decoded[i]] == pytest.approx([s.score for s in without_overlaps(reached)])


def test_after_independent_training_legal_moves_score_nothing() -> None:
    head = TaggerHead(n_labels=1, width=3, overlap=False, learn_transitions=False).double()
    emissions, possible = setting()
    decoded = decode(head.crf, emissions, LENGTHS, possible)
    for i, n in enumerate(LENGTHS.tolist()):
        scores = {}
        for tags in product(range(5), repeat=n):
            try:
                spans = tagging.tags_to_spans(tags)
            except ValueError:
                continue
            if all(possible[i, t, k] for t, k in enumerate(tags)):
                scores[tuple(spans)] = sum(float(emissions[i, t, k]) for t, k in enumerate(tags))
        total = sum(math.exp(score) for score in scores.values())
        best = max(scores, key=lambda spans: scores[spans])
        assert tuple(s.span for s in decoded[i]) == best
        for span, p in decoded[i]:
            mass = sum(math.exp(score) for spans, score in scores.items() if span in spans)
            assert p == pytest.approx(mass / total)


@pytest.mark.parametrize("crf", [LinearChainCRF.biluo(2).double(), PerLabelChains(2).double()])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("threshold", [None, 0.05, 0.4])
def test_several_labels_are_decoded_as_by_enumeration(
    crf: Union[LinearChainCRF, PerLabelChains], temperature: float, threshold: Optional[float]
) -> None:
    n_chains, n_tags = crf.scores().start.shape
    lengths = torch.tensor([4, 2]).repeat_interleave(n_chains)
    emissions = torch.randn(len(lengths), 4, n_tags, dtype=torch.float64)
    possible = torch.rand(emissions.shape) < 0.8
    possible[..., 0] = True
    decoded = decode(crf, emissions, lengths, possible, Rules(threshold, temperature))
    marginals = SpanMarginals(crf, emissions, lengths, possible, temperature)
    for i, n in enumerate(lengths.tolist()):
        single = Chain(*(part[i % n_chains][None] for part in crf.scores()))
        warm = Chain(*(part / temperature for part in single))
        paths, scores = brute.every(emissions[i, :n] / temperature, warm, possible[i, :n])
        p: dict = {}
        for path, share in zip(paths.tolist(), torch.softmax(scores, 0).tolist()):
            for span in tagging.tags_to_spans(path):
                p[span] = p.get(span, 0.0) + share
        if p:
            found = marginals.probabilities(torch.tensor([[i, *span] for span in p]))
            assert found.tolist() == pytest.approx(list(p.values()), abs=1e-9)
        if threshold is None:
            expected = tagging.tags_to_spans(brute.best(emissions[i, :n], single, possible[i, :n]))
        else:
            reached = [ScoredSpan(span, share) for span, share in p.items() if share >= threshold]
            expected = [s.span for s in without_overlaps(reached)]
        assert [s.span for s in decoded[i]] == expected
        assert [s.score for s in decoded[i]] == pytest.approx([p[s] for s in expected], abs=1e-9)


def test_a_low_threshold_finds_what_is_off_the_best_path() -> None:
    crf = LinearChainCRF.biluo(1)
    torch.nn.init.zeros_(crf.transitions)
    emissions = torch.tensor([[[0.5, -9, -9, -9, 0.0]]])
    possible, lengths = torch.ones(1, 1, 5, dtype=torch.bool), torch.tensor([1])
    assert decode(crf, emissions, lengths, possible) == [[]]
    assert [s.span for s in decode(crf, emissions, lengths, possible, Rules(0.2))[0]] == [TagSpan(0, 1, 0)]


def test_spans_of_a_long_sequence_have_finite_probabilities() -> None:
    crf = LinearChainCRF.biluo(2)
    emissions = torch.zeros(1, 3000, 9)
    emissions[0, 0, 1] = emissions[0, -1, 3] = 50
    emissions[0, 1:-1, 2] = 50
    decoded = decode(crf, emissions, torch.tensor([3000]), torch.ones(1, 3000, 9, dtype=torch.bool))
    assert decoded[0][0].span == TagSpan(0, 3000, 0)
    assert decoded[0][0].score == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_a_forbidden_token_does_not_blur_the_spans_behind_it(temperature: float) -> None:
    crf = LinearChainCRF.biluo(1).double()
    emissions = torch.randn(1, 7, 5, dtype=torch.float64)
    possible = torch.ones(1, 7, 5, dtype=torch.bool)
    possible[0, 0, 2] = possible[0, 1, 2] = False
    expected = span_probabilities(crf, emissions[0], possible[0], temperature)
    found = decode(crf, emissions, torch.tensor([7]), possible, Rules(1e-6, temperature))[0]
    assert found
    for span, score in found:
        assert score == pytest.approx(expected[span], rel=1e-6)
    marginals = SpanMarginals(crf, emissions, torch.tensor([7]), possible, temperature)
    spans = torch.tensor([[0, *span] for span in expected])
    assert marginals.probabilities(spans).tolist() == pytest.approx(list(expected.values()), rel=1e-6)
    assert {tuple(row[1:]) for row in marginals.above(1e-9).tolist()} == {tuple(span) for span in expected}


def test_buckets_hold_everything_once_within_the_budget() -> None:
    lengths = [5, 100, 3, 40, 41, 7, 7, 1]
    groups = buckets(lengths, 80)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or len(group) * max(lengths[i] for i in group) <= 80


@pytest.mark.parametrize("span", [[1, 2, 4, 0], [0, 3, 2, 0], [0, 2, 2, 0], [0, 0, 1, 1], [0, 0, 1, -1], [3, 0, 1, 0]])
def test_spans_that_are_not_there_are_refused(crf: LinearChainCRF, span: list) -> None:
    emissions, possible = setting()
    marginals = SpanMarginals(crf, emissions, LENGTHS, possible)
    with pytest.raises(ValueError, match="not in the batch"):
        marginals.probabilities(torch.tensor([[0, 0, 1, 0], span]))
    assert not marginals.probabilities(torch.tensor([[0, 0, 1, 0]])).requires_grad
    with pytest.raises(ValueError, match="BILUO"):
        SpanMarginals(LinearChainCRF(4), torch.zeros(1, 2, 4), torch.tensor([2]))


def test_a_long_entity_has_in_float32_the_probability_of_float64() -> None:
    crf = LinearChainCRF.biluo(1)
    n = 20_000
    emissions = 2 * torch.randn(1, n, 5)
    emissions[0, :, 2] += 12
    emissions[0, 0, 1] += 12
    emissions[0, -1, 3] += 12
    spans = torch.tensor([[0, 0, n, 0]])
    rough = SpanMarginals(crf, emissions, torch.tensor([n])).probabilities(spans)
    exact = SpanMarginals(crf.double(), emissions.double(), torch.tensor([n])).probabilities(spans)
    assert 0.5 < float(exact) < 0.9999
    assert float(rough) == pytest.approx(float(exact), abs=1e-3)


RULES = [
    Rules(0.3, 1.5, {1: 0.6}),
    Rules(None, 1.0, {0: 0.2}),
    Rules(None, 2.0, {}, {1: 3.0}),
    Rules(0.25, 1.0, {0: 0.4}, {0: 0.4, 1: 2.5}),
]


@pytest.mark.parametrize("crf", [LinearChainCRF.biluo(2).double(), PerLabelChains(2).double()])
@pytest.mark.parametrize("rules", RULES)
def test_rules_of_single_labels_are_those_of_enumeration(
    crf: Union[LinearChainCRF, PerLabelChains], rules: Rules
) -> None:
    n_chains, n_tags = crf.scores().start.shape
    lengths = torch.tensor([5, 4, 3, 2, 5, 4, 5, 5]).repeat_interleave(n_chains)
    emissions = 1.5 * torch.randn(len(lengths), 5, n_tags, dtype=torch.float64)
    decoded = decode(crf, emissions, lengths, None, rules)
    for i, n in enumerate(lengths.tolist()):
        single = Chain(*(part[i % n_chains][None] for part in crf.scores()))
        paths, scores = brute.every(
            emissions[i, :n] / rules.temperature, Chain(*(p / rules.temperature for p in single))
        )
        mass: dict = {}
        for path, share in zip(paths.tolist(), torch.softmax(scores, 0).tolist()):
            for span in tagging.tags_to_spans(path):
                mass[span] = mass.get(span, 0.0) + share
        label = {span: span.label if n_chains == 1 else i % n_chains for span in mass}
        p = {span: share ** rules.label_exponents.get(label[span], 1.0) for span, share in mass.items()}
        best = tagging.tags_to_spans(brute.best(emissions[i, :n], single))
        limits = {which: rules.label_thresholds.get(which, rules.threshold) for which in range(2)}
        lowest = min([limit for limit in limits.values() if limit is not None], default=None)
        pool = [s for s in p if (limits[label[s]] is None and s in best)]
        pool += [s for s in p if lowest is not None and limits[label[s]] is not None and p[s] >= lowest]
        kept = [s.span for s in without_overlaps([ScoredSpan(s, p[s]) for s in pool])] if lowest is not None else best
        expected = [s for s in kept if limits[label[s]] is None or p[s] >= limits[label[s]]]  # type: ignore[operator]
        assert [s.span for s in decoded[i]] == expected
        assert [s.score for s in decoded[i]] == pytest.approx([p[s] for s in expected], abs=1e-9)


def test_a_threshold_only_takes_entities_away() -> None:
    emissions = 2 * torch.randn(40, 6, 9, dtype=torch.float64)
    lengths = torch.full((40,), 6)
    chain = LinearChainCRF.biluo(2).double()
    low = decode(chain, emissions, lengths, None, Rules(0.1))
    for rules in (Rules(0.3), Rules(0.2, 1.0, {1: 0.5}), Rules(0.9, 1.0, {0: 0.1})):
        for few, many in zip(decode(chain, emissions, lengths, None, rules), low):
            limits = [rules.label_thresholds.get(label, rules.threshold) for label in range(2)]
            assert few == [s for s in many if s.score >= limits[s.span.label]]  # type: ignore[operator]


def test_rounding_loses_no_entity_that_reaches_the_threshold() -> None:
    torch.manual_seed(0)
    crf = LinearChainCRF.biluo(2)
    emissions, lengths = 20 * torch.randn(60, 40, 9), torch.full((60,), 40)
    marginals = SpanMarginals(crf, emissions, lengths)
    every = marginals.above(0.5)
    probabilities = marginals.probabilities(every)
    for threshold in (1.0, 1 - 1e-7, 1 - 3e-7, 0.9):
        reach = {tuple(span) for span in every[probabilities >= threshold].tolist()}
        assert len(reach) > 100
        assert {tuple(span) for span in marginals.above(threshold).tolist()} == reach
