"""One fused AdamW step over the parameters of all pipes."""

import fnmatch
import weakref
from typing import Any, Callable, Dict, Iterable, NamedTuple, Optional, Sequence, Tuple, Union

import torch
from spacy.util import logger
from thinc.api import Model, Optimizer, xp2torch
from thinc.types import FloatsXd
from torch import Tensor

Key = Tuple[int, str]
Rate = Union[float, Iterable[float]]
DEFAULT_GROUPS: Dict[str, Dict[str, Any]] = {
    # our own encoders, and those of spacy-transformers
    "encoder": {"pattern": "*/encoder.*", "learn_rate": 1e-4},
    "transformer": {"pattern": "transformer/*", "learn_rate": 1e-4},
}
NO_DECAY = ("b", "bias", "G", "start_transitions", "end_transitions", "transitions")


class Group(NamedTuple):
    """Parameters that are stepped alike.

    pattern (str): Shell-style pattern on `pipe/parameter`.
    weight_decay (float): Decoupled decay of weight matrices.
    """

    pattern: str
    weight_decay: float


def make_adamw(
    learn_rate: Rate = 1e-3,
    *,
    groups: Dict[str, Dict[str, Any]] = DEFAULT_GROUPS,
    warmup_steps: int = 0,
    total_steps: Union[int, str, None] = None,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    grad_clip: float = 1.0,
) -> "AdamW":
    """AdamW over all pipes at once (Loshchilov & Hutter 2019).

    learn_rate (Union[float, Iterable[float]]): Rate, or any thinc schedule of rates, of what no group takes.
    groups (Dict[str, Dict]): Parameters with a rate of their own, under any name; the first that matches counts.
        Each has `pattern`, shell-style, on `pipe/parameter`; `learn_rate`, a number or a schedule; and, where
        wanted, `weight_decay`.
    warmup_steps (int): Steps in which all rates rise from 0.
    total_steps (Union[int, str, None]): After the warm-up all rates fall linearly to 0 at this step; null: they do
        not. `nlp.initialize()` and `nlp.resume_training()` hand a variable such as ${training.max_steps} over as
        it stands: outside of a training loop no number of steps is known, and the rates do not fall.
    beta1, beta2, eps (float): AdamW's own.
    weight_decay (float): Decoupled decay of weight matrices; biases, norms, other vectors and the CRF's
        transitions have none.
    grad_clip (float): Largest norm of all gradients together; 0: no limit.
    RAISES (ValueError): A setting is out of its range.
    """
    for name, group in groups.items():
        unknown = set(group) - {"pattern", "learn_rate", "weight_decay"}
        if unknown or not {"pattern", "learn_rate"} <= set(group):
            raise ValueError(
                f"[training.optimizer] groups.{name} = {group}: a group has pattern and learn_rate, and may have "
                "weight_decay."
            )
    if isinstance(total_steps, str):
        if not total_steps.startswith("${"):
            raise ValueError(f'[training.optimizer] total_steps = "{total_steps}" must be a number or null.')
        total_steps = None
    if total_steps is not None and total_steps <= warmup_steps:
        raise ValueError(
            f"[training.optimizer] total_steps = {total_steps} must be more than warmup_steps = {warmup_steps}. "
            "Lower warmup_steps, or train for longer."
        )
    if grad_clip < 0 or weight_decay < 0 or warmup_steps < 0:
        raise ValueError("[training.optimizer] grad_clip, weight_decay and warmup_steps must not be negative.")
    return AdamW(
        learn_rate,
        groups=groups,
        warmup_steps=warmup_steps,
        total_steps=total_steps,
        betas=(beta1, beta2),
        eps=eps,
        weight_decay=weight_decay,
        grad_clip=grad_clip,
    )


class AdamW(Optimizer):
    """A thinc Optimizer that collects what all pipes hand over and steps it together.

    spaCy's loop lets every pipe hand its parameters over and then calls `step_schedules`: then the step is
    taken, clipped by the norm of all gradients. Where nobody calls it (`nlp.update(sgd=...)`), modules of ours
    are stepped before they are used again, all together, and single arrays at once. Which of the two it is shows
    at the end of the first step, so that single arrays are clipped by themselves in that one.

    Parameters of torch modules are stepped in place; so are the arrays of thinc layers and of other
    packages' shims, which share their memory with a torch tensor.
    """

    # thinc's Optimizer has __slots__; this class has not, so that attributes can be added here

    def __init__(
        self,
        learn_rate: Rate,
        *,
        groups: Dict[str, Dict[str, Any]],
        warmup_steps: int,
        total_steps: Optional[int],
        betas: Tuple[float, float],
        eps: float,
        weight_decay: float,
        grad_clip: float,
    ) -> None:
        super().__init__(
            0.0, L2=weight_decay, beta1=betas[0], beta2=betas[1], eps=eps, grad_clip=grad_clip, use_averages=False
        )
        self.step = 0
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        self._groups = [Group(g["pattern"], g.get("weight_decay", weight_decay)) for g in groups.values()]
        self._groups.append(Group("*", weight_decay))
        self._rates = [_as_schedule(g["learn_rate"]) for g in groups.values()] + [_as_schedule(learn_rate)]
        self._current = [rate() for rate in self._rates]
        self.learn_rate = self._current[-1] * self._factor()
        self._torch: Optional[torch.optim.AdamW] = None
        self._tensors: Dict[Key, torch.nn.Parameter] = {}
        self._pending: Dict[Key, Tensor] = {}
        self._dense: Dict[Key, Tensor] = {}
        self._names: Dict[Key, str] = {}
        self._named: Dict[int, int] = {}  # shims whose module has its names already
        self._shims: Dict[int, weakref.ref] = {}
        self._in_loop = False

    # What pipes and thinc call

    def name_pipes(self, pipes: Iterable[Tuple[str, Any]]) -> None:
        """Learn which parameter belongs to which pipe. A pipe may come twice; the first name counts."""
        for pipe_name, pipe in pipes:
            model = getattr(pipe, "model", None)
            if not isinstance(model, Model):
                continue
            for i, node in enumerate(model.walk()):
                for name in node.param_names:
                    self._names.setdefault((node.id, name), f"{pipe_name}/{node.name}.{i}.{name}")
                for shim in node.shims:
                    module = getattr(shim, "_model", None)
                    if isinstance(module, torch.nn.Module) and self._named.get(shim.id) != id(module):
                        self._named[shim.id] = id(module)
                        for name, _ in module.named_parameters():
                            self._names.setdefault((shim.id, name), f"{pipe_name}/{name}")

    def collect_module(self, shim: Any, module: torch.nn.Module) -> None:
        """Take over all gradients of a torch module; they are gone from it afterwards.

        shim (TorchShim): Its shim, which calls `settle` before the module is used again.
        """
        self._shims[shim.id] = weakref.ref(shim)
        for name, parameter in module.named_parameters():
            if parameter.grad is not None:
                gradient, parameter.grad = parameter.grad, None
                self._collect((shim.id, name), parameter, gradient)

    def __call__(
        self, key: Key, weights: FloatsXd, gradient: FloatsXd, *, lr_scale: float = 1.0
    ) -> Tuple[FloatsXd, FloatsXd]:
        """Take over the gradient of one array, which is zeroed; the array itself is stepped in place."""
        if len(gradient) < 1:
            return weights, gradient
        if key not in self._tensors:
            self._tensors[key] = torch.nn.Parameter(xp2torch(weights), requires_grad=False)
        shared = xp2torch(weights)
        if self._tensors[key].data_ptr() != shared.data_ptr():
            self._tensors[key].data = shared
        self._collect(key, self._tensors[key], xp2torch(gradient).clone() * lr_scale)
        gradient *= 0
        shim = self._shims[key[0]]() if key[0] in self._shims else None
        if shim is not None:
            # a module of ours, tensor by tensor: Language.rehearse
            shim.owe(self)
        elif not self._in_loop:
            self._take_step({key: self._pending.pop(key)})
        return weights, gradient

    def step_schedules(self) -> None:
        """End a training step: update all that was handed over, then move the rates on."""
        self.settle()
        self._in_loop = True
        self.step += 1
        self._current = [rate() for rate in self._rates]
        self.learn_rate = self._current[-1] * self._factor()

    # The step

    def _collect(self, key: Key, parameter: torch.nn.Parameter, gradient: Tensor) -> None:
        if key in self._pending:
            self.settle()
        if self._tensors.get(key) is not parameter:
            self._forget(key)
            self._tensors[key] = parameter
        self._pending[key] = gradient

    def _forget(self, key: Key) -> None:
        """Drop the moments of a parameter that is no more: its module was rebuilt."""
        old = self._tensors.pop(key, None)
        self._dense.pop(key, None)
        if old is not None and self._torch is not None:
            self._torch.state.pop(old, None)
            for group in self._torch.param_groups:
                group["params"] = [p for p in group["params"] if p is not old]

    def _factor(self) -> float:
        """Warm-up and decay, common to all groups."""
        if self.step < self.warmup_steps:
            return (self.step + 1) / (self.warmup_steps + 1)
        if self.total_steps is None:
            return 1.0
        return max(0.0, (self.total_steps - self.step) / (self.total_steps - self.warmup_steps))

    def _group_of(self, key: Key) -> int:
        name = self._names.get(key, f"?/{key[1]}")
        return next(i for i, group in enumerate(self._groups) if fnmatch.fnmatchcase(name, group.pattern))

    def settle(self) -> None:
        """Step everything that was handed over and not yet stepped."""
        if self._pending:
            # in spaCy's loop it is always step_schedules that finds something here
            self._in_loop = False
            pending, self._pending = self._pending, {}
            self._take_step(pending)

    def _take_step(self, gradients: Dict[Key, Tensor]) -> None:
        if self._torch is None:
            self._torch = self._make_torch()
        known = {id(p) for group in self._torch.param_groups for p in group["params"]}
        gradients = {key: g.coalesce() if g.is_sparse else g for key, g in gradients.items()}
        for key, gradient in gradients.items():
            parameter = self._tensors[key]
            if id(parameter) not in known:
                # two groups of torch's for each of ours: what decays, and what does not
                decays = parameter.dim() > 1 and key[1].rpartition(".")[2] not in NO_DECAY
                self._torch.param_groups[2 * self._group_of(key) + (not decays)]["params"].append(parameter)
            parameter.grad = self._spread(key, gradient) if gradient.is_sparse else gradient
        stepped = [self._tensors[key] for key in gradients]
        norm = _total_norm([g.values() if g.is_sparse else g for g in gradients.values()])
        if not torch.isfinite(norm):
            logger.warning("Step %d has a gradient that is not finite: it is passed over.", self.step)
        else:
            # torch divides gradients by `grad_scale` in the same pass over them that steps
            excess = norm / self.grad_clip if self.grad_clip else norm.new_zeros(())
            self._torch.grad_scale = excess.float() if excess > 1 else None  # type: ignore[attr-defined]
            for i, group in enumerate(self._torch.param_groups):
                group["lr"] = self._current[i // 2] * self._factor()
            with torch.no_grad():
                self._torch.step()
        for key, parameter in zip(gradients, stepped):
            parameter.grad = None
            if gradients[key].is_sparse:
                self._dense[key][gradients[key].indices()[0]] = 0.0

    def _spread(self, key: Key, gradient: Tensor) -> Tensor:
        """The gradient of an embedding table, which has few rows, in a tensor of full size, zero elsewhere, that is
        kept.

        To make such a tensor anew in each step takes as long as half of the step itself.
        """
        if key not in self._dense:
            self._dense[key] = torch.zeros_like(self._tensors[key])
        self._dense[key][gradient.indices()[0]] = gradient.values()
        return self._dense[key]

    def _make_torch(self) -> torch.optim.AdamW:
        placeholder = torch.nn.Parameter(torch.zeros(0))
        decays = [decay for group in self._groups for decay in (group.weight_decay, 0.0)]
        optimizer = torch.optim.AdamW(
            [{"params": [placeholder], "weight_decay": decay} for decay in decays[:1]],
            lr=0.0,
            betas=(self.b1, self.b2),
            eps=self.eps,
            fused=True,
        )
        optimizer.param_groups[0]["params"] = []
        for decay in decays[1:]:
            optimizer.param_groups.append({**optimizer.param_groups[0], "params": [], "weight_decay": decay})
        return optimizer


def _total_norm(gradients: Sequence[Tensor]) -> Tensor:
    """Norm of all gradients together. On a CPU by dot products, which take half the time of torch's norm."""
    if any(g.device.type != "cpu" or g.dtype != torch.float32 for g in gradients):
        return torch.nn.utils.get_total_norm(gradients)
    return torch.stack([torch.dot(g.flatten(), g.flatten()) for g in gradients]).double().sum().sqrt()


def _as_schedule(rate: Rate) -> Callable[[], float]:
    """A function that gives the rate of the next step; a schedule that ends keeps its last."""
    if isinstance(rate, (int, float)):
        return _Constant(float(rate))
    return _Schedule(rate)


class _Constant:
    def __init__(self, rate: float) -> None:
        self._rate = rate

    def __call__(self) -> float:
        return self._rate


class _Schedule:
    def __init__(self, rates: Iterable[float]) -> None:
        self._rates = iter(rates)
        self._last = 0.0

    def __call__(self) -> float:
        self._last = next(self._rates, self._last)
        return self._last
