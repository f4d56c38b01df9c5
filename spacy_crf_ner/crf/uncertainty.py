"""How unsure a chain is of whole documents: exact, from its messages; nothing is sampled."""

from typing import Dict, Optional

import numpy as np
import torch
from torch import Tensor

from ..tagging import BEGIN, UNIT
from .chain import _ChainMaths
from .confidence import Rules, decode

MEASURES = ("entropy", "best", "errors", "margin")


@torch.no_grad()
def uncertainty(
    crf: _ChainMaths,
    emissions: Tensor,
    lengths: Tensor,
    possible: Optional[Tensor] = None,
    temperature: float = 1.0,
) -> Dict[str, np.ndarray]:
    """How unsure chains are of documents. Parameters are those of `decode`.

    RETURNS (Dict[str, np.ndarray]): For each document, float64, (documents,), summed over its tokens and chains:
        "entropy": of the distribution over tag sequences, in nats. "best": −log P(best sequence), in nats, in the
        order of 1 − P. "errors": how many entities of the best sequence are expected to be wrong, and how many others
        to be missed. "margin": 1 less what the likeliest tag of a token has more than the second.
    """
    n_chains = len(crf.scores().transitions)
    marginals = crf.token_marginals(emissions, lengths, possible, temperature).double()  # (batch, time, tags)
    first, second = marginals.topk(2, -1).values.unbind(-1)
    entities = marginals[..., 1 + BEGIN :: 4].sum((1, 2)) + marginals[..., 1 + UNIT :: 4].sum((1, 2))
    found = decode(crf, emissions, lengths, possible, Rules(temperature=temperature))
    right = torch.tensor([[len(spans), sum(score for _, score in spans)] for spans in found], dtype=torch.float64)
    paths = crf.best_paths(emissions, lengths, possible)
    by_row = {
        "entropy": crf.entropy(emissions, lengths, possible, temperature),
        "best": -crf.log_likelihood(emissions, paths, lengths, possible, temperature),
        "errors": right[:, 0] + entities.cpu() - 2 * right[:, 1],
        "margin": lengths - (first - second).sum(1).cpu(),
    }
    return {
        name: values.cpu().double().clamp_min(0).reshape(-1, n_chains).sum(1).numpy() for name, values in by_row.items()
    }
