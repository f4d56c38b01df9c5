"""Two processes take the steps that one takes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
import spacy
import torch
from thinc.api import Config

from spacy_crf_ner.training.checkpoint import newest

from .runs import changed, digest, train, weights, with_extras

needs_distributed = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without it")


def command(config: Config, output: Path, *arguments: str) -> List[str]:
    path = output.with_suffix(".cfg")
    config.to_disk(path, interpolate=False)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    return [*launch, "-m", "spacy", "crf-ner", "train", str(path), "--output", str(output), *arguments]


def torchrun(*arguments: Any) -> subprocess.CompletedProcess:
    return subprocess.run(command(*arguments), capture_output=True, text=True, check=False, timeout=300)


@needs_distributed
@pytest.mark.parametrize("pipeline", ["crf_ner", "tagger and crf_ner", "adversarial", "shared embedding"])
def test_two_processes_are_one(config: Config, pipeline: str, tmp_path: Path) -> None:
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
@needs_distributed
def test_two_processes_resume_as_one_does(config: Config, tmp_path: Path) -> None:
    config = with_extras(config, checkpoint_steps=4)
    config["training"]["optimizer"]["total_steps"] = 30
    assert torchrun(changed(config, training__max_steps=11), tmp_path / "whole").returncode == 0
    assert torchrun(changed(config, training__max_steps=6), tmp_path / "cut").returncode == 0
    assert torchrun(changed(config, training__max_steps=11), tmp_path / "cut", "--resume").returncode == 0
    assert digest(tmp_path / "cut")["model"] == digest(tmp_path / "whole")["model"]
    assert digest(tmp_path / "cut")["tensors"] == digest(tmp_path / "whole")["tensors"]


def processes(code: str) -> List[str]:
    """Run a program in two processes that know each other as `group`, with a timeout of a second.

    RETURNS: What each printed.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    begin = [
        "import datetime, os, time",
        "from spacy_crf_ner.training import distributed",
        "distributed.TIMEOUT = datetime.timedelta(seconds=1)",
        "distributed.BEAT_SECONDS = 0.2",
        "group = distributed.Group.from_environment(False)",
        "group.wait()",
    ]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", "\n".join([*begin, code])],
            env={
                **os.environ,
                "RANK": str(rank),
                "WORLD_SIZE": "2",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    return [process.communicate(timeout=60)[0] for process in running]


@needs_distributed
@pytest.mark.parametrize("end", ["os._exit(1)", "time.sleep(3)"], ids=["gone", "silent"])
@pytest.mark.parametrize("dead", [0, 1])
def test_a_process_that_is_left_alone_says_so(end: str, dead: int) -> None:
    code = f"""
if group.rank == {dead}:
    {end}
else:
    try:
        with group.first():
            pass
        group.add(1.0)
    except distributed.PeerLost as lost:
        print(lost)
"""
    printed = processes(code)[1 - dead]
    assert printed.startswith("Another process of this training has ended"), printed
    assert "--resume" in printed


@needs_distributed
def test_what_the_first_does_alone_may_take_longer_than_the_others_wait() -> None:
    code = """
with group.first():
    if group.rank == 0:
        time.sleep(2.5)
print(group.add(1.0))
group.close()
print(distributed.dist.is_initialized())
"""
    for printed in processes(code):
        assert printed.splitlines()[-2:] == ["[2.0]", "False"], printed


@needs_distributed
def test_processes_without_a_common_seed_are_refused(config: Config, tmp_path: Path) -> None:
    done = torchrun(changed(config, system__seed=None), tmp_path / "two")
    assert done.returncode == 1
    assert "[training] seed = null: each of the 2 processes would begin with other weights" in " ".join(
        done.stderr.split()
    )
    assert not (tmp_path / "two").exists()


SLOW = """
import time
import spacy

@spacy.registry.callbacks("tests.slow.v1")
def make():
    return lambda nlp, info: time.sleep(0.3)
"""


@pytest.mark.slow
@needs_distributed
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_interrupts_all_processes(config: Config, number: int, tmp_path: Path) -> None:
    """torchrun itself ends with 1; the record says that it was interrupted, and the training goes on."""
    config = changed(config, training__max_steps=30)
    config = with_extras(config, hooks={"step_end": {"@callbacks": "tests.slow.v1"}}, curves=False)
    (tmp_path / "slow.py").write_text(SLOW)
    code, output = ("--code", str(tmp_path / "slow.py")), tmp_path / "two"
    running = subprocess.Popen(command(config, output, *code), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    # until a step is done, in which all have taken part
    metrics = output / "metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < until:
        time.sleep(0.1)
    running.send_signal(number)
    assert running.wait(60) == 1
    assert json.loads((output / "run.json").read_text())["state"] == "interrupted"
    done = newest(output)
    assert done is not None
    assert 0 < done.state["progress"]["step"] < 31
    assert torchrun(config, output, *code, "--resume").returncode == 0
    assert len((output / "metrics.jsonl").read_text().splitlines()) == 31
