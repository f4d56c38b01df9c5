"""Where a training stands, from what loggers are told: means over the last steps, speed, and the time that is left."""

import math
import time
from collections import deque
from typing import Any, Deque, Dict, List, Optional, Tuple

# Steps over which losses and speed are averaged.
LAST_STEPS = 50


class Standing:
    """Where a training stands.

    training (Dict[str, Any]): The section [training] of its configuration, all variables filled in.
    step (int): Steps that are done before the first that it is told of.

    Afterwards: epoch; losses by pipe and a step, of the last LAST_STEPS steps; rates by group, "" being all else;
    gradient_norm; score and best, (score, step), None before the first evaluation.
    """

    def __init__(self, training: Dict[str, Any], step: int = 0) -> None:
        self.max_steps: int = training["max_steps"]
        self.max_epochs: int = training["max_epochs"]
        self.patience: int = training["patience"]
        self._eval_frequency: int = training["eval_frequency"]
        self.step = self._first = step
        self.epoch = 0
        self.losses: Dict[str, float] = {}
        self.rates: Dict[str, float] = {}
        self.gradient_norm: Optional[float] = None
        self.score: Optional[float] = None
        self.best: Optional[Tuple[float, int]] = None
        self._share: Optional[float] = None
        self._first_epochs: Optional[float] = None
        self._began = self._last = time.monotonic()
        self._words: Optional[int] = None
        self._recent: Deque[Tuple[float, int]] = deque(maxlen=LAST_STEPS)
        self._recent_losses: Deque[Dict[str, float]] = deque(maxlen=LAST_STEPS)

    # What it is told

    def count(self) -> None:
        """A step was done of which nothing else is known, as in spaCy's loop between two evaluations."""
        self.step += 1

    def take(self, info: Dict[str, Any]) -> None:
        """A step was done of which the extended loop tells all, or spaCy's an evaluation."""
        now = time.monotonic()
        watched = "step_losses" in info
        self.step, self.epoch = info["step"] + 1, info["epoch"]
        self._share = info.get("epoch_share")
        if self._first_epochs is None:
            self._first_epochs = self.epochs
        if self._words is not None and (info["score"] is None or not watched):
            self._recent.append((now - self._last, info["words"] - self._words))
        self._last, self._words = now, info["words"]
        if watched:
            self._recent_losses.append(info["step_losses"])
            self.losses = _means(self._recent_losses)
            self.rates = {"": info["learn_rate"], **info.get("learn_rates", {})}
            self.gradient_norm = info.get("gradient_norm")
        else:
            self.losses = self.losses_of(info)
        if info["score"] is not None:
            self.score = info["score"]
        if info["checkpoints"]:
            self.best = max(info["checkpoints"], key=lambda result: (result[0], -result[1]))

    def losses_of(self, info: Dict[str, Any]) -> Dict[str, float]:
        """Losses a step since the evaluation before one; loggers are handed their sums."""
        steps = min(info["step"] + 1, self._eval_frequency)
        return {name: float(loss) / steps for name, loss in info["losses"].items()}

    # What follows from it

    @property
    def epochs(self) -> Optional[float]:
        """Epochs that are done, with the part of the one that runs; None: it is not known."""
        return None if self._share is None else self.epoch + self._share

    @property
    def done(self) -> Optional[float]:
        """Share of the training that is behind it; None: only patience ends it."""
        shares = []
        if self.max_steps:
            shares.append((self.step - 1) / self.max_steps)
        if self.max_epochs > 0 and self.epochs is not None:
            shares.append(self.epochs / self.max_epochs)
        return min(max(*shares, 0.0), 1.0) if shares else None

    @property
    def seconds(self) -> float:
        """Time since the training was started or resumed."""
        return time.monotonic() - self._began

    @property
    def seconds_left(self) -> Optional[float]:
        """Time until max_steps or max_epochs at the speed since the start; None: it is not known."""
        left = []
        steps = self.step - self._first
        if self.max_steps and steps > 0:
            left.append((self.max_steps + 1 - self.step) * self.seconds / steps)
        if self.max_epochs > 0 and self.epochs is not None and self._first_epochs is not None:
            epochs = self.epochs - self._first_epochs
            if epochs > 0:
                left.append((self.max_epochs - self.epochs) * self.seconds / epochs)
        return max(min(left), 0.0) if left else None

    @property
    def patience_left(self) -> Optional[int]:
        """Steps after which patience ends the training if no score is better; None: it does not."""
        if not self.patience or self.best is None:
            return None
        return max(self.best[1] + self.patience - (self.step - 1), 0)

    @property
    def words_a_second(self) -> Optional[float]:
        """Words of the last LAST_STEPS steps by their time, evaluations apart where the loop tells of each step."""
        seconds = sum(took for took, _ in self._recent)
        return sum(words for _, words in self._recent) / seconds if seconds else None


def _means(rows: "Deque[Dict[str, float]]") -> Dict[str, float]:
    found: Dict[str, List[float]] = {}
    for row in rows:
        for name, value in row.items():
            found.setdefault(name, []).append(value)
    return {name: math.fsum(values) / len(values) for name, values in found.items()}
