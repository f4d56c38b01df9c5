"""What a training depends on besides the pipeline: random numbers, and the memory of the optimizer."""

import contextlib
import random
from typing import Any, Dict, Iterator, Tuple

import numpy as np
import torch
from spacy.language import Language
from thinc.api import Model, Optimizer
from torch import Tensor

Key = Tuple[int, str]
Tensors = Dict[str, Tensor]
Values = Dict[str, Any]

MOMENTS = ("mom1", "mom2", "averages")
COUNTS = ("nr_update", "last_seen")


class RandomState:
    """Python's and NumPy's random numbers, from which data is shuffled and augmented."""

    def __init__(self, python: Any, numpy: Any) -> None:
        self.python, self.numpy = python, numpy

    @classmethod
    def now(cls) -> "RandomState":
        return cls(random.getstate(), np.random.get_state())

    def use(self) -> None:
        random.setstate(self.python)
        np.random.set_state(self.numpy)

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """Draw from this state, and leave no trace in the global one."""
        outside = RandomState.now()
        self.use()
        try:
            yield
        finally:
            self.python, self.numpy = random.getstate(), np.random.get_state()
            outside.use()

    def copy(self) -> "RandomState":
        return RandomState(self.python, self.numpy)

    def to_json(self) -> Values:
        name, keys, *rest = self.numpy
        return {"python": self.python, "numpy": [name, keys.tolist(), *rest]}

    @classmethod
    def from_json(cls, values: Values) -> "RandomState":
        version, keys, gauss = values["python"]
        name, numpy_keys, *rest = values["numpy"]
        return cls((version, tuple(keys), gauss), (name, np.array(numpy_keys, dtype=np.uint32), *rest))


def torch_random() -> Tensors:
    """State of torch's generators."""
    found = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        found["cuda"] = torch.cuda.get_rng_state()
    return found


def use_torch_random(states: Tensors) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def parameter_names(nlp: Language) -> Dict[Key, str]:
    """What the parameters of all pipes are called, from one process to the next, by thinc's keys for them."""
    names: Dict[Key, str] = {}
    for pipe_name, pipe in nlp.components:
        model = getattr(pipe, "model", None)
        if not isinstance(model, Model):
            continue
        for i, node in enumerate(model.walk()):
            for name in node.param_names:
                names.setdefault((node.id, name), f"{pipe_name}/{i}/{name}")
            for j, shim in enumerate(node.shims):
                module = getattr(shim, "_model", None)
                if isinstance(module, torch.nn.Module):
                    for name, _ in module.named_parameters():
                        names.setdefault((shim.id, name), f"{pipe_name}/{i}.{j}/{name}")
    return names


def optimizer_state(optimizer: Optimizer, names: Dict[Key, str]) -> Tuple[Tensors, Values]:
    """What an optimizer remembers: ours by itself, thinc's own and those derived from it by its dictionaries."""
    if hasattr(optimizer, "state"):
        return optimizer.state(names)
    tensors = {
        f"{names[key]}|{part}": torch.from_numpy(_to_numpy(array))
        for part in MOMENTS
        for key, array in (getattr(optimizer, part) or {}).items()
    }
    counts = {part: {names[key]: n for key, n in getattr(optimizer, part).items()} for part in COUNTS}
    return tensors, counts


def restore_optimizer(
    optimizer: Optimizer, names: Dict[Key, str], tensors: Tensors, values: Values, steps: int
) -> None:
    """Let a new optimizer go on where another one was. steps (int): How often its schedules were moved on."""
    if hasattr(optimizer, "restore"):
        optimizer.restore(names, tensors, values)
        return
    from thinc.api import get_current_ops

    for _ in range(steps):
        optimizer.step_schedules()
    keys = {name: key for key, name in names.items()}
    for name, tensor in tensors.items():
        path, _, part = name.rpartition("|")
        getattr(optimizer, part)[keys[path]] = get_current_ops().asarray(tensor.numpy())  # type: ignore[arg-type]
    for part in COUNTS:
        getattr(optimizer, part).update({keys[name]: n for name, n in values[part].items()})


def _to_numpy(array: Any) -> np.ndarray:
    return array.get() if hasattr(array, "get") else array
