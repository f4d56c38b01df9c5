"""What happens to gradients and weights around an optimizer's step: a guard against spikes, averages of the weights."""

from typing import Any, Dict, List, Literal, Optional, Sequence, Tuple

import torch
from torch import Tensor

SpikePolicy = Literal["clip_mean", "clip_threshold", "skip"]
SPIKE_POLICIES = ("clip_mean", "clip_threshold", "skip")
# Norms that are seen before one of them can be a spike.
FIRST_NORMS = 10


class SpikeGuard:
    """Tells gradients that are far larger than those before them, and what to do about it.

    A spike is a norm above mean + deviations * standard deviation of the norms so far, both exponentially weighted.
    What is beyond that bound does not enter the statistics, so that they follow a norm that stays high, but slowly.

    policy (str): What is done with a spike: "clip_mean": it is scaled down to the mean; "clip_threshold": to the bound;
        "skip": the step is passed over.
    deviations (float): How many standard deviations are allowed.
    window (int): Steps that the statistics span.
    """

    def __init__(self, policy: SpikePolicy, deviations: float = 7.0, window: int = 100) -> None:
        self.policy = policy
        self.deviations = deviations
        self._share = 2 / (window + 1)
        self.mean = self.variance = 0.0
        self.seen = self.spikes = 0

    def allowed(self, norm: float) -> Optional[float]:
        """Largest norm that this gradient may have; None: no step. It enters the statistics if it is finite."""
        bound = float("inf")
        if self.seen >= FIRST_NORMS:
            bound = self.mean + self.deviations * self.variance**0.5
        is_spike = norm > bound
        within = min(norm, bound)
        if within < float("inf"):
            # weighted evenly as long as there are few
            share = max(self._share, 1 / (self.seen + 1))
            delta = within - self.mean
            self.mean += share * delta
            self.variance = (1 - share) * (self.variance + share * delta * delta)
            self.seen += 1
        if not is_spike:
            return float("inf")
        self.spikes += 1
        return {"clip_mean": self.mean, "clip_threshold": bound, "skip": None}[self.policy]

    def state(self) -> Dict[str, Any]:
        return {"mean": self.mean, "variance": self.variance, "seen": self.seen, "spikes": self.spikes}

    def restore(self, state: Dict[str, Any]) -> None:
        self.mean, self.variance = state["mean"], state["variance"]
        self.seen, self.spikes = state["seen"], state["spikes"]


class Averages:
    """Exponential moving averages of weights (Polyak & Juditsky 1992, as used by Tarvainen & Valpola 2017).

    decay (float): Share of the average that each step leaves; in the first steps less, (1 + steps) / (10 + steps).
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.tensors: Dict[Tuple[int, str], Tensor] = {}

    @torch.no_grad()
    def update(self, keys: Sequence[Tuple[int, str]], weights: Sequence[Tensor]) -> None:
        """Move the averages towards the weights after a step. A weight that is new is its own average."""
        keep = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        averages: List[Tensor] = []
        current: List[Tensor] = []
        for key, weight in zip(keys, weights):
            if key not in self.tensors or self.tensors[key].shape != weight.shape:
                self.tensors[key] = weight.detach().clone()
            else:
                averages.append(self.tensors[key])
                current.append(weight.detach())
        if averages:
            torch._foreach_lerp_(averages, current, 1 - keep)
