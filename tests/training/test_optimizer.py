import pickle
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from spacy.language import Language
from thinc.api import Linear, Model, chain, warmup_linear

from spacy_crf_ner.crf.model import head_module
from spacy_crf_ner.torch_shim import TorchShim
from spacy_crf_ner.training.optimizer import AdamW, make_adamw

from ..conftest import make_examples, make_nlp


class Pipe:
    """The least that an optimizer sees of a pipe."""

    def __init__(self, name: str, model: Model) -> None:
        self.name, self.model = name, model


def build_linear(cfg: dict) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(cfg["n"], 3), torch.nn.LayerNorm(3))


def torch_pipe(name: str, n: int) -> Pipe:
    shim = TorchShim(build_linear)
    shim.build({"n": n})
    return Pipe(name, Model("m", lambda model, X, is_train: (X, lambda d: d), shims=[shim]))


def thinc_pipe(name: str) -> Pipe:
    model = chain(Linear(4, 5), Linear(2, 4))
    model.initialize()
    return Pipe(name, model)


def fill(pipes: list, seed: int) -> list:
    """Give all parameters random gradients. RETURNS: them, as torch tensors, in the order of `parameters`."""
    rng = np.random.default_rng(seed)
    gradients = []
    for pipe in pipes:
        for node in pipe.model.walk():
            for shim in node.shims:
                for parameter in shim.module.parameters():
                    gradient = rng.normal(size=tuple(parameter.shape)).astype("f")
                    parameter.grad = torch.from_numpy(gradient.copy())
                    gradients.append(torch.from_numpy(gradient))
            for name in node.param_names:
                gradient = rng.normal(size=node.get_param(name).shape).astype("f")
                node.set_grad(name, gradient.copy())
                gradients.append(torch.from_numpy(gradient))
    return gradients


def parameters(pipes: list) -> list:
    values = []
    for pipe in pipes:
        for node in pipe.model.walk():
            for shim in node.shims:
                values += [p.detach().clone() for p in shim.module.parameters()]
            values += [torch.tensor(node.get_param(name)) for name in node.param_names]
    return values


def take_step(optimizer: AdamW, pipes: list) -> None:
    """One step as spacy train takes it."""
    optimizer.name_pipes((pipe.name, pipe) for pipe in pipes)
    for pipe in pipes:
        pipe.model.finish_update(optimizer)
    optimizer.step_schedules()


def test_it_is_adamw_with_one_clip_over_everything() -> None:
    pipes = [torch_pipe("a", 2), thinc_pipe("b"), torch_pipe("c", 4)]
    reference = [torch.nn.Parameter(p) for p in parameters(pipes)]
    decays = [p for p in reference if p.dim() > 1]
    others = [p for p in reference if p.dim() == 1]
    theirs = torch.optim.AdamW(
        [{"params": decays, "weight_decay": 0.1}, {"params": others, "weight_decay": 0}], lr=0.01
    )
    ours = make_adamw(0.01, weight_decay=0.1, grad_clip=1.0, groups={})
    ours.step_schedules()  # a loop shows itself as one at the end of its first step
    for step in range(5):
        for parameter, gradient in zip(reference, fill(pipes, step)):
            parameter.grad = gradient
        torch.nn.utils.clip_grad_norm_(reference, 1.0)
        theirs.step()
        take_step(ours, pipes)
        for a, b in zip(parameters(pipes), reference):
            torch.testing.assert_close(a, b.detach(), rtol=1e-5, atol=1e-6)


def test_groups_have_their_own_rate_and_decay() -> None:
    pipes = [torch_pipe("encoder", 2), thinc_pipe("tagger"), torch_pipe("rest", 4)]
    groups = {
        "still": {"pattern": "encoder/*", "learn_rate": 0.0},
        "shrink": {"pattern": "tagger/linear.*.W", "learn_rate": 0.5, "weight_decay": 1.0},
    }
    optimizer = make_adamw(0.01, groups=groups, weight_decay=0.0, grad_clip=0.0)
    before = parameters(pipes)
    for gradient in fill(pipes, 0):
        gradient.zero_()
    for pipe in pipes:
        for node in pipe.model.walk():
            for shim in node.shims:
                for parameter in shim.module.parameters():
                    parameter.grad = torch.ones_like(parameter)
            for name in node.param_names:
                node.get_grad(name)[:] = 0.0
    take_step(optimizer, pipes)
    after = parameters(pipes)
    for a, b in zip(before[:4], after[:4]):
        assert torch.equal(a, b)
    for a, b in zip(before[4:8], after[4:8]):
        torch.testing.assert_close(b, a * 0.5 if a.dim() == 2 else a)
    for a, b in zip(before[8:], after[8:]):
        torch.testing.assert_close(b, a - 0.01)


def test_warm_up_and_decay_are_linear() -> None:
    optimizer = make_adamw(1.0, warmup_steps=3, total_steps=7)
    rates = []
    for _ in range(9):
        rates.append(optimizer.learn_rate)
        optimizer.step_schedules()
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0])


def test_any_schedule_can_drive_any_group() -> None:
    pipes = [torch_pipe("a", 2), torch_pipe("b", 2)]
    groups = {"a": {"pattern": "a/*", "learn_rate": iter([0.0, 0.1])}}
    optimizer = make_adamw(warmup_linear(0.3, 2, 10), groups=groups, weight_decay=0.0)
    states = [parameters(pipes)]
    for step in range(3):
        fill(pipes, step)
        take_step(optimizer, pipes)
        states.append(parameters(pipes))
    moved = [[not torch.equal(x, y) for x, y in zip(a, b)] for a, b in zip(states, states[1:])]
    assert moved == [[False] * 8, [True] * 8, [True] * 8]
    assert optimizer.learn_rate == pytest.approx(0.3 * 7 / 8)


def test_without_a_loop_the_step_is_taken_before_the_weights_are_used() -> None:
    pipe = torch_pipe("a", 2)
    optimizer = make_adamw(0.01, groups={})
    before = parameters([pipe])
    fill([pipe], 0)
    pipe.model.finish_update(optimizer)
    assert not torch.equal(parameters([pipe])[0], before[0])


def test_without_a_loop_thinc_layers_step_at_once() -> None:
    pipe = thinc_pipe("a")
    optimizer = make_adamw(0.01, groups={})
    before = [node.get_param("W").copy() for node in pipe.model.walk() if "W" in node.param_names]
    fill([pipe], 0)
    pipe.model.finish_update(optimizer)
    after = [node.get_param("W") for node in pipe.model.walk() if "W" in node.param_names]
    assert not any(np.allclose(a, b) for a, b in zip(before, after))
    assert not any(node.get_grad("W").any() for node in pipe.model.walk() if "W" in node.param_names)


def test_a_gradient_that_is_not_finite_never_reaches_the_weights() -> None:
    pipes = [torch_pipe("a", 2), thinc_pipe("b")]
    optimizer = make_adamw(0.01, groups={})
    fill(pipes, 0)
    take_step(optimizer, pipes)
    before = parameters(pipes)
    fill(pipes, 1)
    pipes[0].model.shims[0]._model[0].weight.grad[0, 0] = float("nan")
    take_step(optimizer, pipes)
    for a, b in zip(before, parameters(pipes)):
        assert torch.equal(a, b)
    fill(pipes, 2)
    take_step(optimizer, pipes)
    assert all(torch.isfinite(p).all() for p in parameters(pipes))


def test_a_module_that_was_rebuilt_starts_anew(encoder: str) -> None:
    nlp = make_nlp(encoder)
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    optimizer = make_adamw(0.01, groups={})
    nlp.update(examples, sgd=optimizer)
    nlp.get_pipe("crf_ner").add_label("NEW")
    for _ in range(2):
        nlp.update(examples, sgd=optimizer)
    nlp("Fever")
    head = head_module(nlp.get_pipe("crf_ner").model)
    known = {id(p) for group in optimizer._torch.param_groups for p in group["params"]}
    assert {id(p) for p in head.parameters()} <= known
    n_parameters = sum(
        1 for node in nlp.get_pipe("crf_ner").model.walk() for s in node.shims for _ in s.module.parameters()
    )
    assert len(known) <= n_parameters


def test_the_encoder_has_its_own_rate_by_default(encoder: str) -> None:
    nlp: Language = make_nlp(encoder)
    nlp.initialize(lambda: make_examples(nlp))
    optimizer: Any = make_adamw()
    nlp.update(make_examples(nlp), sgd=optimizer)
    nlp("Fever")
    rates = {id(p): group["lr"] for group in optimizer._torch.param_groups for p in group["params"]}
    embedding = nlp.get_pipe("crf_ner").model.get_ref("tok2vec").shims[0].module
    for name, parameter in embedding.named_parameters():
        if id(parameter) in rates:
            assert rates[id(parameter)] == (1e-4 if name.startswith("encoder.") else 1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"groups": {"a": {"pattern": "*"}}}, "groups.a"),
        ({"groups": {"a": {"pattern": "*", "learn_rate": 1, "speed": 2}}}, "groups.a"),
        ({"warmup_steps": 5, "total_steps": 5}, "total_steps = 5 .*--training.optimizer.warmup_steps"),
        ({"grad_clip": -1.0}, "grad_clip"),
        ({"total_steps": "many"}, "total_steps"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=rf"\[training\.optimizer\].*{message}"):
        make_adamw(**settings)


def test_any_pipe_is_up_to_date_whenever_it_is_used() -> None:
    # a thinc embedding under a torch head: the step must not come in the middle of a forward pass
    nlp = spacy.blank("en")
    embedding = {"@architectures": "spacy.HashEmbedCNN.v2", "pretrained_vectors": None, "width": 16, "depth": 1,
                 "embed_size": 50, "window_size": 1, "maxout_pieces": 2, "subword_features": False}  # fmt: skip
    nlp.add_pipe("crf_ner", config={"model": {"@architectures": "spacy_crf_ner.CRFTagger.v1", "tok2vec": embedding}})
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    optimizer = make_adamw(0.05, groups={})
    pipe, doc = nlp.get_pipe("crf_ner"), nlp.make_doc("Fever in Lyon")
    for _ in range(3):
        nlp.update(examples, sgd=optimizer)
        assert np.array_equal(pipe.model.predict([doc])[0], pipe.model.predict([doc])[0])
        optimizer.step_schedules()


def test_one_rehearsal_moves_the_weights(trained: Language) -> None:
    for with_loop in (False, True):
        nlp = pickle.loads(pickle.dumps(trained))
        optimizer = nlp.resume_training(sgd=make_adamw(0.01, groups={}))
        examples = make_examples(nlp)
        nlp.update(examples, sgd=optimizer)
        if with_loop:
            optimizer.step_schedules()
        head = head_module(nlp.get_pipe("crf_ner").model)
        before = head.linear.weight.detach().clone()
        nlp.rehearse(examples, sgd=optimizer)
        head = head_module(nlp.get_pipe("crf_ner").model)
        assert not torch.equal(head.linear.weight, before)
        assert not optimizer._pending


def test_copies_of_a_module_have_moments_of_their_own() -> None:
    first = torch_pipe("a", 2)
    pipes = [first, Pipe("b", first.model.copy())]
    optimizer = make_adamw(0.01, groups={})
    for step in range(4):
        fill(pipes, step)
        take_step(optimizer, pipes)
    steps = {float(state["step"]) for state in optimizer._torch.state.values()}
    assert steps == {4.0}
    assert len(optimizer._torch.state) == 8


def test_biases_and_transitions_never_decay(encoder: str) -> None:
    from thinc.api import Maxout

    nlp = make_nlp(encoder, overlap=True, target_spans="all")
    examples = make_examples(nlp, "all")
    nlp.initialize(lambda: examples)
    maxout = Maxout(3, 2, nP=2)
    maxout.initialize()
    pipe = Pipe("m", maxout)
    fill([pipe], 0)
    optimizer = make_adamw(weight_decay=0.5)
    nlp.update(examples, sgd=optimizer)
    pipe.model.finish_update(optimizer)
    nlp("Fever")
    decays = {id(p): group["weight_decay"] for group in optimizer._torch.param_groups for p in group["params"]}
    head = head_module(nlp.get_pipe("crf_ner").model)
    assert [decays[id(p)] for p in head.crf.parameters()] == [0.0, 0.0, 0.0]
    assert decays[id(head.linear.weight)] == 0.5
    assert {name: decays[id(p)] for (_, name), p in optimizer._tensors.items() if name in "Wb"} == {"W": 0.5, "b": 0.0}


def test_gradients_of_few_rows_step_as_dense_ones_do() -> None:
    """An embedding table whose gradient is sparse: the same steps, with the same clip."""
    tables = []
    for sparse in (False, True):
        torch.manual_seed(0)
        table = torch.nn.Embedding(20, 4, sparse=sparse)
        shim = TorchShim(lambda cfg, table=table: table)
        shim.build({})
        optimizer = make_adamw(0.1, groups={}, grad_clip=0.5)
        for step in range(3):
            for ids in ([1, 5, 5, step], [5, 7, 0, 1]):
                (table(torch.tensor(ids)) * torch.arange(1.0, 5.0)).pow(2).sum().backward()
            optimizer.collect_module(shim, table)
            optimizer.step_schedules()
        tables.append(table.weight.detach())
    torch.testing.assert_close(tables[1], tables[0], rtol=1e-5, atol=1e-6)


def test_lower_layers_have_lower_rates(encoder: str) -> None:
    groups = {"encoder": {"pattern": "*/encoder.*", "learn_rate": 0.1, "layer_decay": 0.5}}
    nlp = make_nlp(encoder)
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    optimizer = make_adamw(0.2, groups=groups)
    nlp.update(examples, sgd=optimizer)
    nlp("Fever")
    rates = {id(p): group["lr"] for group in optimizer._torch.param_groups for p in group["params"]}
    named = {name: rates[id(p)] for (_, name), p in optimizer._tensors.items()}
    assert {named[name] for name in named if ".layer.1." in name} == {0.1}
    assert {named[name] for name in named if ".layer.0." in name} == {0.05}
    assert {named[name] for name in named if "embeddings" in name} == {0.025}
    assert {named[name] for name in named if not name.startswith("encoder.")} == {0.2}


def test_a_group_can_be_frozen_for_a_while() -> None:
    pipes = [torch_pipe("a", 2), torch_pipe("b", 2)]
    groups = {"late": {"pattern": "a/*", "learn_rate": 0.1, "frozen_until": 2}}
    optimizer, alone = make_adamw(0.1, groups=groups), make_adamw(0.1, groups={})
    reference = Pipe("b", pipes[1].model.copy())
    for step in range(4):
        before = parameters(pipes[:1])
        fill(pipes, step)
        for p, q in zip(reference.model.shims[0].module.parameters(), pipes[1].model.shims[0].module.parameters()):
            p.grad = q.grad.clone()
        take_step(optimizer, pipes)
        if step < 2:
            take_step(alone, [reference])
            assert all(torch.equal(a, b) for a, b in zip(before, parameters(pipes[:1])))
            # what is frozen has no part in the norm by which the others are clipped
            assert all(torch.equal(a, b) for a, b in zip(parameters([reference]), parameters(pipes[1:])))
        else:
            assert not any(torch.equal(a, b) for a, b in zip(before, parameters(pipes[:1])))


def test_a_step_without_gradients_has_no_norm() -> None:
    """Neither that of the step before it, where nothing was handed over or all of it is frozen."""
    optimizer, pipes = make_adamw(0.1, groups={}), [torch_pipe("a", 2)]
    fill(pipes, 0)
    take_step(optimizer, pipes)
    assert optimizer.gradient_norm > 0
    optimizer.step_schedules()
    assert optimizer.gradient_norm == 0
    frozen = make_adamw(0.1, groups={"all": {"pattern": "*", "learn_rate": 0.1, "frozen_until": 1}})
    frozen.gradient_norm = 3.0
    fill(pipes, 1)
    take_step(frozen, pipes)
    assert frozen.gradient_norm == 0


@pytest.mark.parametrize("policy", ["clip_mean", "clip_threshold", "skip", None])
def test_a_spike_hardly_moves_the_weights(policy: Any) -> None:
    pipe = torch_pipe("a", 2)
    optimizer = make_adamw(0.01, groups={}, grad_clip=0.0, weight_decay=0.0, spike_guard=policy, eps=1.0)
    for step in range(20):
        fill([pipe], step)
        take_step(optimizer, [pipe])
    usual = optimizer.gradient_norm
    before = parameters([pipe])
    fill([pipe], 21)
    for parameter in pipe.model.shims[0].module.parameters():
        parameter.grad *= 1e6
    take_step(optimizer, [pipe])
    assert optimizer.gradient_norm > 1e4 * usual
    largest = max(float(state["exp_avg"].abs().max()) for state in optimizer._torch.state.values())
    moved = not all(torch.equal(a, b) for a, b in zip(before, parameters([pipe])))
    assert moved == (policy != "skip")
    assert (largest < 100) == (policy is not None)


def test_averages_are_what_is_evaluated(encoder: str) -> None:
    nlp = make_nlp(encoder)
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    optimizer = make_adamw(0.05, groups={}, average_decay=0.5)
    head = head_module(nlp.get_pipe("crf_ner").model)
    expected = None
    for step in range(4):
        nlp.update(examples, sgd=optimizer)
        optimizer.step_schedules()
        keep = min(0.5, (1 + step) / (10 + step)) if expected is not None else 0.0
        now = head.linear.weight.detach().clone()
        expected = now if expected is None else keep * expected + (1 - keep) * now
    with nlp.use_params(optimizer.averages):
        torch.testing.assert_close(head.linear.weight.detach(), expected)
    assert torch.equal(head.linear.weight, now)


@pytest.mark.parametrize(
    "settings", [{}, {"average_decay": 0.9}, {"spike_guard": "skip"}, {"learn_rate": warmup_linear(0.1, 3, 9)}]
)
def test_it_goes_on_from_its_state(settings: dict) -> None:
    def make() -> Any:
        rate = warmup_linear(0.1, 3, 9) if "learn_rate" in settings else 0.1
        return make_adamw(**{**settings, "learn_rate": rate}, groups={}, warmup_steps=3, total_steps=20)

    def names(pipes: list) -> dict:
        found = {}
        for pipe in pipes:
            for i, node in enumerate(pipe.model.walk()):
                found.update({(node.id, name): f"{pipe.name}{i}{name}" for name in node.param_names})
                for shim in node.shims:
                    found.update(
                        {(shim.id, name): f"{pipe.name}{i}{name}" for name, _ in shim.module.named_parameters()}
                    )
        return found

    pipes = [torch_pipe("a", 2), thinc_pipe("b")]
    optimizer = make()
    for step in range(12):
        fill(pipes, step)
        take_step(optimizer, pipes)
    copies = [Pipe(pipe.name, pipe.model.copy()) for pipe in pipes]
    other = make()
    tensors, values = optimizer.state(names(pipes))
    other.restore(names(copies), {name: tensor.clone() for name, tensor in tensors.items()}, values)
    for step in range(12, 16):
        fill(pipes, step)
        take_step(optimizer, pipes)
        fill(copies, step)
        take_step(other, copies)
        assert all(torch.equal(a, b) for a, b in zip(parameters(pipes), parameters(copies)))
        assert other.learn_rate == optimizer.learn_rate
    again, _ = other.state(names(copies))
    whole, _ = optimizer.state(names(pipes))
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert whole.keys() == again.keys()
