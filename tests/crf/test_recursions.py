"""Everything that a chain can be asked, against enumeration, finite differences and itself."""

import warnings
from typing import Iterator, List, Tuple

import pytest
import torch
from torchcrf import CRF

from spacy_crf_ner.crf import log_domain, paths, recursions, scans, schedule
from spacy_crf_ner.crf.chain import LinearChainCRF
from spacy_crf_ner.crf.recursions import (
    FORBIDDEN,
    Chain,
    entropy,
    expected_sum,
    forward_backward,
    log_normalizer,
    log_token_probability,
    n_best,
    path_score,
    per_token,
    token_marginals,
    viterbi,
)

from . import brute

LENGTHS = torch.tensor([3, 3, 1, 1, 6, 6])
TIME = 6
KINDS = [(2, 1, 0.0), (5, 1, 0.0), (5, 1, 0.4), (3, 2, 0.3)]


def random_chain(n_tags: int, chains: int = 1, forbid: float = 0.0) -> Chain:
    transitions = torch.randn(chains, n_tags, n_tags, dtype=torch.float64)
    start, end = torch.randn(chains, n_tags, dtype=torch.float64), torch.randn(chains, n_tags, dtype=torch.float64)
    if forbid:
        # tag 0 stays free, so that a legal sequence is left
        blocked = torch.rand(transitions.shape) < forbid
        blocked[:, 0] = False
        blocked[:, :, 0] = False
        transitions = transitions.masked_fill(blocked, FORBIDDEN)
        start[:, 2], end[:, 1] = FORBIDDEN, FORBIDDEN
    return Chain(transitions, start, end)


def random_emissions(n_tags: int) -> torch.Tensor:
    """Of the shape that LENGTHS tells, with a tag that cannot be."""
    emissions = torch.randn(len(LENGTHS), TIME, n_tags, dtype=torch.float64)
    emissions[1, 2, 1] = emissions[4, 3, 1] = FORBIDDEN
    return emissions


def single(chain: Chain, dtype: torch.dtype = torch.float32) -> Chain:
    return Chain(*(part.to(dtype) for part in chain))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_single_tokens_have_the_scores_that_all_have(kind: Tuple[int, int, float], dtype: torch.dtype) -> None:
    chain, emissions = single(random_chain(*kind), dtype), random_emissions(kind[0]).to(dtype)
    every = forward_backward(emissions, chain, LENGTHS)
    asked = per_token(emissions, chain, LENGTHS)
    row, token, tag = torch.nonzero(every.log_marginals().exp() > 1e-3).T
    inside = token < LENGTHS[row]
    row, token, tag = row[inside], token[inside], tag[inside]
    assert set(row.tolist()) == set(range(len(LENGTHS)))
    offset_left, offset_right = asked.offsets()
    rounding = {"rtol": 0, "atol": 1e-4 if dtype == torch.float32 else 1e-10}
    for offset, whole in ((offset_left, every.alpha_offset), (offset_right, every.beta_offset)):
        torch.testing.assert_close(offset, whole, **rounding)
    torch.testing.assert_close(asked.log_left(row, token, tag), every.alpha[row, token, tag].double(), **rounding)
    torch.testing.assert_close(asked.log_right(row, token, tag), every.beta[row, token, tag].double(), **rounding)
    log_z = asked.log_mass(row, token) + offset_left[row, token] + offset_right[row, token]
    torch.testing.assert_close(log_z, every.log_z[row], **rounding)
    expected = every.log_marginals()[row, token, tag].exp()
    torch.testing.assert_close(asked.marginals()[row, token, tag], expected, **rounding)


@pytest.mark.parametrize("kind", KINDS)
def test_everything_agrees_with_enumeration(kind: Tuple[int, int, float]) -> None:
    chain, emissions = random_chain(*kind), random_emissions(kind[0])
    z = log_normalizer(emissions, chain, LENGTHS)
    scores = forward_backward(emissions, chain, LENGTHS)
    p = token_marginals(emissions, chain, LENGTHS)
    h = entropy(emissions, chain, LENGTHS)
    paths = viterbi(emissions, chain, LENGTHS)
    for i, n in enumerate(LENGTHS.tolist()):
        own, part = emissions[i, :n], brute.part(chain, i)
        torch.testing.assert_close(z[i], brute.log_z(own, part), rtol=0, atol=1e-10)
        torch.testing.assert_close(scores.log_z[i], brute.log_z(own, part), rtol=0, atol=1e-10)
        expected = brute.marginals(own, part)
        torch.testing.assert_close(scores.log_marginals()[i, :n].exp(), expected, rtol=0, atol=1e-10)
        torch.testing.assert_close(p[i, :n], expected, rtol=0, atol=1e-10)
        torch.testing.assert_close(h[i], brute.entropy(own, part), rtol=0, atol=1e-10)
        assert paths[i, :n].tolist() == brute.best(own, part)
        assert (paths[i, n:] == 0).all()
        assert (p[i, n:] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 3, 20])
def test_the_n_best_are_the_first_of_all(kind: Tuple[int, int, float], n: int) -> None:
    chain, emissions = random_chain(*kind), random_emissions(kind[0])
    tags, log_p = n_best(emissions, chain, LENGTHS, n)
    for i, length in enumerate(LENGTHS.tolist()):
        ranked = brute.ranked(emissions[i, :length], brute.part(chain, i))
        expected = list(ranked.items())[:n]
        assert [tuple(path) for path in tags[i, : len(expected), :length].tolist()] == [path for path, _ in expected]
        assert log_p[i, : len(expected)].tolist() == pytest.approx([p for _, p in expected], abs=1e-9)
        assert (log_p[i, len(expected) :] == -torch.inf).all()


def wanted_tags(n_tags: int) -> torch.Tensor:
    wanted = torch.rand(len(LENGTHS), TIME, n_tags) < 0.5
    wanted[..., 0] = True
    return wanted


@pytest.mark.parametrize("kind", KINDS)
def test_token_probabilities_agree_with_enumeration(kind: Tuple[int, int, float]) -> None:
    chain, emissions, wanted = random_chain(*kind), random_emissions(kind[0]), wanted_tags(kind[0])
    found = log_token_probability(emissions, chain, LENGTHS, wanted)
    for i, n in enumerate(LENGTHS.tolist()):
        expected = (brute.marginals(emissions[i, :n], brute.part(chain, i)) * wanted[i, :n]).sum(-1).log()
        torch.testing.assert_close(found[i, :n], expected, rtol=0, atol=1e-10)
        assert (found[i, n:] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_expected_sums_agree_with_enumeration(kind: Tuple[int, int, float]) -> None:
    chain, emissions = random_chain(*kind), random_emissions(kind[0])
    values = torch.randn_like(emissions)
    found = expected_sum(emissions, chain, LENGTHS, values)
    for i, n in enumerate(LENGTHS.tolist()):
        expected = (brute.marginals(emissions[i, :n], brute.part(chain, i)) * values[i, :n]).sum()
        torch.testing.assert_close(found[i], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "question", ["log_normalizer", "log_token_probability", "expected_sum", "log_domain", "expected_sum, log_domain"]
)
@pytest.mark.parametrize("chains", [1, 2])
def test_gradients_are_those_of_finite_differences(question: str, chains: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if "log_domain" in question:
        careful_only(monkeypatch)
    chain = random_chain(3, chains, 0.3)
    legal = [part > FORBIDDEN / 2 for part in chain]
    emissions = torch.randn(len(LENGTHS), TIME, 3, dtype=torch.float64, requires_grad=True)
    wanted = wanted_tags(3)

    def function(emissions: torch.Tensor, *parts: torch.Tensor) -> torch.Tensor:
        masked = Chain(*(part.masked_fill(~ok, FORBIDDEN) for part, ok in zip(parts, legal)))
        if question == "log_token_probability":
            return log_token_probability(emissions, masked, LENGTHS, wanted)
        if "expected_sum" in question:
            # the values move with the emissions, as in a divergence
            return expected_sum(emissions, masked, LENGTHS, emissions.sin())
        return log_normalizer(emissions, masked, LENGTHS)

    # a forbidden score takes no step, or the differences would be 1e30
    free = [part.detach().masked_fill(~ok, 0.0).requires_grad_() for part, ok in zip(chain, legal)]
    assert torch.autograd.gradcheck(function, (emissions, *free))


def careful_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Distrust everything fast, so that all goes by the log domain."""
    nothing = {dtype: digits._replace(slack=-1.0) for dtype, digits in scans.DIGITS.items()}
    monkeypatch.setattr(scans, "DIGITS", nothing)


@pytest.mark.parametrize("kind", KINDS)
def test_the_careful_way_gives_the_same(kind: Tuple[int, int, float], monkeypatch: pytest.MonkeyPatch) -> None:
    chain, emissions, wanted = random_chain(*kind), random_emissions(kind[0]), wanted_tags(kind[0])
    answers = []
    for _ in range(2):
        leaves = [x.clone().requires_grad_() for x in (emissions.float(), *chain)]
        own = Chain(*leaves[1:])
        z = log_normalizer(leaves[0], own, LENGTHS)
        p = log_token_probability(leaves[0], own, LENGTHS, wanted)
        mean = expected_sum(leaves[0], own, LENGTHS, wanted * leaves[0])
        (z.sum() + 0.1 * p.sum() + 0.1 * mean.sum()).backward()
        scores = forward_backward(emissions, chain, LENGTHS)
        answers.append(
            [
                z.detach(), p.detach(), mean.detach(), *(leaf.grad for leaf in leaves), scores.log_marginals().exp(),
                token_marginals(emissions, chain, LENGTHS), entropy(emissions, chain, LENGTHS),
            ]
        )  # fmt: skip
        careful_only(monkeypatch)
    for fast, careful in zip(*answers):
        torch.testing.assert_close(fast, careful, rtol=1e-5, atol=1e-5)


def test_path_score_reads_each_sequence_to_its_end() -> None:
    chain, emissions = random_chain(3, 2), torch.randn(6, TIME, 3, dtype=torch.float64)
    tags = torch.randint(0, 3, (6, TIME))
    scores = path_score(emissions, chain, tags, LENGTHS)
    for i, n in enumerate(LENGTHS.tolist()):
        every = dict(brute.sequences(emissions[i, :n], brute.part(chain, i)))
        torch.testing.assert_close(scores[i], every[tuple(tags[i, :n].tolist())])


def test_float32_gives_what_float64_does_under_constraints() -> None:
    """The floor under messages must not meet the score that forbids."""
    chain = Chain(*(part.detach() for part in LinearChainCRF.biluo(2).scores()))
    exact = single(chain, torch.float64)
    for size in (1, 10):
        emissions = size * torch.randn(4, 8, 9)
        lengths = torch.tensor([8, 6, 2, 1])
        emissions[0, 3, 2] = FORBIDDEN
        there = entropy(emissions.double(), exact, lengths)
        torch.testing.assert_close(entropy(emissions, chain, lengths), there, rtol=0, atol=1e-4)
        leaves = [part.clone().requires_grad_() for part in chain]
        log_normalizer(emissions, Chain(*leaves), lengths).sum().backward()
        for leaf, part in zip(leaves, chain):
            assert (leaf.grad[part < FORBIDDEN / 2] == 0).all()


@pytest.mark.parametrize(("behind", "dear"), [(45.0, 100.0), (35.0, 90.0), (30.0, 85.0), (10.0, 60.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_rare_tag_is_not_as_likely_as_the_floor(behind: float, dear: float, dtype: torch.dtype) -> None:
    # all that the floor adds is little beside all paths, but much beside the tag that is asked for
    chain = Chain(torch.zeros(1, 2, 2, dtype=dtype), torch.zeros(1, 2, dtype=dtype), torch.zeros(1, 2, dtype=dtype))
    chain.transitions[0, :, 1] = chain.start[0, 1] = -dear
    chain.transitions.requires_grad_()
    emissions = torch.zeros(1, 3, 2, dtype=dtype)
    emissions[0, 1, 0] = -behind
    wanted = torch.zeros(1, 3, 2, dtype=torch.bool)
    wanted[..., 1] = True
    lengths = torch.tensor([3])
    expected = brute.marginals(emissions[0].double(), single(chain, torch.float64))[:, 1].log()
    found = log_token_probability(emissions, chain, lengths, wanted)
    torch.testing.assert_close(found[0], expected, rtol=0, atol=1e-3)
    (found_grad,) = torch.autograd.grad(found.sum(), chain.transitions)
    (expected_grad,) = torch.autograd.grad(expected.sum(), chain.transitions)
    torch.testing.assert_close(found_grad, expected_grad, rtol=0, atol=1e-3)


def test_padding_may_hold_anything() -> None:
    chain, emissions = single(random_chain(5)), torch.randn(6, TIME + 3, 5)
    clean = emissions.clone().requires_grad_()
    dirty = emissions.clone()
    dirty[~recursions.token_mask(emissions, LENGTHS)] = torch.nan
    dirty.requires_grad_()
    answers = []
    for leaf in (clean, dirty):
        z = log_normalizer(leaf, chain, LENGTHS)
        z.sum().backward()
        tags = viterbi(leaf, chain, LENGTHS)
        score = path_score(leaf.detach(), chain, tags, LENGTHS)
        answers.append([z.detach(), leaf.grad, tags, score, token_marginals(leaf, chain, LENGTHS)])
    for a, b in zip(*answers):
        assert torch.equal(a, b)


def test_what_has_no_legal_sequence_is_named() -> None:
    chain = single(random_chain(3))
    emissions = torch.randn(2, 4, 3)
    emissions[1, 2] = FORBIDDEN
    with pytest.raises(ValueError, match="Sequence 1 of the batch has no legal"):
        log_normalizer(emissions, chain, torch.tensor([4, 4]))
    with pytest.raises(ValueError, match="no sequence"):
        token_marginals(emissions[:0], chain, torch.tensor([], dtype=torch.int64))


# Length


LONG = torch.tensor([700, 33, 500, 96, 97, 1])


def from_log_domain(emissions: torch.Tensor, chain: Chain, lengths: torch.Tensor) -> List[torch.Tensor]:
    scores = log_domain.forward_backward(emissions, chain, lengths)
    inside = recursions.token_mask(emissions, lengths)
    return [scores.log_z, scores.log_marginals().exp() * inside[..., None]]


def as_one(emissions: torch.Tensor, chain: Chain, lengths: torch.Tensor) -> torch.Tensor:
    """Viterbi without pieces."""
    whole = [
        paths.best_paths(emissions[i : i + 1, :n], brute.part(chain, i), lengths[i : i + 1])
        for i, n in enumerate(lengths.tolist())
    ]
    return torch.nn.utils.rnn.pad_sequence([path[0] for path in whole], batch_first=True)


@pytest.fixture(params=[(32, 16), (32, 1), (4, 2)])
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sequences are cut, however little it pays."""
    size, warm_up = request.param
    monkeypatch.setattr(schedule, "WARM_UP", warm_up)
    whole = schedule.cut_pieces
    monkeypatch.setattr(schedule.Schedule, "cut", lambda self, step, token: whole(self.lengths, size))


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("kind", [(5, 1, 0.3), (4, 2, 0.3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pieces_make_one_sequence(kind: Tuple[int, int, float], dtype: torch.dtype) -> None:
    chains = kind[1]
    chain = single(random_chain(*kind), dtype)
    lengths = LONG.repeat_interleave(chains)
    emissions = 2 * torch.randn(len(lengths), 700, kind[0], dtype=dtype)
    exact = [Chain(*(part.double() for part in chain)), emissions.double()]
    z, p = from_log_domain(exact[1], exact[0], lengths)
    tight = 1e-9 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(log_normalizer(emissions, chain, lengths), z, rtol=tight, atol=tight)
    torch.testing.assert_close(token_marginals(emissions, chain, lengths).double(), p, rtol=0, atol=10 * tight)
    scores = [
        path_score(exact[1], exact[0], tags, lengths)
        for tags in (viterbi(emissions, chain, lengths), as_one(exact[1], exact[0], lengths))
    ]
    torch.testing.assert_close(*scores, rtol=0, atol=1e-3 if dtype == torch.float32 else 1e-8)


@pytest.mark.usefixtures("pieces")
def test_pieces_of_a_chain_that_never_forgets() -> None:
    # two tags between which nothing moves: the first token decides the whole sequence, 200 nats ahead of the middle
    chain = Chain(torch.zeros(1, 2, 2), torch.zeros(1, 2), torch.zeros(1, 2))
    chain.transitions[0] = torch.tensor([[0.0, FORBIDDEN], [FORBIDDEN, 0.0]])
    lengths = torch.tensor([200, 150])
    emissions = torch.zeros(2, 200, 2)
    emissions[0, 0, 1], emissions[0, 100, 0] = 3.0, 2.0
    emissions[1, 149, 0] = 1.0
    assert viterbi(emissions, chain, lengths).tolist() == [[1] * 200, [0] * 200]
    p = token_marginals(emissions, chain, lengths)
    one, two = torch.sigmoid(torch.tensor([1.0, 1.0]))
    torch.testing.assert_close(p[0, :, 1], one.expand(200), rtol=0, atol=1e-5)
    torch.testing.assert_close(p[1, :150, 0], two.expand(150), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_small_differences_between_pieces_do_not_add_up(dtype: torch.dtype) -> None:
    # each piece is off by less than what passes for the same, always to the same side: 1e-3 together in float32
    chain = Chain(torch.zeros(1, 2, 2, dtype=dtype), torch.zeros(1, 2, dtype=dtype), torch.zeros(1, 2, dtype=dtype))
    for stays in (FORBIDDEN, -12.0):
        chain.transitions[0] = torch.tensor([[0.0, stays], [stays, 0.0]])
        emissions = torch.zeros(1, 4096, 2, dtype=dtype)
        emissions[0, 5::32, 0] = 0.9 * schedule.DIGITS[dtype].same
        lengths = torch.tensor([4096])
        z, p = from_log_domain(emissions.double(), single(chain, torch.float64), lengths)
        torch.testing.assert_close(log_normalizer(emissions, chain, lengths), z, rtol=0, atol=1e-4)
        torch.testing.assert_close(token_marginals(emissions, chain, lengths).double(), p, rtol=0, atol=1e-4)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_viterbi_keeps_its_digits_over_large_emissions(offset: float) -> None:
    chain = Chain(0.1 * torch.randn(1, 17, 17), torch.zeros(1, 17), torch.zeros(1, 17))
    lengths = torch.tensor([4096])
    emissions = offset + torch.randn(1, 4096, 17) if offset else 1e4 * torch.sign(torch.randn(1, 4096, 17))
    exact = single(chain, torch.float64)
    best = viterbi(emissions.double(), exact, lengths)
    found = viterbi(emissions, chain, lengths)
    scores = [path_score(emissions.double(), exact, tags, lengths) for tags in (best, found)]
    torch.testing.assert_close(*scores, rtol=0, atol=1e-2 if offset else 1e-4)


def test_a_chain_that_never_forgets_is_not_run_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = Chain(torch.full((1, 2, 2), FORBIDDEN), torch.tensor([[0.0, 1.0]]), torch.zeros(1, 2))
    chain.transitions[0].fill_diagonal_(0.0)
    worked = 0
    steps = schedule.steps

    def counting(live: List[int], groups: int, *packed: torch.Tensor) -> Iterator[Tuple]:
        nonlocal worked
        worked += len(packed[0])
        return steps(live, groups, *packed)

    for room in (scans, paths):
        monkeypatch.setattr(room, "steps", counting)
    lengths = torch.tensor([6400])
    emissions = torch.zeros(1, 6400, 2)
    assert viterbi(emissions, chain, lengths).tolist() == [[1] * 6400]
    token_marginals(emissions, chain, lengths)
    # both directions of the sums, the maxima and the way back, each worked a few times at most
    assert worked < 10 * 4 * 6400


def test_what_is_cut_is_all_there_once() -> None:
    found = schedule.cut_pieces(LONG, 32)
    tokens = [
        (int(d), t) for d, start, n in zip(*found[:3]) for t in range(int(start), int(start + n))
    ]  # fmt: skip
    assert sorted(tokens) == [(i, t) for i, n in enumerate(LONG.tolist()) for t in range(n)]
    assert (found.size[:-1] >= found.size[1:]).all()
    for i, after in enumerate(found.following.tolist()):
        end = int(found.start[i] + found.size[i])
        if after < 0:
            assert end == LONG[found.document[i]]
        else:
            assert (found.document[after], found.start[after]) == (found.document[i], end)


def test_ten_thousand_tokens_in_float32_agree_with_float64() -> None:
    exact = random_chain(5, forbid=0.3)
    chain = Chain(*(part.float().requires_grad_() for part in exact))
    emissions = (3 * torch.randn(2, 10_000, 5)).requires_grad_()
    lengths = torch.tensor([10_000, 9_000])
    log_normalizer(emissions, chain, lengths).sum().backward()
    marginals = emissions.grad
    assert (marginals[0].sum(-1) - 1).abs().max() < 1e-5
    assert (marginals[1].sum(-1) - (torch.arange(10_000) < 9_000).float()).abs().max() < 1e-5
    assert float(chain.transitions.grad.double().sum()) == pytest.approx(18_998, rel=1e-5)
    reference = token_marginals(emissions.detach().double(), exact, lengths)
    torch.testing.assert_close(marginals.double(), reference, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_a_hundred_thousand_tokens_are_as_in_the_log_domain() -> None:
    crf = LinearChainCRF.biluo(4)
    emissions = (3 * torch.randn(1, 100_000, 17)).requires_grad_()
    lengths = torch.tensor([100_000])
    chain = Chain(*(part.detach().double() for part in crf.scores()))
    z, p = from_log_domain(emissions.detach().double(), chain, lengths)
    ours = log_normalizer(emissions, crf.scores(), lengths)
    ours.sum().backward()
    torch.testing.assert_close(ours.detach(), z, rtol=1e-7, atol=0)
    torch.testing.assert_close(emissions.grad.double(), p, rtol=0, atol=1e-4)
    torch.testing.assert_close(crf.token_marginals(emissions.detach(), lengths).double(), p, rtol=0, atol=1e-4)
    path = crf.best_paths(emissions.detach(), lengths)
    best, _ = log_domain.n_best(emissions.detach().double(), chain, lengths, 1)
    scores = [path_score(emissions.detach().double(), chain, tags, lengths) for tags in (path, best[:, 0])]
    torch.testing.assert_close(*scores, rtol=1e-9, atol=0)


# Extremes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_legal_path_far_behind_an_illegal_one_is_found_and_scored(dtype: torch.dtype) -> None:
    # tag 1 wins by 200 nats a token, but only 0 -> 0 is legal
    chain = single(random_chain(2), dtype)
    chain.transitions[0] = torch.tensor([[0.0, FORBIDDEN], [FORBIDDEN, FORBIDDEN]])
    emissions = torch.tensor([[0.0, 200.0]], dtype=dtype).repeat(6, 1)[None].requires_grad_()
    lengths = torch.tensor([6])
    assert viterbi(emissions, chain, lengths).tolist() == [[0] * 6]
    score = path_score(emissions.detach(), chain, torch.zeros(1, 6, dtype=torch.int64), lengths)
    z = log_normalizer(emissions, chain, lengths)
    torch.testing.assert_close(z.detach(), score)
    z.sum().backward()
    torch.testing.assert_close(emissions.grad[0, :, 0], torch.ones(6, dtype=dtype))


def test_what_is_lost_on_both_ways_is_not_lost() -> None:
    """Forward, the right path is 1e-39 behind at token 1; backward, 1e-40 behind at token 3; what leads at either
    is worth 1e-100 in the end. Each message alone looks healthy."""
    n = torch.log(torch.tensor(10.0)).item()
    chain = Chain(torch.full((1, 3, 3), FORBIDDEN), torch.zeros(1, 3), torch.zeros(1, 3))
    moves = chain.transitions[0]
    moves[0, 0] = 0.0  # the right path
    moves[1, 2] = -50 * n
    moves[2, 2] = -50 * n
    emissions = torch.zeros(1, 5, 3)
    emissions[0, 0] = torch.tensor([-39 * n, 0.0, -200 * n])
    emissions[0, 4] = torch.tensor([-40 * n, -200 * n, 0.0])
    lengths = torch.tensor([5])
    expected = brute.log_z(emissions[0].double(), Chain(*(part.double() for part in chain)))
    found = log_normalizer(emissions, chain, lengths)
    torch.testing.assert_close(found[0], expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(token_marginals(emissions, chain, lengths)[0, :, 0], torch.ones(5), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [0.0, 40.0, 400.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_equal_and_extreme_emissions_stay_finite_and_right(size: float, dtype: torch.dtype) -> None:
    chain = random_chain(3, forbid=0.3)
    emissions = (size * torch.sign(torch.randn(3, 5, 3))).to(dtype).requires_grad_()
    lengths = torch.tensor([5, 4, 1])
    wanted = torch.zeros(3, 5, 3, dtype=torch.bool)
    wanted[..., 0] = True
    z = log_normalizer(emissions, chain, lengths)
    p = log_token_probability(emissions, chain, lengths, wanted)
    (z.sum() + p.sum()).backward()
    assert torch.isfinite(emissions.grad).all()
    paths = viterbi(emissions, chain, lengths)
    loose = 1e-5 if dtype == torch.float64 else 1e-3
    for i, n in enumerate(lengths.tolist()):
        own = emissions[i, :n].detach().double()
        torch.testing.assert_close(z[i].detach(), brute.log_z(own, chain), rtol=1e-6, atol=1e-5)
        scores = dict(brute.sequences(own, chain))
        assert float(scores[tuple(paths[i, :n].tolist())]) == pytest.approx(float(max(scores.values())))
        marginals = token_marginals(emissions, chain, lengths)[i, :n].double()
        torch.testing.assert_close(marginals, brute.marginals(own, chain), rtol=0, atol=loose)


def test_gold_that_is_as_good_as_impossible_has_its_true_log_probability() -> None:
    crf = LinearChainCRF(2)
    torch.nn.init.zeros_(crf.transitions)
    torch.nn.init.zeros_(crf.start_transitions)
    torch.nn.init.zeros_(crf.end_transitions)
    lengths, wanted = torch.tensor([3]), torch.tensor([[[True, False]] * 3])
    for behind in (20.0, 60.0, 900.0):
        emissions = torch.tensor([[[0.0, behind]] * 3], requires_grad=True)
        found = crf.log_token_probability(emissions, lengths, wanted)
        torch.testing.assert_close(found.detach(), torch.full((1, 3), -behind, dtype=torch.float64))
        found.sum().backward()
        torch.testing.assert_close(emissions.grad[..., 0], torch.ones(1, 3), rtol=0, atol=1e-4)


def test_autocast_has_no_part_in_it() -> None:
    chain, emissions = single(random_chain(5)), torch.randn(6, TIME, 5)
    plain = [log_normalizer(emissions, chain, LENGTHS), token_marginals(emissions, chain, LENGTHS)]
    with torch.autocast("cpu", torch.bfloat16):
        cast = [log_normalizer(emissions, chain, LENGTHS), token_marginals(emissions, chain, LENGTHS)]
    for a, b in zip(plain, cast):
        assert torch.equal(a, b)


def test_half_a_thousand_tokens_agree_with_pytorch_crf() -> None:
    # theirs in float64: in float32 its gradients are off by 3e-4 at this length
    theirs, ours = CRF(17, batch_first=True), LinearChainCRF(17, batch_first=True)
    ours.load_state_dict(theirs.state_dict())
    theirs.double()
    emissions, tags = torch.randn(4, 512, 17), torch.randint(0, 17, (4, 512))
    mask = torch.arange(512) < torch.tensor([512, 511, 77, 1])[:, None]
    answers = []
    for crf in (theirs, ours):
        leaf = emissions.to(crf.transitions.dtype).clone().requires_grad_()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            likelihood = crf(leaf, tags, mask, reduction="none")
        likelihood.sum().backward()
        answers.append([likelihood.detach(), leaf.grad, *(p.grad for p in crf.parameters())])
    for a, b in zip(*answers):
        torch.testing.assert_close(b.double(), a, rtol=1e-4, atol=1e-6)
    assert theirs.decode(emissions.double(), mask) == ours.decode(emissions, mask)


def test_a_batch_gives_what_each_sequence_gives_alone() -> None:
    chain = Chain(*(part.float() for part in random_chain(5)))
    emissions = torch.randn(6, TIME, 5)
    together = log_normalizer(emissions, chain, LENGTHS)
    for i, n in enumerate(LENGTHS.tolist()):
        alone = log_normalizer(emissions[i : i + 1, :n], chain, LENGTHS[i : i + 1])
        torch.testing.assert_close(together[i], alone[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("lengths", [[0, 1], [1, 6], [1]])
def test_wrong_lengths_are_refused(lengths: list) -> None:
    with pytest.raises(ValueError, match=r"[Ll]engths"):
        log_normalizer(torch.zeros(2, 5, 2), random_chain(2), torch.tensor(lengths))


def test_sequences_of_one_document_must_be_of_one_length() -> None:
    with pytest.raises(ValueError, match="one length"):
        log_normalizer(torch.zeros(2, 5, 2), random_chain(2, 2), torch.tensor([5, 4]))
