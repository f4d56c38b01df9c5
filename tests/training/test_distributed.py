"""Two processes take the steps that one takes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import spacy
import torch
from thinc.api import Config

from .test_loop import changed, config, corpus_file, digest, train, weights, with_extras  # noqa: F401


def torchrun(config: Config, output: Path, *arguments: str) -> subprocess.CompletedProcess:  # noqa: F811
    path = output.with_suffix(".cfg")
    config.to_disk(path, interpolate=False)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command = [*launch, "-m", "spacy", "crf-ner", "train", str(path), "--output", str(output), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without it")
@pytest.mark.parametrize("pipeline", ["crf_ner", "tagger and crf_ner", "adversarial", "shared embedding"])
def test_two_processes_are_one(config: Config, pipeline: str, tmp_path: Path) -> None:  # noqa: F811
    config = changed(config, training__dropout=0.0, training__eval_frequency=5)
    if "tagger" in pipeline:
        config["nlp"]["pipeline"] = ["tagger", "crf_ner"]
        config["components"]["tagger"] = {"factory": "tagger"}
        config["training"]["optimizer"] = {"@optimizers": "Adam.v1", "grad_clip": 0.0, "learn_rate": 0.001}
        # every second document has no tags, and what has none has no gradient
        docs = list(spacy.tokens.DocBin().from_disk(config["paths"]["train"]).get_docs(spacy.blank("en").vocab))
        for doc in docs[::2]:
            for token in doc:
                token.tag_ = token.text[:1]
        spacy.tokens.DocBin(docs=docs).to_disk(tmp_path / "tags.spacy")
        config["paths"]["train"] = config["paths"]["dev"] = str(tmp_path / "tags.spacy")
    if pipeline == "adversarial":
        config = with_extras(config, adversarial_epsilon=0.5)
    if pipeline == "shared embedding":
        config["nlp"]["pipeline"] = ["transformer_cnn", "crf_ner"]
        tagger = config["components"]["crf_ner"]["model"]
        shared = {**tagger["tok2vec"], "width": 24}
        config["components"]["transformer_cnn"] = {"factory": "transformer_cnn", "model": shared}
        tagger["tok2vec"] = {"@architectures": "spacy.Tok2VecListener.v1", "width": 24, "upstream": "*"}
    alone, history = train(config, tmp_path / "one")
    done = torchrun(config, tmp_path / "two")
    assert done.returncode == 0, done.stderr[-3000:]
    expected, found = weights(alone), weights(spacy.load(tmp_path / "two" / "model-last"))
    for name in expected:
        if name.endswith("key.bias"):
            continue  # attention does not depend on it: its gradient is rounding errors, which Adam makes large
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=2e-5, err_msg=name)
    assert len((tmp_path / "two" / "metrics.jsonl").read_text().splitlines()) == len(history)


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without it")
def test_two_processes_resume_as_one_does(config: Config, tmp_path: Path) -> None:  # noqa: F811
    config = with_extras(config, checkpoint_steps=4)
    config["training"]["optimizer"]["total_steps"] = 30
    assert torchrun(changed(config, training__max_steps=11), tmp_path / "whole").returncode == 0
    assert torchrun(changed(config, training__max_steps=6), tmp_path / "cut").returncode == 0
    assert torchrun(changed(config, training__max_steps=11), tmp_path / "cut", "--resume").returncode == 0
    assert digest(tmp_path / "cut")["model"] == digest(tmp_path / "whole")["model"]
    assert digest(tmp_path / "cut")["tensors"] == digest(tmp_path / "whole")["tensors"]
