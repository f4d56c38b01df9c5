"""A small training to compare others with: its configuration, what it must end in, ways to stop it."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Dict, Optional

import numpy as np
import pytest
from spacy.language import Language
from thinc.api import Config

import spacy_crf_ner
from spacy_crf_ner.training.checkpoint import newest
from spacy_crf_ner.training.loop import Training

# What is trained, and on what; `paths` and the encoder are to be filled in.
PIPELINE = """
[paths]
train = null
dev = null

[system]
seed = 3

[nlp]
lang = "en"
pipeline = ["crf_ner"]

[components]

[components.crf_ner]
factory = "crf_ner"

[components.crf_ner.model]
@architectures = "spacy_crf_ner.CRFTagger.v1"

[components.crf_ner.model.tok2vec]
@architectures = "spacy_crf_ner.TransformerCNN.v1"
encoder = null

[corpora]

[corpora.train]
@readers = "spacy.Corpus.v1"
path = ${paths.train}

[corpora.dev]
@readers = "spacy.Corpus.v1"
path = ${paths.dev}
"""
SMALL = (
    PIPELINE
    + """
[training]
train_corpus = "corpora.train"
dev_corpus = "corpora.dev"
seed = ${system.seed}
gpu_allocator = null
dropout = 0.2
max_steps = 11
eval_frequency = 4
patience = 0

[training.batcher]
@batchers = "spacy_crf_ner.batch_by_tokens.v1"
size = 14

[training.optimizer]
@optimizers = "spacy_crf_ner.AdamW.v1"
learn_rate = 0.01
warmup_steps = 2
total_steps = ${training.max_steps}

[training.optimizer.groups]

[training.logger]
@loggers = "spacy.ConsoleLogger.v1"
"""
)


def changed(config: Config, **settings: Any) -> Config:
    """The configuration with other settings; double underscores stand for dots."""
    overrides = {key.replace("__", "."): value for key, value in settings.items()}
    return Config().from_str(config.to_str(interpolate=False), overrides=overrides, interpolate=False)


def with_extras(config: Config, **settings: Any) -> Config:
    return Config({**config, "training_extras": {**config.get("training_extras", {}), **settings}})


def train(config: Config, output: Optional[Path] = None, **settings: Any) -> Any:
    with open(os.devnull, "w") as nowhere:
        return spacy_crf_ner.train(config, output, stdout=nowhere, **settings)


def weights(nlp: Language) -> Dict[str, np.ndarray]:
    """All parameters of all pipes."""
    found = {}
    for name, pipe in nlp.pipeline:
        for i, node in enumerate(pipe.model.walk()):
            found.update({f"{name}/{i}/{key}": node.get_param(key) for key in node.param_names if node.has_param(key)})
            for shim in node.shims:
                module = shim._model
                found.update({f"{name}/{i}/{key}": p.detach().numpy() for key, p in module.named_parameters()})
    return {key: np.array(value) for key, value in found.items()}


def digest(output: Path) -> Dict[str, str]:
    """SHA-256 of what a training must end in: weights, moments, metrics."""
    last = newest(output)
    files = {
        "metrics": output / "metrics.jsonl",
        "model": output / "model-last" / "crf_ner" / "model",
        "best": output / "model-best" / "crf_ner" / "model",
        "tensors": last.path / "tensors.safetensors",
    }
    found = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    found["state"] = json.dumps({key: last.state[key] for key in ("progress", "optimizer", "batches", "random")})
    return found


class Stop(Exception):
    pass


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int, error: Exception) -> None:
    """Have the process die, as far as the loop can tell, when a step is done."""
    step_of = Training._step

    def dies(self: Training, *args: Any) -> Any:
        info = step_of(self, *args)
        if self.progress.step == step:
            raise error
        return info

    monkeypatch.setattr(Training, "_step", dies)


def break_off(monkeypatch: pytest.MonkeyPatch, config: Config, output: Path, after: int) -> None:
    """A training that dies when so many steps are done."""
    with monkeypatch.context() as patch:
        stop_after(patch, after, Stop())
        with pytest.raises(Stop):
            train(config, output)


def assert_resumed_as_unbroken(monkeypatch: pytest.MonkeyPatch, config: Config, folder: Path, after: int) -> None:
    train(config, folder / "whole")
    break_off(monkeypatch, config, folder / "cut", after)
    train(config, folder / "cut", resume=True)
    assert digest(folder / "cut") == digest(folder / "whole")
