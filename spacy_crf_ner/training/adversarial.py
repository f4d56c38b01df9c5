"""Adversarial training of embeddings: learn also from a batch whose embeddings were moved to where its loss grows."""

import contextlib
import difflib
import fnmatch
from typing import Any, Iterable, Iterator, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from .distributed import Group
from .parameters import Parameter, parameters

Pipes = Iterable[Tuple[str, Any]]


class Adversary:
    """The fast gradient method on embedding tables (Miyato et al. 2017, "Adversarial Training Methods for
    Semi-Supervised Text Classification").

    Each parameter is moved by epsilon * g / ||g||, where g is its gradient in the batch, of all parts and processes.

    epsilon (float): How far, in the Euclidean norm.
    pattern (str): Which parameters, shell-style, on `pipe/parameter`.
    """

    def __init__(self, epsilon: float, pattern: str) -> None:
        self.epsilon = epsilon
        self.pattern = pattern

    def check(self, pipes: Pipes) -> None:
        """RAISES (ValueError): No parameter of these pipes has such a name, or all that have are frozen."""
        known = list(parameters(pipes))
        matched = self._matched(known)
        if not matched:
            names = [parameter.name for parameter in known]
            near = difflib.get_close_matches(self.pattern.strip("*"), names, n=3, cutoff=0.0)
            listed = f"Near it are {', '.join(near)}" if near else "They have none"
            raise ValueError(
                f'[training_extras] adversarial_parameters = "{self.pattern}": no parameter of a pipe that learns has '
                f"such a name. {listed}."
            )
        if not any(parameter.learns for parameter in matched):
            raise ValueError(
                f'[training_extras] adversarial_parameters = "{self.pattern}": {matched[0].name} is frozen, so that it '
                "has no gradient and cannot be moved. Unfreeze it (frozen_layers = null), or set adversarial_epsilon "
                "to 0."
            )

    def _matched(self, known: Iterable[Parameter]) -> List[Parameter]:
        return [parameter for parameter in known if fnmatch.fnmatchcase(parameter.name, self.pattern)]

    @contextlib.contextmanager
    def moved(self, pipes: Pipes, group: Group) -> Iterator[bool]:
        """Have the weights moved; they come back to the last bit, also after an error.

        pipes: Those that learn. group: The processes whose gradients are added up.
        RETURNS (bool): Whether any was moved. One whose gradient is zero or not finite stays where it is.
        """
        found = [parameter for parameter in self._matched(parameters(pipes)) if parameter.learns]
        moves = [move for parameter in found if (move := self._move(parameter, group)) is not None]
        try:
            yield bool(moves)
        finally:
            for move in moves:
                move.undo()

    @torch.no_grad()
    def _move(self, parameter: Parameter, group: Group) -> Optional["_Move"]:
        gradient = parameter.gradient() if group.size == 1 else group.total(parameter.dense())
        if gradient is None:
            return None
        rows = None
        if gradient.is_sparse:
            # an embedding table on a CPU: only rows of words that were read have a gradient
            gradient = gradient.coalesce()
            rows, gradient = gradient.indices()[0], gradient.values()
        norm = torch.linalg.vector_norm(gradient, dtype=torch.float64)
        if not (torch.isfinite(norm) and norm > 0):
            return None
        weights = parameter.weights()
        move = _Move(parameter, rows, (weights if rows is None else weights[rows]).clone())
        move.put(move.before + (gradient * (self.epsilon / norm)).to(weights.dtype))
        return move


class _Move(NamedTuple):
    """A parameter that was moved.

    rows (Optional[Tensor]): Which of its rows; None: all. before (Tensor): What they were.
    """

    parameter: Parameter
    rows: Optional[Tensor]
    before: Tensor

    @torch.no_grad()
    def put(self, values: Tensor) -> None:
        weights = self.parameter.weights()
        if self.rows is None:
            weights.copy_(values)
        else:
            weights[self.rows] = values
        self.parameter.changed()

    def undo(self) -> None:
        self.put(self.before)
