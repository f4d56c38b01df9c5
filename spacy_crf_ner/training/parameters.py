"""Every parameter of a pipeline, of torch modules and of thinc's own layers alike: its name, weights and gradient."""

from typing import Any, Iterable, Iterator, Protocol, Tuple

import torch
from thinc.api import Model
from torch import Tensor

from ..torch_shim import to_torch, to_xp


class Parameter(Protocol):
    """One of them.

    name (str): `pipe/parameter`, as `spacy_crf_ner.AdamW.v1` knows it.
    """

    name: str

    @property
    def learns(self) -> bool:
        """Whether it gets gradients at all."""

    def weights(self) -> Tensor:
        """Its own memory."""

    def gradient(self) -> Any:
        """None where there is none; may be sparse."""

    def dense(self) -> Tensor:
        """The gradient as a tensor of full size, zero where there is none."""

    def set_gradient(self, gradient: Tensor) -> None: ...

    def changed(self) -> None:
        """Tell whoever holds something that was made of the weights."""


def parameters(pipes: Iterable[Tuple[str, Any]]) -> Iterator[Parameter]:
    """All parameters of pipes, each once, in the same order in each process."""
    seen = set()
    for pipe_name, pipe in pipes:
        model = getattr(pipe, "model", None)
        for i, node in enumerate(model.walk()) if isinstance(model, Model) else ():
            if node.id in seen:
                continue
            seen.add(node.id)
            for name in node.param_names:
                if node.has_param(name):
                    yield _OfNode(f"{pipe_name}/{node.name}.{i}.{name}", node, name)
            for shim in node.shims:
                module = getattr(shim, "_model", None)
                if isinstance(module, torch.nn.Module):
                    yield from (_OfModule(f"{pipe_name}/{name}", module, p) for name, p in module.named_parameters())


class _OfModule:
    """A parameter of a torch module."""

    def __init__(self, name: str, module: Any, parameter: torch.nn.Parameter) -> None:
        self.name = name
        self._module, self._parameter = module, parameter

    @property
    def learns(self) -> bool:
        return self._parameter.requires_grad

    def weights(self) -> Tensor:
        return self._parameter.detach()

    def gradient(self) -> Any:
        return self._parameter.grad

    def dense(self) -> Tensor:
        gradient = self._parameter.grad
        if gradient is None:
            return torch.zeros_like(self._parameter)
        return gradient.to_dense() if gradient.is_sparse else gradient

    def set_gradient(self, gradient: Tensor) -> None:
        self._parameter.grad = gradient.clone()

    def changed(self) -> None:
        if hasattr(self._module, "weights_changed"):
            self._module.weights_changed()


class _OfNode:
    """An array of a thinc layer."""

    def __init__(self, name: str, node: Model, key: str) -> None:
        self.name = name
        self._node, self._key = node, key

    @property
    def learns(self) -> bool:
        return True

    def weights(self) -> Tensor:
        return to_torch(self._node.get_param(self._key))

    def gradient(self) -> Any:
        found: Any = self._node.get_grad(self._key) if self._node.has_grad(self._key) else None
        return None if found is None else to_torch(found)

    def dense(self) -> Tensor:
        gradient = self.gradient()
        return torch.zeros_like(self.weights()) if gradient is None else gradient

    def set_gradient(self, gradient: Tensor) -> None:
        self._node.set_grad(self._key, to_xp(gradient))

    def changed(self) -> None:
        """thinc's layers hold nothing that is made of their weights."""
