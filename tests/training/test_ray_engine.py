"""Workers that Ray starts do what those of torchrun do, and are started again where one dies."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Iterator, List

import pytest
from thinc.api import Config

import spacy_crf_ner

from .runs import digest, with_extras
from .test_distributed import torchrun

# Ends the second process of two by SIGKILL after a step, once, or makes each step last a while.
CODE = """
import os, pathlib, signal, time
import spacy

@spacy.registry.callbacks("test.die_once.v1")
def make_die_once(step: int, marker: str):
    def die_once(nlp, info):
        if info["step"] == step and os.environ["RANK"] == "1" and not os.path.exists(marker):
            pathlib.Path(marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return die_once

@spacy.registry.callbacks("test.linger.v1")
def make_linger(seconds: float):
    def linger(nlp, info):
        time.sleep(seconds)
    return linger
"""


@pytest.fixture
def ray_folder() -> Iterator[str]:
    """Where Ray keeps its sockets, whose paths must be short."""
    pytest.importorskip("ray.train")
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def command(config: Config, output: Path, *arguments: str) -> List[str]:
    path, code = output.with_suffix(".cfg"), output.with_suffix(".py")
    config.to_disk(path, interpolate=False)
    code.write_text(CODE)
    start = [sys.executable, "-m", "spacy", "crf-ner", "train", str(path), "--output", str(output)]
    return [*start, "--engine", "ray", "--code", str(code), *arguments]


def environment(ray_folder: str) -> dict:
    return {**os.environ, "OMP_NUM_THREADS": "1", "RAY_TMPDIR": ray_folder, "RAY_ADDRESS": ""}


def on_ray(ray_folder: str, *arguments: Any) -> subprocess.CompletedProcess:
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, env=environment(ray_folder), timeout=300, check=False
    )


def score(output: Path) -> List[float]:
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [line["score"] for line in lines if "score" in line]


@pytest.mark.slow
def test_a_worker_that_is_killed_is_started_again_and_nothing_shows(
    config: Config,
    ray_folder: str,
    tmp_path: Path,
) -> None:
    config = with_extras(config, checkpoint_steps=4)
    whole = torchrun(config, tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr[-3000:]
    marker = tmp_path / "died"
    hooks = {"step_end": {"@callbacks": "test.die_once.v1", "step": 5, "marker": str(marker)}}
    broken = on_ray(ray_folder, with_extras(config, hooks=hooks), tmp_path / "broken", "--workers", "2")
    assert broken.returncode == 0, (broken.stdout + broken.stderr)[-5000:]
    assert marker.exists()
    assert digest(tmp_path / "broken") == digest(tmp_path / "whole")
    assert score(tmp_path / "broken") == score(tmp_path / "whole")
    assert not (tmp_path / "broken" / ".ray").exists()


@pytest.mark.slow
def test_a_signal_is_passed_on_and_the_training_goes_on_later(
    config: Config,
    ray_folder: str,
    tmp_path: Path,
) -> None:
    config = with_extras(config, checkpoint_steps=4)
    assert torchrun(config, tmp_path / "whole").returncode == 0
    config = with_extras(config, hooks={"step_end": {"@callbacks": "test.linger.v1", "seconds": 0.5}})
    arguments = (config, tmp_path / "cut", "--workers", "2")
    with open(tmp_path / "out", "w") as out:
        process = subprocess.Popen(command(*arguments), stdout=out, stderr=out, env=environment(ray_folder))
        metrics = tmp_path / "cut" / "metrics.jsonl"
        while not (metrics.exists() and metrics.read_text()) and process.poll() is None:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 75, (tmp_path / "out").read_text()[-5000:]
    steps = len(metrics.read_text().splitlines())
    assert 0 < steps < 12
    # another number of workers is a mistake that no restart mends
    alone = on_ray(ray_folder, config, tmp_path / "cut", "--resume", "--workers", "1")
    assert alone.returncode == 1
    assert "the training ran in 2 processes" in " ".join(alone.stderr.split())
    assert len(metrics.read_text().splitlines()) == steps
    resumed = on_ray(ray_folder, *arguments, "--resume")
    assert resumed.returncode == 0, (resumed.stdout + resumed.stderr)[-5000:]
    assert digest(tmp_path / "cut") == digest(tmp_path / "whole")


@pytest.mark.slow
def test_workers_that_die_too_often_end_the_training(
    config: Config,
    ray_folder: str,
    tmp_path: Path,
) -> None:
    hooks = {"step_end": {"@callbacks": "test.die_once.v1", "step": 5, "marker": str(tmp_path / "no" / "such")}}
    done = on_ray(ray_folder, with_extras(config, hooks=hooks), tmp_path / "out", "--workers", "2", "--restarts", "0")
    assert done.returncode == 1
    assert "The workers have died 1 times" in " ".join(done.stderr.split())


def test_ray_that_is_not_there_is_named(
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"spacy-crf-ner\[ray\]"):
        spacy_crf_ner.train(config, tmp_path / "out", engine="ray", workers=2)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"engine": "spark"}, 'neither "local" nor "ray"'),
        ({"workers": 2}, "torchrun"),
        ({"engine": "ray", "workers": 0}, "workers = 0 must be at least 1"),
        ({"engine": "ray", "restarts": -1}, "restarts = -1"),
        ({"engine": "ray", "resume": True, "overwrite": True}, "choose one"),
    ],
)
def test_wrong_engines_are_named(config: Config, settings: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        spacy_crf_ner.train(config, tmp_path / "out", **settings)


def test_ray_needs_an_output(config: Config) -> None:
    with pytest.raises(ValueError, match="needs an output"):
        spacy_crf_ner.train(config, engine="ray")
