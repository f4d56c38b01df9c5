"""`crf-ner calibrate`: probabilities that mean what they say, and thresholds that keep a promise."""

import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional

import spacy
import srsly
import typer
from spacy.language import Language
from tqdm import tqdm
from wasabi import msg

from ..corpora.document import Report
from ..corpora.files import CorpusError
from ..corpora.formats import FORMATS
from ..corpora.reading import read_examples
from . import options
from .errors import clear_errors, fail, good

RESULTS, DIAGRAM = "calibration.json", "calibration.png"


@clear_errors
def calibrate(
    model: Path = typer.Argument(..., help="A trained pipeline: a folder that spacy.load takes."),
    data: Path = typer.Argument(..., help="Annotated documents that it was not trained on, in any format."),
    output: Path = typer.Argument(..., help="Folder to write the calibrated pipeline to."),
    precision: Optional[float] = typer.Option(
        None, "--precision", help="Set thresholds too, so that at least this share of the entities is right: 0.95."
    ),
    confidence: float = typer.Option(0.9, "--confidence", help="With what probability the promise is kept."),
    per_label: bool = typer.Option(
        False, "--per-label", help="Keep it for each label by itself, where there are enough of its entities."
    ),
    labels: str = typer.Option(
        "", "--labels", help="Labels that are annotated in DATA, with commas. Default: all of the pipeline's."
    ),
    pipe: str = typer.Option("", "--pipe", help="Which crf_ner component, where there are several."),
    source: str = typer.Option("", "--from", help=f"Format of DATA: {', '.join(FORMATS)}. Default: found out."),
    encoding: str = options.ENCODING,
    columns: Optional[str] = options.COLUMNS,
    sentences: int = options.SENTENCES,
    seed: int = typer.Option(0, "--seed", help="For the draw of the documents that thresholds are tested on."),
) -> None:
    """Make the probabilities of a trained pipeline mean what they say.

    A temperature is fitted, and where the data allow an exponent for a label; both are stored in the pipeline, with
    calibration.json and calibration.png beside its config. Without --precision the same entities are found as before.
    """
    from ..crf.calibration import calibrate as calibrate_pipeline
    from ..crf.calibration import recogniser
    from ..crf.gold import is_annotated, target_spans

    nlp = load(model)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise CorpusError(f"{output}: it is there already. Name a folder that is not there yet.")
    if source and source not in FORMATS:
        raise CorpusError(f"--from {source}: the format is not one of {', '.join(FORMATS)}.")
    if per_label and precision is None:
        raise CorpusError("--per-label: it says how --precision is kept; give that too.")
    component = recogniser(nlp, pipe)
    target = component.cfg["target_spans"]
    report = Report()
    groups = () if target == "ents" else (target,)
    reading = options.read_options(encoding, columns, sentences, "")
    found = read_examples(nlp, data, report, source, groups, reading)
    examples = list(tqdm(found, desc=f"Reading {data}", unit=" documents", disable=None))
    for line in report.summary() if report.problems else ():
        typer.echo(line, err=True)
    if not any(is_annotated(example.reference, target) for example in examples):
        fail(f'{data}: none of {len(examples):,} documents is annotated where {component.name} reads gold, "{target}".')
    named = [label.strip() for label in labels.split(",") if label.strip()]
    gold = {span.label_ for example in examples for span in target_spans(example.reference, target)}
    absent = [label for label in named or component.labels if label not in gold]
    if absent:
        msg.warn(
            f"{data} has no entity of {', '.join(absent)}: all that are found count as wrong. If they were not "
            "annotated there, name those that were with --labels."
        )
    if precision is None and (component.threshold is not None or component.label_thresholds):
        msg.warn(
            f"{model} has thresholds, which stay and hold for the new probabilities: it will find other entities. With "
            "--precision they are found anew."
        )
    results = calibrate_pipeline(
        nlp,
        examples,
        name=component.name,
        labels=named,
        precision=precision,
        confidence=confidence,
        per_label=per_label,
        seed=seed,
    )
    _write(nlp, output, results)
    _show(results)
    good(f"Wrote {output}, with {RESULTS} and {DIAGRAM} in it.")


def load(model: Path) -> Language:
    """A trained pipeline. RAISES (CorpusError): It is not there."""
    if not (model / "config.cfg").is_file():
        raise CorpusError(f"{model}: there is no pipeline (a folder with config.cfg and meta.json).")
    return spacy.load(model)


def _write(nlp: Language, output: Path, results: Dict[str, Any]) -> None:
    """Write everything into a new folder, which is there when it is whole."""
    from ..evaluation.evaluate import plain
    from ..evaluation.reliability_diagram import draw

    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as folder:
        beside = Path(folder) / "pipeline"
        nlp.to_disk(beside)
        srsly.write_json(beside / RESULTS, plain({k: v for k, v in results.items() if k != "entities"}))
        entities = results["entities"]
        draw({key: (entities[key], entities["right"]) for key in ("before", "after")}, beside / DIAGRAM)
        if output.is_dir():
            output.rmdir()
        beside.rename(output)


def _show(results: Dict[str, Any]) -> None:
    before, after = results["before"], results["after"]
    rows: List[List[str]] = []
    for label, then in [("all", before["all"]), *sorted(before["labels"].items())]:
        now = after["all"] if label == "all" else after["labels"][label]
        rows.append(
            [
                label,
                f"{then['entities']:,}",
                _percent(then["precision"]),
                f"{_percent(then['mean_probability'])} → {_percent(now['mean_probability'])}",
                f"{_percent(then['ece'])} → {_percent(now['ece'])}",
                _percent(now["ece_if_exact"]),
                f"{then['log_loss']:.3f} → {now['log_loss']:.3f}",
            ]
        )
    header = ("label", "entities", "right", "probability", "ECE", "by chance", "log loss")
    msg.table(rows, header=header, divider=True, aligns=("l", *"rrrrrr"))
    settings = results["settings"]
    msg.text(f"temperature = {settings['temperature']:g}")
    for label, exponent in settings["label_exponents"].items():
        msg.text(f"label_exponents.{label} = {exponent:g}")
    if "promise" in results:
        _show_promise(results["promise"], settings)


def _show_promise(promise: Dict[str, Any], settings: Dict[str, Any]) -> None:
    certificates = {"threshold": promise["overall"]}
    certificates.update({f"label_thresholds.{name}": found for name, found in promise["labels"].items()})
    msg.text(
        f"Of the entities that reach these, at least {_percent(promise['precision'])} are right, with a confidence of "
        f"{_percent(promise['confidence'])} that all of it holds:"
    )
    for key, found in certificates.items():
        if found is None:
            msg.warn(f"{key} = 1: no threshold could be shown to keep it, so that no such entity is found any more.")
        else:
            share = found["right"] / found["entities"]
            msg.text(
                f"{key} = {found['threshold']:g}: {found['right']:,} of {found['entities']:,} right "
                f"({_percent(share)}), so at least {_percent(found['lower_bound'])}"
            )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
