"""weights.jsonl: how large the weights are, and how much a step changes them, part by part of the pipeline."""

import math
import re
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import torch
from spacy.language import Language
from thinc.api import Model
from torch import Tensor

from ..embedding.encoder import LAYER
from ..torch_shim import to_torch
from .metrics import LineFile

WEIGHTS = "weights.jsonl"


class WeightStatistics:
    """Looks at the weights before and after steps that an evaluation follows; nothing has to be remembered from one of
    them to the next.

    nlp (Language): The pipeline. file (LineFile): Where a line for each such step is added. frozen: Names of pipes that
    are left out. every (int): Steps between two of them; 0: none.
    """

    def __init__(self, nlp: Language, file: LineFile, frozen: Sequence[str], every: int) -> None:
        self._pipes = [(name, pipe) for name, pipe in nlp.pipeline if name not in frozen]
        self._file = file
        self._every = every
        self._before: Dict[str, List[Tensor]] = {}

    def before(self, step: int) -> None:
        """Keep the weights as they are before a step, in the computer's own memory."""
        if self._every and step % self._every == 0 and self._file.path is not None:
            self._before = {name: [t.detach().cpu().clone() for t in part] for name, part in self._parts().items()}

    def after(self, step: int) -> None:
        """Write down what the step has made of them."""
        if not self._before:
            return
        before, self._before = self._before, {}
        found = {name: statistics(part, before.get(name, part)) for name, part in self._parts().items()}
        self._file.add({"step": step, "weights": found})

    def _parts(self) -> Dict[str, List[Tensor]]:
        parts: Dict[str, List[Tensor]] = {}
        for name, tensor in _tensors(self._pipes):
            parts.setdefault(name, []).append(tensor)
        return parts


@torch.no_grad()
def statistics(weights: Sequence[Tensor], before: Sequence[Tensor]) -> Dict[str, float]:
    """Mean, standard deviation and norm of weights, and norm of their change over their norm before it.

    weights, before (Sequence[Tensor]): Tensors of equal shapes, of any device and precision.
    RETURNS (Dict[str, float]): mean, std, norm, update; that is 0 where they were 0.
    """
    number, total, squares, squares_before, change = 0, 0.0, 0.0, 0.0, 0.0
    for now, old in zip(weights, before):
        a, b = now.detach().cpu().double(), old.detach().cpu().double()
        number += a.numel()
        total += float(a.sum())
        squares += float((a * a).sum())
        squares_before += float((b * b).sum())
        change += float(((a - b) ** 2).sum())
    mean = total / max(number, 1)
    return {
        "mean": mean,
        "std": math.sqrt(max(squares / max(number, 1) - mean * mean, 0.0)),
        "norm": math.sqrt(squares),
        "update": math.sqrt(change / squares_before) if squares_before else 0.0,
    }


def _tensors(pipes: Sequence[Tuple[str, Any]]) -> Iterator[Tuple[str, Tensor]]:
    """All weights that are trained, each with the name of its part.

    That is `pipe/layer`; of torch modules `pipe/module`, and of encoders all up to the number of the layer.
    """
    seen = set()
    for pipe_name, pipe in pipes:
        model = getattr(pipe, "model", None)
        for node in model.walk() if isinstance(model, Model) else ():
            if node.id in seen:
                continue
            seen.add(node.id)
            for name in node.param_names:
                if node.has_param(name):
                    yield f"{pipe_name}/{node.name}", to_torch(node.get_param(name))
            for shim in node.shims:
                module = getattr(shim, "_model", None)
                if isinstance(module, torch.nn.Module):
                    yield from ((f"{pipe_name}/{_part(n)}", p) for n, p in module.named_parameters() if p.requires_grad)


def _part(name: str) -> str:
    layer = LAYER.search(name)
    if layer is not None:
        return name[: layer.end() - 1]
    parents = name.split(".")[:-1]
    return ".".join(parents[: 2 if re.search("encoder|model", parents[0]) else 1]) if parents else name
