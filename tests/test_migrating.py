"""What the configs for those who come from elsewhere promise: their rates, their batches, their choice of the best."""

import json
import re
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest
import spacy
import torch
from spacy.cli._util import app
from spacy.tokens import Doc, DocBin
from thinc.api import Config
from tokenizers import Tokenizer
from transformers import get_linear_schedule_with_warmup
from typer.testing import CliRunner

import spacy_crf_ner.cli.app  # noqa: F401  (hangs the commands on spaCy's)
from spacy_crf_ner.cli.init_config import PEERS, make_config
from spacy_crf_ner.training.loop import Training

from .conftest import ROOT

CONFIGS = ROOT / "configs" / "migrating"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, demo_writer: Callable[..., Any]) -> Path:
    """A demo corpus of 24 notes in brat's format, split as MetaExtractor does; vectors of four words."""
    import numpy as np

    folder = tmp_path_factory.mktemp("migrating")
    demo_writer(folder / "notes", 24, 1)
    for arguments in (
        ["convert", folder / "notes", folder / "all.spacy"],
        ["split", folder / "all.spacy", folder, "--dev", "0.15", "--test", "0.15", "--seed", "42"],
    ):
        result = CliRunner().invoke(app, ["crf-ner", *map(str, arguments)])
        assert result.exit_code == 0, result.output
    nlp = spacy.blank("en")
    for word in ("fever", "knee", "left", "mg"):
        nlp.vocab.set_vector(word, np.random.default_rng(0).normal(size=8).astype("f"))
    nlp.to_disk(folder / "vectors")
    return folder


class Seen:
    """What a training did: rates and decay of each group of parameters by step, batches, lines of metrics.jsonl."""

    def __init__(self) -> None:
        self.rates: List[Dict[str, float]] = []
        self.decays: List[set] = []
        self.batches: List[List[Doc]] = []
        self.lines: List[Dict[str, Any]] = []
        self.nlp: Any = None

    def of(self, group: str) -> List[float]:
        return [rates[group] for rates in self.rates if group in rates]


@pytest.fixture
def run(data: Path, encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Seen]:
    """Train with a config through the command, with a tiny encoder, and look on."""
    seen = Seen()
    take, of_training = torch.optim.AdamW.step, Training._step

    def step(self: torch.optim.AdamW, *arguments: Any) -> Any:
        groups = [group for group in self.param_groups if group["params"]]
        # the last of our groups is all that no other takes
        last = max(group["of"] for group in groups)
        seen.rates.append({"rest" if group["of"] == last else "encoder": group["lr"] for group in groups})
        seen.decays.append({group["weight_decay"] for group in groups})
        return take(self, *arguments)

    def training_step(self: Training, epoch: int, batch: List[Any]) -> Any:
        seen.batches.append([example.reference for example in batch])
        seen.nlp = self.nlp
        return of_training(self, epoch, batch)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    monkeypatch.setattr(Training, "_step", training_step)

    def train(name: str, **settings: Any) -> Seen:
        settings = {"paths__train": data / "train.spacy", "paths__dev": data / "dev.spacy", **settings}
        if name == "flair":
            settings["paths__vectors"] = data / "vectors"
        else:
            settings["paths__encoder"] = encoder
        options = [part for key, value in settings.items() for part in (f"--{key.replace('__', '.')}", str(value))]
        output = tmp_path / name
        command = ["crf-ner", "train", str(CONFIGS / f"{name}.cfg"), "--output", str(output), *options]
        result = CliRunner().invoke(app, command, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        assert f"python -m spacy crf-ner evaluate {output / 'model-best'} DATA --output scores\n" in result.output
        seen.lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
        return seen

    return train


def schedule_of_hugging_face(rate: float, warmup: int, total: int, steps: int) -> List[float]:
    """The rates of Trainer's own schedule."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    schedule = get_linear_schedule_with_warmup(optimizer, warmup, total)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize("name", PEERS)
def test_configs_are_what_the_command_writes(name: str) -> None:
    written = make_config("en", None, None, None, name).to_str()
    assert (CONFIGS / f"{name}.cfg").read_text() == written + "\n", "run: make configs"


@pytest.mark.parametrize("name", PEERS)
def test_the_guide_names_every_config(name: str) -> None:
    assert f"(../configs/migrating/{name}.cfg)" in (ROOT / "docs" / "migrating.md").read_text()


def test_eds_nlps_rates(run: Callable[..., Seen]) -> None:
    """Of 1,000 steps the encoder's rate rises for 100 and then falls; the others' stays for 100 and then falls."""
    seen = run(
        "eds_nlp",
        training__max_steps=20,
        training__eval_frequency=10,
        **{
            "training__optimizer__learn_rate__steps": 2,
            "training__optimizer__learn_rate__schedule__total_steps": 18,
            "training__optimizer__groups__encoder__learn_rate__warmup_steps": 2,
        },
    )

    def linear(start: float, top: float, step: int) -> float:
        """EDS-NLP's LinearSchedule: from `start` to `top` in a tenth of the steps, and down to 0."""
        return start + (top - start) * step / 2 if step < 2 else top * (1 - (step - 2) / 18)

    assert seen.of("encoder") == pytest.approx([linear(0, 5e-5, step) for step in range(21)])
    assert seen.of("rest") == pytest.approx([linear(3e-4, 3e-4, step) for step in range(21)])
    settings = Config().from_disk(CONFIGS / "eds_nlp.cfg")["training"]["optimizer"]
    assert settings["grad_clip"] == 5.0
    # a tenth, as in the run above
    assert settings["learn_rate"]["steps"] == settings["groups"]["encoder"]["learn_rate"]["warmup_steps"] == 100
    assert settings["learn_rate"]["schedule"]["total_steps"] == 900


def test_eds_nlps_pipeline(run: Callable[..., Seen], encoder: str) -> None:
    """A chain a label, batches under a budget of wordpieces, one rate, no limit to the gradient."""
    seen = run("eds_nlp_script", training__max_steps=4, training__eval_frequency=2)
    pipe = seen.nlp.config["components"]["crf_ner"]
    assert (pipe["overlap"], pipe["mode"], pipe["target_spans"]) == (True, "joint", "entities")
    assert {rate for rates in seen.rates for rate in rates.values()} == {1e-4}
    tokenizer = Tokenizer.from_file(f"{encoder}/tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    pieces = [sum(len(tokenizer.encode(doc.text).ids) for doc in batch) for batch in seen.batches]
    assert 2000 < max(pieces) <= 32 * 128
    assert [line["step"] for line in seen.lines if "score" in line] == [0, 2, 4]
    scored = next(line for line in seen.lines if "score" in line)
    assert scored["score"] == scored["scores"]["spans_entities_f"]


def test_flairs_annealing(run: Callable[..., Seen], data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates are halved after the fourth evaluation in a row without a better one; then it counts anew."""
    monkeypatch.setattr(Training, "_scores", lambda self: (0.5, {"ents_f": 0.5}))
    width = {"components__crf_ner__model__tok2vec__lstm_width": 8}
    seen = run("flair", training__max_steps=11, training__eval_frequency=1, **width)
    # the first evaluation is the best; of those after it the 4th, the 8th, … lower the rate of the steps that follow
    assert seen.of("rest") == pytest.approx([1e-3 * 0.5 ** (max(step - 1, 0) // 4) for step in range(12)])
    assert seen.decays[0] == {0.0}
    n_docs = len(DocBin().from_disk(data / "train.spacy"))
    assert {len(batch) for batch in seen.batches} == {n_docs}  # all there are
    assert n_docs < 32
    lstm = shims(seen.nlp)[0]._model.lstm
    assert (lstm.hidden_size, lstm.num_layers, lstm.bidirectional) == (4, 1, True)
    # hidden_size = 256 in each direction
    config = Config().from_disk(CONFIGS / "flair.cfg")
    assert config["components"]["crf_ner"]["model"]["tok2vec"]["lstm_width"] == 2 * 256


def test_run_ners_rates_and_batches(run: Callable[..., Seen], data: Path) -> None:
    """Trainer's schedule without warm-up, batches of eight at random, three epochs, no convolution."""
    n_docs = sum(1 for _ in DocBin().from_disk(data / "train.spacy").get_docs(spacy.blank("en").vocab))
    steps = 3 * -(-n_docs // 8)
    seen = run("run_ner", training__max_steps=steps)
    assert seen.of("rest") == pytest.approx(schedule_of_hugging_face(5e-5, 0, steps, steps))
    assert all(set(rates) == {"rest"} for rates in seen.rates)
    assert [len(batch) for batch in seen.batches].count(8) == 3 * (n_docs // 8)
    assert sum(len(batch) for batch in seen.batches) == 3 * n_docs
    assert seen.decays[0] == {0.0}
    assert seen.nlp.config["components"]["crf_ner"]["mode"] == "independent"
    names = {name for shim in shims(seen.nlp) for name, _ in shim._model.named_parameters()}
    assert not [name for name in names if name.startswith("cnn.")]


def shims(nlp: Any) -> List[Any]:
    return [shim for node in nlp.get_pipe("crf_ner").model.walk() for shim in node.shims]


def test_metaextractors_rates_and_best(run: Callable[..., Seen], monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainer's schedule after the warm-up; the best of evaluations is kept, and five without a better one end it."""
    scores = iter([0.1, 0.4, 0.3, 0.3, 0.4, 0.2, 0.2, 0.9])
    monkeypatch.setattr(Training, "_scores", lambda self: (next(scores), {"ents_f": 0.0}))
    seen = run(
        "metaextractor", training__max_steps=30, training__eval_frequency=2, training__patience=10,
        training__max_epochs=0, training__optimizer__warmup_steps=4, training__batcher__size=400,
    )  # fmt: skip
    assert seen.lines[-1]["step"] == 12  # the best was at step 2
    assert seen.of("rest")[4:] == pytest.approx(schedule_of_hugging_face(2e-5, 4, 30, 13)[4:])
    # a document that is longer by itself is a batch alone
    assert max(sum(map(len, batch)) for batch in seen.batches if len(batch) > 1) <= 400
    settings = Config().from_disk(CONFIGS / "metaextractor.cfg")["training"]
    assert settings["patience"] == 5 * settings["eval_frequency"]


def test_medkits_rate_never_changes(run: Callable[..., Seen]) -> None:
    """One document a step, a constant rate, torch's own decay of weights, no limit to the gradient."""
    seen = run("medkit", training__max_steps=5, training__eval_frequency=5)
    assert {rate for rates in seen.rates for rate in rates.values()} == {1e-5}
    assert {len(batch) for batch in seen.batches} == {1}
    assert seen.decays[0] == {0.0, 0.01}
    assert Config().from_disk(CONFIGS / "medkit.cfg")["training"]["optimizer"]["grad_clip"] == 0.0


def test_the_guides_commands_convert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From Label Studio's export, from lines of JSON with words and tags, and from MetaExtractor's files."""
    monkeypatch.chdir(tmp_path)
    text, labels = "Aspirin for acute fever.", [(0, 7, "DRUG"), (12, 23, "PROBLEM"), (18, 23, "SIGN")]
    values = [{"start": start, "end": end, "text": text[start:end], "labels": [label]} for start, end, label in labels]
    result = [{"type": "labels", "value": value} for value in values]
    Path("export.json").write_text(json.dumps([{"data": {"text": text}, "annotations": [{"result": result}]}]))
    row = {"tokens": ["Aspirin", "for", "acute", "fever"], "ner_tags": ["B-DRUG", "O", "B-PROBLEM", "I-PROBLEM"]}
    Path("train.json").write_text(json.dumps(row) + "\n")
    Path("raw_labels").mkdir()
    for i in range(12):
        task = {"id": i, "data": {"text": f"{text} Piece {i}.", "gdd_id": f"article {i // 3}"}}
        (tmp_path / "raw_labels" / str(i)).write_text(json.dumps({"id": i, "task": task, "result": result}))
    guide = (ROOT / "docs" / "migrating.md").read_text()
    blocks = re.findall(r"```bash\n(.*?)```", guide, re.DOTALL)[1:]
    for line in "".join(blocks).splitlines():
        done = CliRunner().invoke(app, line.split("#")[0].split()[3:])
        assert done.exit_code == 0, (line, done.output)
    vocab = spacy.blank("en").vocab
    for name in ("export.spacy", "train.spacy"):
        (doc,) = DocBin().from_disk(name).get_docs(vocab)
        assert [(e.text, e.label_) for e in doc.ents] == [("Aspirin", "DRUG"), ("acute fever", "PROBLEM")]
    (doc,) = DocBin().from_disk("export.spacy").get_docs(vocab)
    assert len(doc.spans["entities"]) == 3
    parts = [DocBin().from_disk(f"corpus/{name}.spacy").get_docs(vocab) for name in ("train", "dev", "test")]
    articles = [{int(re.findall(r"Piece (\d+)", doc.text)[0]) // 3 for doc in part} for part in parts]
    assert sorted(article for part in articles for article in part) == [0, 1, 2, 3]


def test_the_guide_names_every_argument() -> None:
    """Of Trainer, the one of the peers that is installed with us."""
    from dataclasses import fields

    from transformers import TrainingArguments

    guide = (ROOT / "docs" / "migrating.md").read_text()
    named = set(re.findall(r"`-{0,2}(\w+)", guide))
    missing = {field.name for field in fields(TrainingArguments) if not field.name.startswith("_")} - named
    assert not missing
