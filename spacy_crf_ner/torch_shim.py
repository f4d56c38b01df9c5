"""The bridge from thinc to our torch modules: built from a description, stored as safetensors."""

import contextlib
import json
import os
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import srsly
import torch
from thinc.api import ArgsKwargs, get_torch_default_device
from thinc.shims import PyTorchShim, Shim
from thinc.util import torch2xp, xp2torch


class TorchShim(PyTorchShim):
    """Holds a torch module that is described by JSON-able data and built by a function.

    It differs from thinc's own shim in five ways. The module may be built late, when its sizes are known.
    Storage is the description (JSON) and the weights (safetensors): nothing is unpickled, and loading
    builds a module of the right size. What a module `found` while running, where it has a dictionary of that name, is
    stored too. A module may have its gradients scaled (`loss_scale`). An optimizer that has `collect_module` (ours)
    takes all parameters at once; any other is fed tensor by tensor, as thinc does. Such an optimizer may step later, so
    every use of the module first settles what is owed.

    build (Callable[[Dict[str, Any]], torch.nn.Module]): Makes the module from its description. It is a
        function at the top level of a module, so that the shim pickles.
    """

    def __init__(self, build: Callable[[Dict[str, Any]], torch.nn.Module]) -> None:
        super().__init__(None)
        self._build = build
        self._owed_by: Any = None
        self._process = os.getpid()

    @property
    def is_built(self) -> bool:
        return self._model is not None

    @property
    def module(self) -> Any:
        """The torch module, with every optimizer step done that was asked for.

        RAISES (ValueError): It was not built yet.
        """
        if self._model is None:
            raise ValueError(
                "The model has no weights yet. Call nlp.initialize(), or load a trained pipeline with spacy.load()."
            )
        self.settle()
        self._mind_fork()
        return self._model

    def build(self, cfg: Dict[str, Any]) -> torch.nn.Module:
        """Make the module anew from a description and keep both."""
        self.settle()
        module = self._build(cfg).to(get_torch_default_device())
        self.adopt(module, cfg)
        return module

    def adopt(self, module: torch.nn.Module, cfg: Dict[str, Any]) -> None:
        """Take a module that was made elsewhere, with the description that makes the like of it."""
        self._model = module.to(get_torch_default_device())
        self.cfg = cfg

    def owe(self, optimizer: Any) -> None:
        """Remember an optimizer that has still to take its step."""
        self._owed_by = optimizer

    def settle(self) -> None:
        """Let an optimizer that holds our gradients take its step before the weights are used."""
        if self._owed_by is not None:
            optimizer, self._owed_by = self._owed_by, None
            optimizer.settle()
            self._weights_changed()

    def _weights_changed(self) -> None:
        """Tell the module, which may hold something that was made of its weights."""
        if hasattr(self._model, "weights_changed"):
            self._model.weights_changed()

    def _mind_fork(self) -> None:
        """In a forked process (`nlp.pipe(n_process=...)`) use one thread: the threads that torch's and the
        tokenizers' pools had are not there any more, and waiting for them would never end."""
        if self._process != os.getpid():
            self._process = os.getpid()
            torch.set_num_threads(1)
            os.environ["TOKENIZERS_PARALLELISM"] = "false"

    def predict(self, inputs: ArgsKwargs) -> Any:
        module = self.module
        module.eval()
        with torch.no_grad():
            return module(*inputs.args, **inputs.kwargs)

    def begin_update(self, inputs: ArgsKwargs) -> Tuple[Any, Callable[[Any], None]]:
        """Run the module in training mode. RETURNS: its output, and what takes d(output) to .grad."""
        module = self.module
        module.train()
        output = module(*inputs.args, **inputs.kwargs)

        def backprop(d_output: Any) -> None:
            if output.requires_grad:
                scale = self._loss_scale
                torch.autograd.backward(output, d_output if scale is None else d_output * scale.factor)

        return output, backprop

    @property
    def _loss_scale(self) -> Any:
        """What a module in float16 has its gradients scaled by; see `embedding.precision.LossScale`."""
        return getattr(self._model, "loss_scale", None)

    def finish_update(self, optimizer: Any) -> None:
        if self._model is None:
            return
        finite = self._loss_scale is None or self._loss_scale.unscale(self._model.parameters())
        if not finite and not hasattr(optimizer, "collect_module"):
            self._model.zero_grad(set_to_none=True)  # ours passes the whole step over, of all pipes
        if hasattr(optimizer, "collect_module"):
            optimizer.collect_module(self, self._model)
            self.owe(optimizer)
            return
        for name, parameter in self._model.named_parameters():
            if parameter.grad is not None:
                gradient = parameter.grad.to_dense() if parameter.grad.is_sparse else parameter.grad
                weights, _ = optimizer((self.id, name), torch2xp(parameter.data), torch2xp(gradient))
                parameter.data = xp2torch(weights, device=parameter.device)
                # not zeroed in place: Language.rehearse keeps the array and steps later
                parameter.grad = None
        # also when the array is stepped later: then the shim is owed
        self._weights_changed()

    @contextlib.contextmanager
    def use_params(self, params: Dict[Any, Any]) -> Iterator[None]:
        """Put other weights in for a while; the old ones come back also after an error."""
        if self._model is None:
            yield
            return
        prefix = f"pytorch_{self.id}_"
        module = self.module
        named = dict(module.named_parameters())
        mine = {k[len(prefix) :]: v for k, v in params.items() if isinstance(k, str) and k.startswith(prefix)}
        backup = {name: named[name].detach().clone() for name in mine}
        try:
            with torch.no_grad():
                for name, value in mine.items():
                    named[name].copy_(torch.as_tensor(value))
            self._weights_changed()
            yield
        finally:
            with torch.no_grad():
                for name, old in backup.items():
                    named[name].copy_(old)
            self._weights_changed()

    def to_bytes(self) -> bytes:
        from safetensors.torch import save

        state: Optional[bytes] = None
        if self._model is not None:
            # clones, since safetensors refuses tensors that share memory
            weights = {k: v.detach().cpu().contiguous().clone() for k, v in self.module.state_dict().items()}
            state = save(weights)
        msg = {"cfg": json.dumps(self.cfg, sort_keys=True), "weights": state}
        found = getattr(self._model, "found", None)
        if found:
            msg["found"] = json.dumps(found, sort_keys=True)
        return srsly.msgpack_dumps(msg)

    def from_bytes(self, bytes_data: bytes) -> "TorchShim":
        from safetensors.torch import load

        msg = srsly.msgpack_loads(bytes_data)
        if msg["weights"] is not None:
            module: Any = self.build(json.loads(msg["cfg"]))
            module.load_state_dict(load(msg["weights"]))
            if "found" in msg:
                module.found.update(json.loads(msg["found"]))
        return self

    def __getstate__(self) -> Dict[str, Any]:
        self.settle()
        return self.__dict__.copy()

    def __setstate__(self, state: Dict[str, Any]) -> None:
        # a copy is another module: optimizers tell modules apart by the id of their shim
        with Shim.global_id_lock:
            Shim.global_id += 1
            self.__dict__.update(state, id=Shim.global_id, _process=os.getpid())


def to_xp(tensor: Optional[torch.Tensor]) -> Any:
    """A NumPy or CuPy array over a tensor's own memory."""
    assert tensor is not None
    return torch2xp(tensor)


def to_torch(array: Any, requires_grad: bool = False) -> torch.Tensor:
    """A tensor over an array's own memory."""
    return xp2torch(array, requires_grad=requires_grad)


def split_rows(ops: Any, rows: Any, lengths: List[int]) -> Any:
    """An array over all documents as a list of arrays, one a document."""
    return ops.unflatten(rows, lengths)


def hand_over(pipe: Any, sgd: Any, nlp: Any) -> None:
    """Give an optimizer the gradients of a pipe; one that wants the names of parameters is told them first.

    nlp: A weak reference to the pipeline, or None. With it other packages' pipes get names too.
    """
    if hasattr(sgd, "name_pipes"):
        pipeline = nlp() if nlp is not None else None
        sgd.name_pipes([(pipe.name, pipe), *(pipeline.pipeline if pipeline is not None else [])])
    pipe.model.finish_update(sgd)
