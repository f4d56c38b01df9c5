"""What can be asked of a batch of linear chains: normaliser, marginals, best paths, entropy.

Each question is answered by `scans` (products of probabilities, fast) for every sequence where that is
exact, and by `log_domain` (slow, never wrong) for the rest; best paths by `paths`. On a GPU `recursions_triton` does
what `scans` and `paths` do.
Log probabilities and scores come as float64, probabilities in the precision of the emissions (float32 for
anything below); autocast has no part in either. log Z of float32 emissions is good to some 3e-8 of its size.

Shapes: emissions (batch, time, tags); lengths int64 on the CPU, (batch,), each from 1 to time. Sequence i
goes by chain i modulo the number of chains; with several chains the sequences of one document, one a chain,
stand together and are of equal length.
"""

from functools import wraps
from typing import Any, Callable, Tuple, TypeVar, Union

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import log_domain, scans
from .log_domain import FORBIDDEN, Chain, Counts, ForwardBackward, TokenScores, is_forbidden, token_mask
from .paths import best_paths

Answer = TypeVar("Answer")

# Probabilities below this have lost digits.
TINY = {torch.float32: 1e-35, torch.float64: 1e-300}

__all__ = ["FORBIDDEN", "Chain", "Counts", "ForwardBackward", "is_forbidden", "token_mask"]


def check_lengths(emissions: Tensor, chain: Chain, lengths: Tensor) -> None:
    """RAISES (ValueError): No sequence, a length below 1 or above the padded time, or not one length a sequence."""
    if lengths.shape != emissions.shape[:1]:
        raise ValueError(f"{len(emissions)} sequences, but lengths of shape {tuple(lengths.shape)}.")
    if len(lengths) and not 1 <= int(lengths.min()) <= int(lengths.max()) <= emissions.shape[1]:
        raise ValueError(f"Lengths must lie between 1 and {emissions.shape[1]}; got {lengths.tolist()}.")
    if not len(lengths):
        raise ValueError("There is no sequence in the batch.")
    chains = len(chain.transitions)
    if len(lengths) % chains or (lengths.view(-1, chains) != lengths.view(-1, chains)[:, :1]).any():
        raise ValueError(
            f"With {chains} chains a document has {chains} sequences of one length; got lengths {lengths.tolist()}."
        )


def _without_autocast(question: Callable[..., Answer]) -> Callable[..., Answer]:
    """Ask a question about (emissions, ...) in the precision that is ours to choose."""

    @wraps(question)
    def ask(emissions: Tensor, *args: Any, **kwargs: Any) -> Answer:
        with torch.autocast(emissions.device.type, enabled=False):
            return question(emissions, *args, **kwargs)

    return ask


class _Solved:
    """A batch whose messages are known.

    In the precision of the emissions first, for the documents that need it again in float64, and for those
    that this does not suffice in the log domain.

    hard (Tensor): The sequences that were worked with more care, (sequences,).
    """

    def __init__(self, emissions: Tensor, chain: Chain, lengths: Tensor) -> None:
        self._emissions, self._chain = working(emissions.detach()), Chain(*(part.detach() for part in chain))
        self.inside = token_mask(emissions, lengths)
        self.fast = scans.messages(self._emissions, self._chain, lengths)
        self.log_z = self.fast.log_z
        self.hard = documents_of(~self.fast.safe, len(chain.transitions))
        self._rest: Union[_Solved, _Careful]
        if len(self.hard):
            kind = _Careful if self._emissions.dtype == torch.float64 else _Solved
            self._rest = kind(self._emissions[self.hard].double(), self._chain, lengths[self.hard.cpu()])
            self.log_z = self.log_z.index_put((self.hard,), self._rest.log_z)

    def check_legal(self) -> "_Solved":
        """RAISES (ValueError): A sequence of the batch has no legal sequence of tags."""
        none = torch.nonzero(is_forbidden(self.log_z))[:, 0]
        if len(none):
            raise ValueError(
                f"Sequence {int(none[0])} of the batch has no legal sequence of tags: what its tokens may have and the "
                "legal moves leave none."
            )
        return self

    def marginals(self) -> Tensor:
        """P(tag at token), (batch, time, tags), 0 where padded."""
        found = self.fast.marginals()
        if len(self.hard):
            found[self.hard] = self._rest.marginals().to(found)
        return found

    def expected_counts(self, weight: Tensor) -> Counts:
        """Expected counts of every score, weighted by sequence: the gradient of sum(weight * log Z)."""
        counts = self.fast.expected_counts(weight.index_fill(0, self.hard, 0.0))
        if len(self.hard):
            rest = self._rest.expected_counts(weight[self.hard])
            counts.emissions[self.hard] = rest.emissions.to(counts.emissions)
            for total, part in zip(counts[1:], rest[1:]):
                total += part.to(total)
        return counts

    def expected_score(self) -> Tensor:
        """Mean score of a sequence, (batch,)."""
        expected = self.fast.expected_score(self._emissions, self._chain)
        if len(self.hard):
            expected = expected.index_put((self.hard,), self._rest.expected_score())
        return expected

    def per_token(self) -> TokenScores:
        """What can be asked of single tokens."""
        return self.log_scores() if len(self.hard) else self.fast

    def log_scores(self) -> ForwardBackward:
        """Forward and backward scores of every token."""
        scores = self.fast.log_scores()
        if len(self.hard):
            for whole, part in zip(scores, self._rest.log_scores()):
                whole[self.hard] = part.to(whole)
        return scores


class _Careful:
    """A batch worked in the log domain; the same questions as `_Solved` answers. All in float64."""

    def __init__(self, emissions: Tensor, chain: Chain, lengths: Tensor) -> None:
        rows = torch.arange(len(emissions), device=emissions.device)
        own = Chain(*(part.double() for part in chain.of_rows(rows)))
        self._inside, self._chains = token_mask(emissions, lengths), len(chain.transitions)
        self._batch = (emissions, own, lengths)
        self._scores = log_domain.forward_backward(*self._batch)
        self.log_z = self._scores.log_z

    def marginals(self) -> Tensor:
        return self._scores.log_marginals().exp() * self._inside[..., None]

    def expected_counts(self, weight: Tensor) -> Counts:
        counts = log_domain.expected_counts(self._scores, *self._batch, weight.double())
        folded = (part.view(-1, self._chains, *part.shape[1:]).sum(0) for part in counts[1:])
        return Counts(counts.emissions, *folded)

    def expected_score(self) -> Tensor:
        return log_domain.expected_score(self._scores, *self._batch)

    def log_scores(self) -> ForwardBackward:
        return self._scores


class _LogNormalizer(torch.autograd.Function):
    """log Z with its analytic gradient: d log Z / d score is the expected count of what the score is for."""

    @staticmethod
    def forward(ctx, emissions, transitions, start, end, lengths):  # type: ignore[no-untyped-def, override]
        ctx.solved = _Solved(emissions, Chain(transitions, start, end), lengths).check_legal()
        ctx.dtypes = [x.dtype for x in (emissions, transitions, start, end)]
        return ctx.solved.log_z

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx, weight):  # type: ignore[no-untyped-def, override]
        counts = ctx.solved.expected_counts(weight)
        return (*(count.to(dtype) for count, dtype in zip(counts, ctx.dtypes)), None)


@_without_autocast
def log_normalizer(emissions: Tensor, chain: Chain, lengths: Tensor) -> Tensor:
    """Log-partition function of a batch of linear chains.

    emissions (Tensor): Unnormalised scores, (batch, time, tags).
    chain (Chain): Move scores.
    lengths (Tensor): Tokens in each sequence, int64 on the CPU, (batch,), each >= 1.
    RETURNS (Tensor): log Z in nats, float64, (batch,), with an analytic gradient (no second derivative).
    RAISES (ValueError): A length is below 1 or larger than time, or a sequence has no legal tags at all.

    Forward–backward (Rabiner 1989, section III.A).
    """
    check_lengths(emissions, chain, lengths)
    return _LogNormalizer.apply(emissions, *chain, lengths)  # type: ignore[no-untyped-call]


class _LogTokenProbability(torch.autograd.Function):
    """log P(one of some tags at each token), with its analytic gradient."""

    @staticmethod
    def forward(ctx, emissions, transitions, start, end, lengths, wanted, solved):  # type: ignore[no-untyped-def, override]
        ctx.solved, ctx.wanted = solved, wanted
        ctx.dtypes = [x.dtype for x in (emissions, transitions, start, end)]
        ctx.mass = (solved.fast.marginals() * wanted).sum(-1).double()
        return torch.where(solved.inside, ctx.mass.log(), 0.0)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx, weight):  # type: ignore[no-untyped-def, override]
        counts = weight * ctx.solved.inside != 0
        direction = torch.where(counts, weight / ctx.mass, 0.0)[..., None] * ctx.wanted
        slope = ctx.solved.fast.marginal_slope(direction.to(ctx.solved.fast.local))
        return (*(part.to(dtype) for part, dtype in zip(slope, ctx.dtypes)), None, None, None)


@_without_autocast
def log_token_probability(emissions: Tensor, chain: Chain, lengths: Tensor, wanted: Tensor) -> Tensor:
    """log P(tag at t is one of the wanted) under the chain.

    wanted (Tensor): bool, (batch, time, tags). The other parameters and errors are those of `log_normalizer`.
    RETURNS (Tensor): nats, float64, (batch, time), 0 where padded, with an analytic gradient: the derivative of
        expected counts is that of the messages along a direction, which takes one more run of them.
    """
    check_lengths(emissions, chain, lengths)
    solved = _Solved(emissions, chain, lengths).check_legal()
    found = _LogTokenProbability.apply(emissions, *chain, lengths, wanted, solved)  # type: ignore[no-untyped-call]
    # what is as good as impossible is known only as such
    trusted = torch.clamp_min(1e5 * solved.fast.added, TINY[solved.fast.local.dtype]).log()
    rare = found.detach() < trusted[:, None]
    hard = documents_of(~solved.fast.safe | rare.any(1), len(chain.transitions))
    if len(hard):
        part, own = emissions[hard].double(), lengths[hard.cpu()]
        if solved.fast.local.dtype == torch.float64:
            scores = log_domain.forward_backward(part, chain.of_rows(hard), own).log_marginals()
            careful = torch.logsumexp(scores.masked_fill(~wanted[hard], FORBIDDEN), -1)
            careful = torch.where(solved.inside[hard], careful, 0.0)
        else:
            careful = log_token_probability(part, Chain(*(x.double() for x in chain)), own, wanted[hard])
        found = found.index_put((hard,), careful)
    return found


class _ExpectedSum(torch.autograd.Function):
    """Mean of a sum of values along a sequence, with its analytic gradient for the scores and for the values."""

    @staticmethod
    def forward(ctx, emissions, transitions, start, end, values, lengths, solved):  # type: ignore[no-untyped-def, override]
        ctx.solved, ctx.marginals = solved, solved.fast.marginals() * solved.inside[..., None]
        ctx.save_for_backward(values)
        ctx.dtypes = [x.dtype for x in (emissions, transitions, start, end)]
        return torch.where(ctx.marginals > 0, ctx.marginals.double() * values, 0.0).sum((1, 2))

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx, weight):  # type: ignore[no-untyped-def, override]
        (values,) = ctx.saved_tensors
        weight = weight[:, None, None]
        direction = torch.where((ctx.marginals > 0) & (weight != 0), weight * values, 0.0)
        slope = ctx.solved.fast.marginal_slope(direction.to(ctx.solved.fast.local))
        d_values = (weight * ctx.marginals).to(values.dtype)
        return (*(part.to(dtype) for part, dtype in zip(slope, ctx.dtypes)), d_values, None, None)


@_without_autocast
def expected_sum(emissions: Tensor, chain: Chain, lengths: Tensor, values: Tensor) -> Tensor:
    """Mean, over the sequences of tags, of the sum of a value that each token's tag has.

    values (Tensor): (batch, time, tags). The other parameters and errors are those of `log_normalizer`.
    RETURNS (Tensor): float64, (batch,), with an analytic gradient for scores and values; that for the scores takes one
        more run of the messages, as in `log_token_probability`.
    """
    check_lengths(emissions, chain, lengths)
    solved = _Solved(emissions, chain, lengths).check_legal()
    found = _ExpectedSum.apply(emissions, *chain, values, lengths, solved)  # type: ignore[no-untyped-call]
    hard = solved.hard
    if len(hard):
        part, own = emissions[hard].double(), lengths[hard.cpu()]
        if solved.fast.local.dtype == torch.float64:
            scores = log_domain.forward_backward(part, chain.of_rows(hard), own)
            share = scores.log_marginals().exp() * solved.inside[hard][..., None]
            careful = torch.where(share > 0, share * values[hard], 0.0).sum((1, 2))
        else:
            careful = expected_sum(part, Chain(*(x.double() for x in chain)), own, values[hard].double())
        found = found.index_put((hard,), careful)
    return found


@_without_autocast
def forward_backward(emissions: Tensor, chain: Chain, lengths: Tensor) -> ForwardBackward:
    """Forward and backward scores of a batch of chains, from which every marginal follows; no gradient.

    Parameters and errors are those of `log_normalizer`.
    """
    check_lengths(emissions, chain, lengths)
    return _Solved(emissions, chain, lengths).check_legal().log_scores()


@_without_autocast
def per_token(emissions: Tensor, chain: Chain, lengths: Tensor) -> TokenScores:
    """Forward and backward scores of single tokens, without those of all the others; no gradient.

    Parameters and errors are those of `log_normalizer`. A single sequence that has to be worked in the log domain has
    its whole batch put into logarithms.
    """
    check_lengths(emissions, chain, lengths)
    return _Solved(emissions, chain, lengths).check_legal().per_token()


@_without_autocast
def token_marginals(emissions: Tensor, chain: Chain, lengths: Tensor) -> Tensor:
    """P(tag at t) under the chain; no gradient. RETURNS: (batch, time, tags), 0 where padded."""
    check_lengths(emissions, chain, lengths)
    return _Solved(emissions, chain, lengths).check_legal().marginals()


@_without_autocast
def entropy(emissions: Tensor, chain: Chain, lengths: Tensor) -> Tensor:
    """Entropy of the distribution over tag sequences; no gradient. RETURNS: nats, float64, (batch,).

    H = log Z - E[score]: a sum over sequences that needs only expected counts (Hernando et al. 2005).
    """
    check_lengths(emissions, chain, lengths)
    solved = _Solved(emissions, chain, lengths).check_legal()
    return (solved.log_z - solved.expected_score()).clamp_min(0.0)


@_without_autocast
def path_score(emissions: Tensor, chain: Chain, tags: Tensor, lengths: Tensor) -> Tensor:
    """Unnormalised score of one tag sequence each.

    tags (Tensor): int64, (batch, time); what stands in the padding is not read.
    RETURNS (Tensor): float64, (batch,).
    """
    check_lengths(emissions, chain, lengths)
    on = token_mask(emissions, lengths)
    tags = tags.where(on, torch.zeros_like(tags))
    own_score = emissions.gather(2, tags[:, :, None])[:, :, 0].double()
    score = torch.where(on, own_score, 0.0).sum(1)
    own = (torch.arange(len(tags), device=tags.device) % len(chain.transitions))[:, None]
    moves = chain.transitions[own, tags[:, :-1], tags[:, 1:]].double()  # (batch, time - 1)
    score = score + torch.where(on[:, 1:], moves, 0.0).sum(1)
    last = tags.gather(1, (lengths - 1).to(tags.device)[:, None])
    return score + (chain.start[own, tags[:, :1]].double() + chain.end[own, last].double())[:, 0]


@_without_autocast
def viterbi(emissions: Tensor, chain: Chain, lengths: Tensor) -> Tensor:
    """Most probable tag sequence of each chain (Viterbi 1967); ties go to the lower tag id.

    Parameters and errors are those of `log_normalizer`.
    RETURNS (Tensor): int64, (batch, time), 0 where padded.
    """
    check_lengths(emissions, chain, lengths)
    return best_paths(working(emissions.detach()), Chain(*(part.detach() for part in chain)), lengths)


@_without_autocast
def n_best(emissions: Tensor, chain: Chain, lengths: Tensor, n: int) -> Tuple[Tensor, Tensor]:
    """The n most probable tag sequences of each chain, the best first; no gradient.

    Parameters and errors are those of `log_normalizer`.
    RETURNS: Tags, int64, (batch, n, time), 0 where padded, and log P(sequence), float64, (batch, n), -inf where a
        chain has fewer legal sequences, with tags that mean nothing. Time and memory grow to n times those of
        `viterbi`.

    List Viterbi decoding (Seshadri & Sundberg 1994), the parallel form.
    """
    check_lengths(emissions, chain, lengths)
    if n < 1:
        raise ValueError(f"n = {n}: at least one sequence is to be found.")
    with torch.no_grad():
        tags, scores = log_domain.n_best(emissions.double(), Chain(*(p.double() for p in chain)), lengths, n)
        log_p = scores - log_normalizer(emissions.double(), chain, lengths)[:, None]
    return tags, log_p.masked_fill(is_forbidden(scores), -torch.inf)


def working(emissions: Tensor) -> Tensor:
    """The precision that emissions are worked in: float64 stays, anything else is float32."""
    return emissions if emissions.dtype == torch.float64 else emissions.float()


def documents_of(rows: Tensor, chains: int) -> Tensor:
    """All sequences of the documents that some sequences belong to. rows: bool, (batch,). RETURNS: ids."""
    return torch.nonzero(rows.view(-1, chains).any(1).repeat_interleave(chains))[:, 0]
