"""One training in several processes, which share each batch and take the same steps."""

import contextlib
import os
import threading
from datetime import timedelta
from typing import Any, Iterable, Iterator, List, Sequence, Tuple

import torch
import torch.distributed as dist
from spacy.training import Example
from torch import Tensor

from .parameters import parameters

# How long a process waits for the others. All take the same steps; what the first does alone, in `Group.first`, may
# take longer.
TIMEOUT = timedelta(minutes=10)
BEAT_SECONDS = 10.0


class PeerLost(RuntimeError):
    """Another process of the training has ended, or does not answer."""


class Group:
    """The processes of a training.

    rank (int): Which of them this one is; 0 alone writes. size (int): How many there are. device (str): Where tensors
        are that they tell each other. owns (bool): Whether `close` ends their connection, which others may have made.
    """

    def __init__(self, rank: int = 0, size: int = 1, device: str = "cpu", owns: bool = False) -> None:
        self.rank, self.size = rank, size
        self._device, self._owns = device, owns

    @classmethod
    def from_environment(cls, on_gpu: bool) -> "Group":
        """The group that torchrun, or whatever set RANK and WORLD_SIZE, has started; one process where nothing did."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls()
        owns = not dist.is_initialized()
        if owns:
            dist.init_process_group("nccl" if on_gpu else "gloo", timeout=TIMEOUT)
        # by number: another thread of this process would take the first GPU
        device = f"cuda:{torch.cuda.current_device()}" if dist.get_backend() == "nccl" else "cpu"
        return cls(dist.get_rank(), size, device, owns)

    def close(self) -> None:
        """End the connection; a process that does not may crash at its very end. Others that wait find it lost."""
        if self._owns and dist.is_initialized():
            dist.destroy_process_group()

    @contextlib.contextmanager
    def first(self) -> Iterator[None]:
        """Where the first process works alone, and the others wait for as long as it shows that it lives."""
        if self.size == 1:
            yield
            return
        if self.rank:
            while self._beat(True):
                pass
            yield
            return
        done = threading.Event()
        lost: List[PeerLost] = []

        def show() -> None:
            try:
                while not done.wait(BEAT_SECONDS):
                    self._beat(True)
            except PeerLost as error:
                lost.append(error)

        beats = threading.Thread(target=show, daemon=True)
        beats.start()
        try:
            yield
        finally:
            done.set()
            beats.join()
        if lost:
            raise lost[0]
        self._beat(False)

    def _beat(self, works: bool) -> bool:
        """Tell the others whether the first process is still at work. RETURNS (bool): Whether it is."""
        flag = torch.tensor([works], dtype=torch.uint8, device=self._device)
        with _reaching_the_others():
            dist.broadcast(flag, 0)
            return bool(flag.item())

    def part(self, batch: Sequence[Example]) -> List[Example]:
        """What of a batch this process works on: every so manieth document, by length, so that all have alike."""
        if self.size == 1:
            return list(batch)
        return sorted(batch, key=lambda example: -len(example.predicted))[self.rank :: self.size]

    def wait(self) -> None:
        if self.size > 1:
            with _reaching_the_others():
                dist.barrier()

    def add(self, *values: float) -> List[float]:
        """Sums over all processes."""
        if self.size == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64, device=self._device)
        with _reaching_the_others():
            dist.all_reduce(sums)
            return sums.tolist()

    def tell(self, value: Any) -> Any:
        """What the first process has."""
        if self.size == 1:
            return value
        told = [value]
        with _reaching_the_others():
            dist.broadcast_object_list(told)
        return told[0]

    def gather(self, value: Any) -> List[Any]:
        """What each process has, for the first; nothing for the others."""
        if self.size == 1:
            return [value]
        found = [None] * self.size if self.rank == 0 else None
        with _reaching_the_others():
            dist.gather_object(value, found)
        return found or []

    def total(self, part: Tensor) -> Tensor:
        """The sum of a tensor over all processes, which each of them has a part of; the part stays as it is."""
        if self.size == 1:
            return part
        total = part.clone()
        with _reaching_the_others():
            dist.all_reduce(total)
        return total

    def add_gradients(self, pipes: Iterable[Tuple[str, Any]]) -> None:
        """Give each process the sum of all gradients. A parameter that none has a gradient of stays without."""
        if self.size == 1:
            return
        places = [place for place in parameters(pipes) if place.learns]
        present = torch.tensor(
            [place.gradient() is not None for place in places], dtype=torch.int32, device=self._device
        )
        with _reaching_the_others():
            dist.all_reduce(present, dist.ReduceOp.MAX)
            wanted = [place for place, is_there in zip(places, present.tolist()) if is_there]
        if not wanted:
            return
        parts = [place.dense() for place in wanted]
        flat = torch.cat([part.flatten() for part in parts])
        with _reaching_the_others():
            dist.all_reduce(flat)
        for place, part, total in zip(wanted, parts, flat.split([part.numel() for part in parts])):
            place.set_gradient(total.view(part.shape))


@contextlib.contextmanager
def _reaching_the_others() -> Iterator[None]:
    """RAISES (PeerLost): The processes cannot reach each other; torch's own words are of sockets."""
    try:
        yield
    except RuntimeError as error:
        raise PeerLost(
            "Another process of this training has ended, or has not answered for "
            f"{TIMEOUT.total_seconds() / 60:g} minutes; its own last words say why. Start all of them again with "
            f"--resume, to go on from the newest checkpoint. ({str(error).splitlines()[0]})"
        ) from error
