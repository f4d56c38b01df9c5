"""The configs in configs/ and the command that writes them."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
from spacy import util
from spacy.schemas import ConfigSchemaTraining
from spacy.training.initialize import init_nlp
from spacy.training.loop import train as train_loop
from thinc.api import Config

from spacy_crf_ner.cli.init_config import NAMES, make_config
from spacy_crf_ner.training.optimizer import AdamW

from .conftest import ROOT, found


def spacy_command(*arguments: Any) -> subprocess.CompletedProcess:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-m", "spacy", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, demo_writer: Any) -> Path:
    """A demo corpus of 30 notes: brat in notes/, and train.spacy, dev.spacy; vectors in vectors/."""
    folder = tmp_path_factory.mktemp("data")
    demo_writer(folder / "notes", 30, 1)
    assert spacy_command("crf-ner", "convert", folder / "notes", folder / "all.spacy").returncode == 0
    split = spacy_command("crf-ner", "split", folder / "all.spacy", folder, "--test", "0.1")
    assert split.returncode == 0, split.stdout
    nlp = spacy.blank("en")
    for word in ("fever", "knee", "left", "mg"):
        nlp.vocab.set_vector(word, np.random.default_rng(0).normal(size=8).astype("f"))
    nlp.to_disk(folder / "vectors")
    return folder


def paths(data: Path, encoder: str, name: str) -> dict:
    overrides = {"paths.train": str(data / "train.spacy"), "paths.dev": str(data / "dev.spacy")}
    if name != "cnn_crf":
        overrides["paths.encoder"] = encoder
    if name == "stacked":
        overrides["paths.vectors"] = str(data / "vectors")
    return overrides


@pytest.mark.parametrize("name", NAMES)
def test_configs_are_what_the_command_writes(name: str) -> None:
    written = make_config("en", None, None, None, name).to_str()
    assert (ROOT / "configs" / f"{name}.cfg").read_text() == written + "\n", "run: make configs"


@pytest.mark.parametrize("name", NAMES)
def test_a_config_trains_saves_and_loads(name: str, data: Path, encoder: str, tmp_path: Path) -> None:
    steps = {"training.max_steps": 6, "training.eval_frequency": 3, "training.optimizer.warmup_steps": 2}
    config = util.load_config(ROOT / "configs" / f"{name}.cfg", overrides={**paths(data, encoder, name), **steps})
    nlp = init_nlp(config)
    with open(os.devnull, "w") as out:
        nlp, path = train_loop(nlp, tmp_path, use_gpu=-1, stdout=out, stderr=out)
    again = spacy.load(path)
    text = "Severe fever and pain in the left knee, treated with 20 mg of ramipril."
    assert found(nlp(text)) == found(again(text))
    assert isinstance(again.resume_training(), AdamW)
    assert again.meta["performance"]["ents_f"] is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_spacys_own_commands_accept_the_configs(name: str, data: Path, encoder: str, tmp_path: Path) -> None:
    config = ROOT / "configs" / f"{name}.cfg"
    overrides = [part for key, value in paths(data, encoder, name).items() for part in (f"--{key}", value)]
    filled = tmp_path / "filled.cfg"
    assert spacy_command("init", "fill-config", config, filled).returncode == 0
    assert Config().from_disk(filled) == Config().from_disk(config)
    for command in (
        ["debug", "config", config, *overrides],
        ["debug", "diff-config", config],
        ["init", "labels", config, tmp_path / "labels", *overrides],
    ):
        result = spacy_command(*command)
        assert result.returncode == 0, result.stdout + result.stderr
    assert "PROBLEM" in (tmp_path / "labels" / "crf_ner.json").read_text()
    if name != "stacked":  # debug model has no vectors to give it
        model = spacy_command("debug", "model", config, "crf_ner", "-P0", "-P3", *overrides)
        assert model.returncode == 0, model.stdout + model.stderr


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"paths.train": "{tmp}/none"}, "there is no such folder"),
        ({"paths.train": "{tmp}/empty"}, r"no \.ann file"),
        ({"paths.train": "{tmp}/orphan"}, r"a\.txt is not beside it"),
        ({"paths.encoder": "./nowhere/at/all"}, "no such folder"),
        ({"components.crf_ner.mode": "best"}, "mode"),
        ({"training.batcher.size": 0}, "size = 0"),
    ],
)
def test_bad_input_to_training_is_named(
    overrides: dict, message: str, data: Path, encoder: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "orphan").mkdir()
    (tmp_path / "orphan" / "a.ann").touch()
    config = make_config("en", encoder, data / "notes", data / "notes", "transformer_cnn_crf")
    filled = {key: value.format(tmp=tmp_path) if isinstance(value, str) else value for key, value in overrides.items()}
    config = Config().from_str(config.to_str(), overrides=filled)
    with pytest.raises(ValueError, match=message):
        init_nlp(config)


def test_a_budget_below_every_document_trains_one_at_a_time(data: Path, encoder: str) -> None:
    overrides = {**paths(data, encoder, ""), "training.batcher.size": 1, "training.max_steps": 60}
    config = util.load_config(ROOT / "configs" / "transformer_cnn_crf.cfg", overrides=overrides, interpolate=True)
    nlp = init_nlp(config)
    training = util.registry.resolve(config["training"], schema=ConfigSchemaTraining)
    examples = list(util.resolve_dot_names(config, ["corpora.train"])[0](nlp))
    batches = list(training["batcher"](examples))
    assert sorted(len(batch) for batch in batches) == [1] * len(examples)


def test_init_config_from_brat_folders_trains_from_them(data: Path, encoder: str, tmp_path: Path) -> None:
    result = spacy_command(
        "crf-ner", "init", "config", tmp_path / "fr.cfg", "--lang", "fr", "--encoder", encoder,
        "--train", data / "notes", "--dev", data / "notes",
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    config = util.load_config(tmp_path / "fr.cfg")
    assert config["nlp"]["lang"] == "fr"
    assert config["corpora"]["train"]["@readers"] == "spacy_crf_ner.Standoff.v1"
    nlp = init_nlp(util.load_config(tmp_path / "fr.cfg", overrides={"training.max_steps": 100}))
    assert "PROBLEM" in nlp.get_pipe("crf_ner").labels


def test_init_config_replaces_a_file_only_when_told_to(tmp_path: Path) -> None:
    config = tmp_path / "my.cfg"
    config.write_text("mine")
    refused = spacy_command("crf-ner", "init", "config", config)
    assert refused.returncode == 1
    assert "--overwrite" in refused.stderr
    assert config.read_text() == "mine"
    assert spacy_command("crf-ner", "init", "config", config, "--overwrite").returncode == 0
    assert "crf_ner" in config.read_text()


def test_init_config_writes_to_standard_output() -> None:
    result = spacy_command("crf-ner", "init", "config", "--lang", "de")
    config = Config().from_str(result.stdout, interpolate=False)
    assert config["nlp"]["lang"] == "de"


def test_labels_from_a_file(data: Path, encoder: str, tmp_path: Path) -> None:
    (tmp_path / "crf_ner.json").write_text('["PROBLEM", "DRUG"]')
    labels = {"@readers": "spacy.read_labels.v1", "path": str(tmp_path / "crf_ner.json")}
    config = util.load_config(ROOT / "configs" / "transformer_cnn_crf.cfg", overrides=paths(data, encoder, ""))
    config["initialize"]["components"]["crf_ner"] = {"labels": labels}
    assert init_nlp(config).get_pipe("crf_ner").labels == ("PROBLEM", "DRUG")
