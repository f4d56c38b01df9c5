"""How learning rates rise and fall over a training."""

import math
from typing import Callable, Dict, Literal

Decay = Literal["linear", "cosine", "polynomial", "step", "constant"]

# Share of the full rate, from the share of the way between the end of the warm-up and the last step.
DECAYS: Dict[str, Callable[[float, float], float]] = {
    "linear": lambda done, _: 1 - done,
    "cosine": lambda done, _: (1 + math.cos(math.pi * done)) / 2,
    "polynomial": lambda done, shape: (1 - done) ** shape,
    "step": lambda done, shape: 0.1 ** math.floor(done * shape),
    "constant": lambda done, _: 1.0,
}


def rate_factor(step: int, warmup_steps: int, total_steps: int, decay: Decay, shape: float) -> float:
    """What all rates are multiplied by at a step, counted from 0.

    warmup_steps (int): Steps in which the rates rise evenly from 0.
    total_steps (int): Where the rates have fallen as far as they fall; 0: they do not fall.
    decay (str): linear; cosine, half a wave; polynomial, (1 - x) to the power of `shape`; step, to a tenth at the end
        of each of `shape` equal parts; constant.
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if not total_steps or decay == "constant":
        return 1.0
    done = min(1.0, (step - warmup_steps) / (total_steps - warmup_steps))
    return DECAYS[decay](done, shape)
