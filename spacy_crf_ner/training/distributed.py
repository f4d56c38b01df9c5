"""One training in several processes, which share each batch and take the same steps."""

import os
from datetime import timedelta
from typing import Any, Iterable, List, Sequence, Tuple

import torch
import torch.distributed as dist
from spacy.training import Example
from torch import Tensor

from .parameters import parameters


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

    def close(self) -> None:
        """Part from the others: a process that ends without it may crash at its very end."""
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()

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

    def total(self, part: Tensor) -> Tensor:
        """The sum of a tensor over all processes, which each of them has a part of; the part stays as it is."""
        if self.size == 1:
            return part
        total = part.clone()
        dist.all_reduce(total)
        return total

    def add_gradients(self, pipes: Iterable[Tuple[str, Any]]) -> None:
        """Give each process the sum of all gradients. A parameter that none has a gradient of stays without."""
        if self.size == 1:
            return
        places = [place for place in parameters(pipes) if place.learns]
        present = torch.tensor([place.gradient() is not None for place in places], dtype=torch.int32)
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
            place.set_gradient(total.view(part.shape))
