"""One fused AdamW step over the parameters of all pipes."""

import fnmatch
import math
import weakref
from typing import Any, Callable, Dict, Iterable, NamedTuple, Optional, Sequence, Set, Tuple, Union

import torch
from spacy.util import logger
from thinc.api import Model, Optimizer, xp2torch
from thinc.types import FloatsXd
from thinc.util import torch2xp
from torch import Tensor

from ..embedding.encoder import LAYER
from .gradients import SPIKE_POLICIES, Averages, SpikeGuard, SpikePolicy
from .schedules import DECAYS, Decay, rate_factor

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
    layer_decay (float): What the rate is multiplied by from each layer of an encoder to the one below it.
    frozen_until (int): The first step that changes them.
    """

    pattern: str
    weight_decay: float
    layer_decay: float = 1.0
    frozen_until: int = 0


def make_adamw(
    learn_rate: Rate = 1e-3,
    *,
    groups: Dict[str, Dict[str, Any]] = DEFAULT_GROUPS,
    warmup_steps: int = 0,
    total_steps: Union[int, str, None] = None,
    decay: Decay = "linear",
    decay_shape: float = 2.0,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    grad_clip: float = 1.0,
    spike_guard: Optional[SpikePolicy] = None,
    spike_deviations: float = 7.0,
    spike_window: int = 100,
    average_decay: float = 0.0,
) -> "AdamW":
    """AdamW over all pipes at once (Loshchilov & Hutter 2019).

    learn_rate (Union[float, Iterable[float]]): Rate, or any thinc schedule of rates, of what no group takes.
    groups (Dict[str, Dict]): Parameters with a rate of their own, under any name; the first that matches counts.
        Each has `pattern`, shell-style, on `pipe/parameter`; `learn_rate`, a number or a schedule; and, where
        wanted, `weight_decay`; `layer_decay`, what the rate is multiplied by from each layer of an encoder to the one
        below it; `frozen_until`, the step before which they stay as they are.
    warmup_steps (int): Steps in which all rates rise from 0.
    total_steps (Union[int, str, None]): After the warm-up all rates fall until this step; null: they do not.
        `nlp.initialize()` and `nlp.resume_training()` hand a variable such as ${training.max_steps} over as it stands:
        outside of a training loop no number of steps is known, and the rates do not fall.
    decay (str): How they fall: "linear", "cosine", "polynomial", "step" or "constant"; see `schedules.rate_factor`.
    decay_shape (float): For "polynomial" the power, for "step" the number of parts.
    beta1, beta2, eps (float): AdamW's own.
    weight_decay (float): Decoupled decay of weight matrices; biases, norms, other vectors and the CRF's
        transitions have none.
    grad_clip (float): Largest norm of all gradients together; 0: no limit.
    spike_guard (Optional[str]): What is done when the norm of all gradients is far larger than it was lately:
        "clip_mean", "clip_threshold" or "skip", see `gradients.SpikeGuard`; null: nothing. A gradient that is not
        finite is passed over in any case.
    spike_deviations (float): Standard deviations above the mean from which on it is a spike.
    spike_window (int): Steps that mean and deviation span.
    average_decay (float): Above 0: averages of the weights are kept, are what is evaluated and what is saved; this is
        the share of them that each step leaves, 0.999 for instance.
    RAISES (ValueError): A setting is out of its range.
    """
    own = {"weight_decay", "layer_decay", "frozen_until"}
    for name, group in groups.items():
        if set(group) - own - {"pattern", "learn_rate"} or not {"pattern", "learn_rate"} <= set(group):
            raise ValueError(
                f"[training.optimizer] groups.{name} = {group}: a group has pattern and learn_rate, and may have "
                f"{', '.join(sorted(own))}."
            )
        if not 0 < group.get("layer_decay", 1.0) <= 1 or group.get("frozen_until", 0) < 0:
            raise ValueError(
                f"[training.optimizer] groups.{name} = {group}: layer_decay is above 0 and at most 1, and frozen_until "
                "is not negative."
            )
    if decay not in DECAYS:
        raise ValueError(f'[training.optimizer] decay = "{decay}" is not one of {", ".join(DECAYS)}.')
    if decay_shape <= 0:
        raise ValueError(f"[training.optimizer] decay_shape = {decay_shape} must be above 0.")
    if spike_guard is not None and spike_guard not in SPIKE_POLICIES:
        raise ValueError(
            f'[training.optimizer] spike_guard = "{spike_guard}" is not one of {", ".join(SPIKE_POLICIES)}.'
        )
    if spike_deviations <= 0 or spike_window < 1:
        raise ValueError("[training.optimizer] spike_deviations must be above 0, and spike_window at least 1.")
    if not 0 <= average_decay < 1:
        raise ValueError(f"[training.optimizer] average_decay = {average_decay} must be at least 0 and below 1.")
    if isinstance(total_steps, str):
        if not total_steps.startswith("${"):
            raise ValueError(f'[training.optimizer] total_steps = "{total_steps}" must be a number or null.')
        total_steps = None
    if total_steps is not None and total_steps <= warmup_steps:
        raise ValueError(
            f"[training.optimizer] total_steps = {total_steps} must be more than warmup_steps = {warmup_steps}. "
            "Lower warmup_steps (--training.optimizer.warmup_steps), or train for longer: total_steps is max_steps in "
            "configs that init config writes."
        )
    if grad_clip < 0 or weight_decay < 0 or warmup_steps < 0:
        raise ValueError("[training.optimizer] grad_clip, weight_decay and warmup_steps must not be negative.")
    return AdamW(
        learn_rate,
        groups=groups,
        warmup_steps=warmup_steps,
        factor=(total_steps or 0, decay, decay_shape),
        betas=(beta1, beta2),
        eps=eps,
        weight_decay=weight_decay,
        grad_clip=grad_clip,
        guard=None if spike_guard is None else SpikeGuard(spike_guard, spike_deviations, spike_window),
        average=Averages(average_decay) if average_decay else None,
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
        factor: Tuple[int, Decay, float],
        betas: Tuple[float, float],
        eps: float,
        weight_decay: float,
        grad_clip: float,
        guard: Optional[SpikeGuard],
        average: Optional[Averages],
    ) -> None:
        super().__init__(
            0.0, L2=weight_decay, beta1=betas[0], beta2=betas[1], eps=eps, grad_clip=grad_clip, use_averages=False
        )
        self.step = 0
        self.warmup_steps = warmup_steps
        self.guard = guard
        self.average = average
        # what a training loop may lower when the score does not rise any more
        self.scale = 1.0
        self.gradient_norm = 0.0
        # what was done about the last step's gradient: a policy of SpikeGuard, or "not finite" where it was passed over
        self.spike: Optional[str] = None
        self._fall = factor
        own = ({key: value for key, value in g.items() if key != "learn_rate"} for g in groups.values())
        self._groups = [Group(**{"weight_decay": weight_decay, **settings}) for settings in own]
        self._groups.append(Group("*", weight_decay))
        self._group_names = list(groups)
        self._rates = [_as_schedule(g["learn_rate"]) for g in groups.values()] + [_as_schedule(learn_rate)]
        self._current = [rate() for rate in self._rates]
        self.learn_rate = self._current[-1] * self._factor()
        self._torch: Optional[torch.optim.AdamW] = None
        self._tensors: Dict[Key, torch.nn.Parameter] = {}
        self._pending: Dict[Key, Tensor] = {}
        self._dense: Dict[Key, Tensor] = {}
        self._names: Dict[Key, str] = {}
        self._used: Tuple[int, Set[int]] = 0, set()  # groups that have parameters, of so many names
        self._named: Dict[int, int] = {}  # shims whose module has its names already
        self._shims: Dict[int, weakref.ref] = {}
        self._in_loop = False
        self._waiting: Dict[Key, Dict[str, Tensor]] = {}

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

    def begin_loop(self, pipes: Iterable[Tuple[str, Any]]) -> None:
        """Learn, before the first step, the names of all parameters, and that `step_schedules` ends each step."""
        self.name_pipes(pipes)
        self._in_loop = True

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
            self._take_up(key, self._tensors[key])
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
        self.spike = None
        if not self._pending:
            self.gradient_norm = 0.0
        self.settle()
        self._in_loop = True
        self.step += 1
        self._current = [rate() for rate in self._rates]
        self.learn_rate = self._current[-1] * self._factor()

    @property
    def learn_rates(self) -> Dict[str, float]:
        """Rate of the next step of each group that has parameters; `learn_rate` is that of all else."""
        if self._used[0] != len(self._names):
            self._used = len(self._names), {self._group_of(key) for key in self._names}
        factor = self._factor()
        return {
            name: rate * factor if self.step >= group.frozen_until else 0.0
            for i, (name, group, rate) in enumerate(zip(self._group_names, self._groups, self._current))
            if i in self._used[1]
        }

    # The step

    def _collect(self, key: Key, parameter: torch.nn.Parameter, gradient: Tensor) -> None:
        if key in self._pending:
            self.settle()
        if self._tensors.get(key) is not parameter:
            self._forget(key)
            self._tensors[key] = parameter
            self._take_up(key, parameter)
        self._pending[key] = gradient

    def _forget(self, key: Key) -> None:
        """Drop the moments of a parameter that is no more: its module was rebuilt."""
        old = self._tensors.pop(key, None)
        if old is None:
            return
        self._dense.pop(key, None)
        if self.average is not None:
            self.average.tensors.pop(key, None)
        if self._torch is not None:
            self._torch.state.pop(old, None)
            for group in self._torch.param_groups:
                group["params"] = [p for p in group["params"] if p is not old]

    def _factor(self) -> float:
        """Warm-up and decay, common to all groups."""
        return self.scale * rate_factor(self.step, self.warmup_steps, *self._fall)

    def _group_of(self, key: Key) -> int:
        name = self._name_of(key)
        return next(i for i, group in enumerate(self._groups) if fnmatch.fnmatchcase(name, group.pattern))

    def _name_of(self, key: Key) -> str:
        return self._names.get(key, f"?/{key[1]}")

    def _depth(self, key: Key) -> int:
        """How many layers of its encoder lie above a parameter."""
        pipe, _, name = self._name_of(key).partition("/")
        before = LAYER.split(name)[0]
        layers = [
            int(found.group(1))
            for other in self._names.values()
            if other.startswith(f"{pipe}/") and (found := LAYER.search(other))
        ]
        found = LAYER.search(name)
        if found:
            return max(layers, default=int(found.group(1))) - int(found.group(1))
        # what goes into the first layer lies below it; all else stands beside or above the layers
        return max(layers) + 1 if layers and "embedding" in before else 0

    def settle(self) -> None:
        """Step everything that was handed over and not yet stepped."""
        if self._pending:
            # in spaCy's loop it is always step_schedules that finds something here
            self._in_loop = False
            pending, self._pending = self._pending, {}
            self._take_step(pending)

    def _take_step(self, gradients: Dict[Key, Tensor]) -> None:
        gradients = {
            key: g for key, g in gradients.items() if self.step >= self._groups[self._group_of(key)].frozen_until
        }
        if not gradients:
            self.gradient_norm = 0.0
            return
        if self._torch is None:
            self._torch = self._make_torch()
        known = {id(p) for group in self._torch.param_groups for p in group["params"]}
        gradients = {key: g.coalesce() if g.is_sparse else g for key, g in gradients.items()}
        for key, gradient in gradients.items():
            parameter = self._tensors[key]
            if id(parameter) not in known:
                self._torch_group(key, parameter)["params"].append(parameter)
            parameter.grad = self._spread(key, gradient) if gradient.is_sparse else gradient
        stepped = [self._tensors[key] for key in gradients]
        norm = _total_norm([g.values() if g.is_sparse else g for g in gradients.values()])
        self.gradient_norm = float(norm)
        allowed = self._allowed(self.gradient_norm)
        if allowed is not None:
            # torch divides gradients by `grad_scale` in the same pass over them that steps
            excess = norm / allowed
            self._torch.grad_scale = excess.float() if excess > 1 else None  # type: ignore[attr-defined]
            for group in self._torch.param_groups:
                group["lr"] = self._current[group["of"]] * self._factor() * group["share"]
            with torch.no_grad():
                self._torch.step()
            if self.average is not None:
                self.average.update(list(gradients), stepped)
        for key, parameter in zip(gradients, stepped):
            parameter.grad = None
            if gradients[key].is_sparse:
                self._dense[key][gradients[key].indices()[0]] = 0.0

    def _allowed(self, norm: float) -> Optional[float]:
        """Largest norm that the gradients of this step may have; None: it is passed over."""
        if not math.isfinite(norm):
            self.spike = "not finite"
            logger.warning("Step %d has a gradient that is not finite: it is passed over.", self.step)
            return None
        allowed = self.grad_clip or math.inf
        if self.guard is not None:
            usual = self.guard.mean
            bound = self.guard.allowed(norm)
            if bound != math.inf:
                self.spike = self.guard.policy
                done = "it is passed over" if bound is None else f"it is scaled down to {bound:.3g}"
                logger.warning(
                    "Step %d has a gradient of norm %.3g, where %.3g is usual: %s.", self.step, norm, usual, done
                )
            if bound is None:
                return None
            allowed = min(allowed, bound)
        return allowed

    def _spread(self, key: Key, gradient: Tensor) -> Tensor:
        """The gradient of an embedding table, which has few rows, in a tensor of full size, zero elsewhere, that is
        kept.

        To make such a tensor anew in each step takes as long as half of the step itself.
        """
        if key not in self._dense:
            self._dense[key] = torch.zeros_like(self._tensors[key])
        self._dense[key][gradient.indices()[0]] = gradient.values()
        return self._dense[key]

    def _torch_group(self, key: Key, parameter: torch.nn.Parameter) -> Dict[str, Any]:
        """Torch's group for a parameter: of one of our groups, one depth of layer, and either decaying or not."""
        assert self._torch is not None
        of = self._group_of(key)
        group = self._groups[of]
        decays = parameter.dim() > 1 and key[1].rpartition(".")[2] not in NO_DECAY
        share = group.layer_decay ** self._depth(key) if group.layer_decay < 1 else 1.0
        wanted = {"of": of, "share": share, "weight_decay": group.weight_decay if decays else 0.0}
        for known in self._torch.param_groups:
            if all(known[name] == value for name, value in wanted.items()):
                return known
        self._torch.param_groups.append({**self._torch.param_groups[0], "params": [], **wanted})
        return self._torch.param_groups[-1]

    def _make_torch(self) -> torch.optim.AdamW:
        placeholder = torch.nn.Parameter(torch.zeros(0))
        optimizer = torch.optim.AdamW([placeholder], lr=0.0, betas=(self.b1, self.b2), eps=self.eps, fused=True)
        # a group that no parameter belongs to, which others are made after
        optimizer.param_groups[0].update(params=[], of=-1, share=1.0)
        return optimizer

    # Averages of the weights, as thinc and our modules look for them

    @property
    def averages(self) -> Optional[Dict[Any, FloatsXd]]:  # type: ignore[override]
        """Averages by what `Model.use_params` asks for; None where none are kept."""
        if self.average is None:
            return None
        found: Dict[Any, FloatsXd] = {}
        for key, average in self.average.tensors.items():
            found[key] = found[f"pytorch_{key[0]}_{key[1]}"] = torch2xp(average)  # type: ignore[assignment]
        return found

    @averages.setter
    def averages(self, value: Any) -> None:
        """thinc's own constructor sets it."""

    # What a checkpoint holds

    def state(self, names: Dict[Key, str]) -> Tuple[Dict[str, Tensor], Dict[str, Any]]:
        """Everything that a later step depends on.

        names: What parameters are called for good, since their keys differ from process to process.
        RETURNS: Tensors by name, and values that JSON can hold.
        """
        self.settle()
        tensors: Dict[str, Tensor] = {}
        for key, parameter in self._tensors.items():
            for part, value in (self._torch.state.get(parameter, {}) if self._torch else {}).items():
                tensors[f"{names[key]}|{part}"] = value
        for key, waiting in self._waiting.items():
            tensors.update({f"{names[key]}|{part}": value for part, value in waiting.items()})
        if self.average is not None:
            tensors.update({f"{names[key]}|average": value for key, value in self.average.tensors.items()})
        values = {
            "step": self.step,
            "scale": self.scale,
            "guard": self.guard.state() if self.guard is not None else None,
            "average_steps": self.average.steps if self.average is not None else 0,
        }
        return tensors, values

    def restore(self, names: Dict[Key, str], tensors: Dict[str, Tensor], values: Dict[str, Any]) -> None:
        """Go on from what `state` gave, in a pipeline whose pipes are the same.

        Rates are moved on as often as they were.
        """
        for _ in range(values["step"]):
            self.step_schedules()
        self.scale = values["scale"]
        self.learn_rate = self._current[-1] * self._factor()
        if self.guard is not None and values["guard"] is not None:
            self.guard.restore(values["guard"])
        if self.average is not None:
            self.average.steps = values["average_steps"]
        keys = {name: key for key, name in names.items()}
        for name, tensor in tensors.items():
            path, _, part = name.rpartition("|")
            if part != "average":
                self._waiting.setdefault(keys[path], {})[part] = tensor
            elif self.average is not None:
                self.average.tensors[keys[path]] = tensor

    def _take_up(self, key: Key, parameter: torch.nn.Parameter) -> None:
        """Give a parameter, when it is first seen, the state that was restored for it."""
        if self.average is not None and key in self.average.tensors:
            self.average.tensors[key] = self.average.tensors[key].to(parameter.device)
        found = self._waiting.pop(key, None)
        if found is None:
            return
        if self._torch is None:
            self._torch = self._make_torch()
        self._torch_group(key, parameter)["params"].append(parameter)
        self._torch.state[parameter] = {part: value.to(parameter.device) for part, value in found.items()}


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
