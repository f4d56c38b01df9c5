"""One training in several processes, which share each batch and take the same steps."""

import os
from datetime import timedelta
from typing import Any, Iterable, List, Sequence, Tuple

import torch
import torch.distributed as dist
from spacy.training import Example
from thinc.api import Model
from torch import Tensor

from ..torch_shim import to_torch, to_xp


class Group:
    """The processes of a training.

    rank (int): Which of them this one is; 0 alone writes. size (int): How many there are.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @classmethod
    def from_environment(cls, on_gpu: bool) -> "Group":
        """The group that torchrun, or whatever set RANK and WORLD_SIZE, has started; one process where nothing did."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls()
        if not dist.is_initialized():
            # the others wait while the first one evaluates and writes
            dist.init_process_group("nccl" if on_gpu else "gloo", timeout=timedelta(days=1))
        return cls(dist.get_rank(), size)

    def part(self, batch: Sequence[Example]) -> List[Example]:
        """What of a batch this process works on: every so manieth document, by length, so that all have alike."""
        if self.size == 1:
            return list(batch)
        return sorted(batch, key=lambda example: -len(example.predicted))[self.rank :: self.size]

    def wait(self) -> None:
        if self.size > 1:
            dist.barrier()

    def add(self, *values: float) -> List[float]:
        """Sums over all processes."""
        if self.size == 1:
            return list(values)
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        sums = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(sums)
        return sums.tolist()

    def tell(self, value: Any) -> Any:
        """What the first process has."""
        if self.size == 1:
            return value
        told = [value]
        dist.broadcast_object_list(told)
        return told[0]

    def gather(self, value: Any) -> List[Any]:
        """What each process has, for the first; nothing for the others."""
        if self.size == 1:
            return [value]
        found = [None] * self.size if self.rank == 0 else None
        dist.gather_object(value, found)
        return found or []

    def add_gradients(self, pipes: Iterable[Tuple[str, Any]]) -> None:
        """Give each process the sum of all gradients. A parameter that none has a gradient of stays without."""
        if self.size == 1:
            return
        places = list(_gradients(pipes))
        present = torch.tensor([place.get() is not None for place in places], dtype=torch.int32)
        if dist.get_backend() == "nccl":
            present = present.cuda()
        dist.all_reduce(present, dist.ReduceOp.MAX)
        wanted = [place for place, is_there in zip(places, present.tolist()) if is_there]
        if not wanted:
            return
        parts = [place.dense() for place in wanted]
        flat = torch.cat([part.flatten() for part in parts])
        dist.all_reduce(flat)
        for place, part, total in zip(wanted, parts, flat.split([part.numel() for part in parts])):
            place.set(total.view(part.shape))


class _OfModule:
    """The gradient of a torch parameter."""

    def __init__(self, parameter: torch.nn.Parameter) -> None:
        self._parameter = parameter

    def get(self) -> Any:
        return self._parameter.grad

    def dense(self) -> Tensor:
        gradient = self._parameter.grad
        if gradient is None:
            return torch.zeros_like(self._parameter)
        return gradient.to_dense() if gradient.is_sparse else gradient

    def set(self, total: Tensor) -> None:
        self._parameter.grad = total.clone()


class _OfNode:
    """The gradient of an array of a thinc layer."""

    def __init__(self, node: Model, name: str) -> None:
        self._node, self._name = node, name

    def get(self) -> Any:
        return self._node.get_grad(self._name) if self._node.has_grad(self._name) else None

    def dense(self) -> Tensor:
        gradient = self.get()
        return to_torch(self._node.get_param(self._name) * 0 if gradient is None else gradient)

    def set(self, total: Tensor) -> None:
        self._node.set_grad(self._name, to_xp(total))


def _gradients(pipes: Iterable[Tuple[str, Any]]) -> Iterable[Any]:
    """Every place where pipes have gradients, in the same order in each process."""
    seen = set()
    for _, pipe in pipes:
        model = getattr(pipe, "model", None)
        for node in model.walk() if isinstance(model, Model) else ():
            if node.id in seen:
                continue
            seen.add(node.id)
            yield from (_OfNode(node, name) for name in node.param_names if node.has_param(name))
            for shim in node.shims:
                module = getattr(shim, "_model", None)
                if isinstance(module, torch.nn.Module):
                    yield from (_OfModule(p) for p in module.parameters() if p.requires_grad)
