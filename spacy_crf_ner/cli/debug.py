"""`crf-ner debug`: what is wrong with a configuration and its corpora, before a training finds out."""

from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import typer
from spacy import util

# what `spacy debug data` itself reads its arguments with; there is no public way to them
from spacy.cli._util import import_code, parse_config_overrides, show_validation_error
from spacy.language import Language
from spacy.schemas import ConfigSchemaTraining
from spacy.training import Example
from spacy.util import registry
from thinc.api import Config
from wasabi import Printer

from .errors import clear_errors, fail

FACTORY = "crf_ner"


@clear_errors
def debug(
    context: typer.Context,
    config: Path = typer.Argument(
        ..., help="A configuration for spacy train or crf-ner train.", exists=True, allow_dash=True
    ),
    code: Optional[Path] = typer.Option(
        None, "--code", "--code-path", "-c", help="Python file with registered functions to import."
    ),
    ignore_warnings: bool = typer.Option(False, "--ignore-warnings", "-IW", help="Leave warnings out."),
    no_format: bool = typer.Option(
        False, "--no-format", "-NF", help='Plain text: no colours, and "warn: " before a warning.'
    ),
) -> None:
    """Look through the corpora of a configuration as its recognisers will: what spaCy's debug data does for ner.

    Settings are overridden as in train: --paths.train corpus/train.spacy. Exits with 1 if there is an error, one that
    would end the training or leave it without anything to learn.
    """
    say = Printer(pretty=not no_format, ignore_warnings=ignore_warnings)
    overrides = parse_config_overrides(context.args)
    import_code(code)
    with show_validation_error(config, hint_fill=False):
        given = util.load_config(config, overrides=overrides, interpolate=False)
        nlp = util.load_model_from_config(given, auto_fill=True)
    errors = 0
    for section in _sections(nlp, given):
        say.divider(section.title)
        for finding in section.findings:
            tell = say.fail if finding.level == "error" else getattr(say, finding.level)
            tell(f"{finding.level}: {finding.message}" if no_format else finding.message)
            errors += finding.level == "error"
    if errors:
        fail(
            f"{errors} errors: a training would not succeed."
            if errors > 1
            else "1 error: a training would not succeed."
        )


def _sections(nlp: Language, given: Config) -> Iterator[Any]:
    from ..training import diagnosis
    from ..training.settings import has_dev, read_extras

    names = [name for name in nlp.pipe_names if nlp.get_pipe_meta(name).factory == FACTORY]
    if not names:
        fail(
            f"The pipeline has no {FACTORY}: {', '.join(nlp.pipe_names) or 'nothing'}. For others use spacy debug data."
        )
    config = nlp.config.interpolate()
    training = registry.resolve(config["training"], schema=ConfigSchemaTraining)
    extras = read_extras(given.interpolate())
    evaluates = has_dev(given)
    # readers raise it for the texts that they read
    longest = nlp.max_length
    train: List[Example] = list(_corpus(config, "train")(nlp))
    dev: List[Example] = list(_corpus(config, "dev")(nlp)) if evaluates else []
    yield diagnosis.documents(train, dev, evaluates, longest)
    cfgs: Dict[str, Dict[str, Any]] = {}
    for name in names:
        cfgs[name] = nlp.get_pipe(name).cfg  # type: ignore[attr-defined]
        if name in training["frozen_components"]:
            yield diagnosis.Section(name, [diagnosis.Finding("info", "It is frozen: it learns nothing.")])
            continue
        own = diagnosis.of_pipe(train, name, extras.corpora)
        yield diagnosis.recogniser(name, cfgs[name], _labels(config, name), own, dev)
    if evaluates:
        yield diagnosis.score_weights(nlp, cfgs, config["training"]["score_weights"])
    yield _initialized(nlp, train)
    yield from _wordpieces(nlp, [*train, *dev])


def _corpus(config: Config, name: str) -> Any:
    """The reader of the training or the development corpus alone: of the other one the path may be null."""
    from ..training.settings import corpus_block

    return registry.resolve({"corpus": corpus_block(config, name)})["corpus"]


def _labels(config: Config, name: str) -> Optional[List[str]]:
    """Labels that a configuration gives a pipe; None: it finds them."""
    settings = config["initialize"].get("components", {}).get(name, {})
    return registry.resolve({"pipe": settings})["pipe"].get("labels")


def _initialized(nlp: Language, train: List[Example]) -> Any:
    """Whether the pipeline can be made, with its encoder."""
    from ..training.diagnosis import Finding, Section

    try:
        nlp.initialize(lambda: train)
    except (ValueError, OSError) as error:
        return Section("Pipeline", [Finding("error", f"It cannot be initialised: {error}")])
    return Section("Pipeline", [Finding("good", f"{', '.join(nlp.pipe_names)}: it can be initialised with the data.")])


def _wordpieces(nlp: Language, examples: List[Example]) -> Iterator[Any]:
    from ..embedding.model import tokenizers
    from ..training.diagnosis import wordpieces

    for name, pipe in nlp.pipeline:
        model = getattr(pipe, "model", None)
        if model is None:
            continue
        windows = [node.attrs["window"] for node in model.walk() if "window" in node.attrs and "stride" in node.attrs]
        for tokenizer, window in zip(tokenizers(model), windows):
            size, _ = tokenizer.window(window, window)
            yield wordpieces(name, tokenizer, size, examples)
