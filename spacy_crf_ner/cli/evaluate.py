"""`crf-ner evaluate`: scores of a pipeline on annotated documents."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, Union

import spacy
import typer
from spacy.language import Language
from tqdm import tqdm
from wasabi import table

from ..corpora.document import Document
from ..corpora.files import STANDARD, CorpusError
from ..corpora.formats import FORMATS, Options, detect, read
from ..evaluation.earlier import EarlierPredictions
from ..evaluation.evaluate import Data, Settings, surfaces
from ..evaluation.evaluate import evaluate as evaluate_pipeline
from ..evaluation.metrics import Evaluation, Part
from ..evaluation.plots import PLOTS, is_plot, plots
from ..evaluation.predicting import TOKENS
from ..evaluation.record import describe_model, hash_of, versions
from ..evaluation.report import REPORT, report
from ..evaluation.scores import UNITS, Overlap, Rates, Score
from .errors import clear_errors, good, written_whole
from .options import COLUMNS, ENCODING, SENTENCES, read_options

METRICS, PREDICTIONS, TIMINGS = "metrics.json", "predictions.jsonl", "timings.json"


@clear_errors
def evaluate(
    model: str = typer.Argument(..., help="A trained pipeline: a folder, or the name of an installed one."),
    data: List[str] = typer.Argument(..., help="Annotations in any format, each as PATH or NAME=PATH."),
    output: Path = typer.Option(..., "--output", "-o", help=f"Folder for {METRICS}, {PREDICTIONS} and {TIMINGS}."),
    compare: Optional[str] = typer.Option(
        None, "--compare", help="Another pipeline, or the OUTPUT of its evaluation: which is better, and where."
    ),
    train: Optional[Path] = typer.Option(
        None, "--train", help="Training data, to tell entities that are in it from those that are not."
    ),
    by: List[str] = typer.Option([], "--by", help="An attribute of documents: scores for each of its values."),
    tokens: str = typer.Option(
        "auto", "--tokens", help=f"What the pipeline is given, {', '.join(TOKENS)}: auto: tokens of columns, else text."
    ),
    overlap_unit: str = typer.Option(
        "characters", "--overlap-unit", help=f"What entities found in part are compared by: {', '.join(UNITS)}."
    ),
    min_overlap: float = typer.Option(0.5, "--min-overlap", help="Smallest Dice coefficient of one found in part."),
    output_spans: str = typer.Option(
        "", "--output-spans", help="Where predictions are: ents, or a span group. Default: where the recogniser writes."
    ),
    context: int = typer.Option(0, "--context", help="Tokens of neighbouring documents that stand around each."),
    context_source: Optional[str] = typer.Option(
        None, "--context-source", help="An attribute of documents: only those that share its value are neighbours."
    ),
    samples: int = typer.Option(1000, "--samples", help="Samples of documents for intervals; 0: none."),
    level: float = typer.Option(0.95, "--level", help="Share of the samples inside an interval."),
    exchanges: int = typer.Option(10_000, "--exchanges", help="Exchanges that the test of --compare draws."),
    seed: int = typer.Option(0, "--seed", help="Of samples and exchanges."),
    source: Optional[str] = typer.Option(
        None, "--from", help=f"Format of DATA: {', '.join(FORMATS)}. Default: found out."
    ),
    encoding: str = ENCODING,
    columns: Optional[str] = COLUMNS,
    sentences: int = SENTENCES,
    spans: str = typer.Option(
        "", "--spans", help='Gold of a .spacy file: ents, or a span group. Default: "entities", where there is one.'
    ),
    page: bool = typer.Option(True, "--report/--no-report", help=f"Whether to write {REPORT} and {PLOTS}/ too."),
    gpu_id: int = typer.Option(-1, "--gpu-id", "-g", help="GPU to use, or -1 for the CPU."),
) -> None:
    """Score a pipeline on annotated documents, by the characters that were annotated.

    The pipeline gets their texts and nothing else. Everything is in OUTPUT; the main figures are printed.
    """
    settings = Settings(
        overlap=Overlap(overlap_unit, min_overlap),  # type: ignore[arg-type]
        samples=samples,
        level=level,
        exchanges=exchanges,
        seed=seed,
        by=tuple(by),
        tokens=tokens,  # type: ignore[arg-type]
        output_spans=output_spans,
        context=context,
        context_source=context_source,
    )
    if source is not None and source not in FORMATS:
        raise CorpusError(f"--from {source}: the format is not one of {', '.join(FORMATS)}.")
    if output.exists() and not output.is_dir():
        raise CorpusError(f"{output}: it is a file, and --output is a folder.")
    options = read_options(encoding, columns, sentences, spans)
    paths = _parts(data)
    timings: Dict[str, Any] = {}
    begin = time.perf_counter()
    parts = [_read(name, path, source, options) for name, path in paths.items()]
    seen = None if train is None else surfaces(_documents(train, None, options))
    timings["reading_s"] = time.perf_counter() - begin
    begin = time.perf_counter()
    nlp = _load(model, gpu_id)
    other, other_model = (None, None) if compare is None else _other(compare, gpu_id)
    timings["loading_s"] = time.perf_counter() - begin
    predicting = timings["predicting_s"] = {}
    begin = time.perf_counter()
    run = {
        "versions": versions(),
        "model": describe_model(nlp, model),
        "training_data": None if train is None else {"path": str(train), "sha256": hash_of(train)},
        "options": _options(settings, options, source),
    }
    evaluation, rows = evaluate_pipeline(
        nlp,
        parts,
        settings,
        seen=seen,
        other=other,
        run=run,
        other_model=other_model,
        progress=lambda found, name, n: _timed(found, name, n, predicting),
    )
    timings["scoring_s"] = time.perf_counter() - begin - sum(predicting.values())
    timings["words_per_second"] = {
        name: part.words / predicting[name] for name, part in evaluation.parts.items() if predicting[name]
    }
    _remove_report(output)
    _write(output, evaluation, rows, timings)
    for line in summary(evaluation):
        typer.echo(line)
    good(f"Wrote {METRICS}, {PREDICTIONS} and {TIMINGS} to {output}")
    if page:
        _write_report(output)
        good(f"Wrote {REPORT} and {PLOTS}/ to {output}")


def _options(settings: Settings, options: Options, source: Optional[str]) -> Dict[str, Any]:
    """What was asked for, under the names of the command line."""
    reading = {name: getattr(options, name) for name in ("encoding", "columns", "sentences", "spans")}
    found = {**asdict(settings), **reading, "from": source}
    overlap = found.pop("overlap")
    return {**found, "overlap_unit": overlap["unit"], "min_overlap": overlap["least"]}


def _parts(data: Sequence[str]) -> Dict[str, Path]:
    """Parts by name: as given, otherwise the name of the file or folder without its ending."""
    found: Dict[str, Path] = {}
    for given in data:
        name, sign, rest = given.partition("=")
        path = Path(rest) if sign and not Path(given).exists() else Path(given)
        name = name if sign and not Path(given).exists() else path.name.split(".")[0] or path.resolve().name
        if not name or name in found:
            raise CorpusError(f"{given}: give each part a name of its own, as in test={path}.")
        if path == STANDARD:
            raise CorpusError("Standard input cannot be evaluated: give a file or a folder.")
        found[name] = path
    return found


def _documents(path: Path, source: Optional[str], options: Options) -> Iterable[Document]:
    if not path.exists():
        raise CorpusError(f"{path}: there is no such file or folder.")
    documents = read(path, source or "", options)
    return tqdm(documents, desc=f"Reading {path}", unit=" documents", disable=None)


def _read(name: str, path: Path, source: Optional[str], options: Options) -> Data:
    documents = list(_documents(path, source, options))
    return Data(name, str(path), source or detect(path), hash_of(path), documents)


def _load(model: str, gpu_id: int) -> Language:
    """A pipeline that takes texts of any length. RAISES (CorpusError): There is none."""
    from spacy.cli._util import setup_gpu  # what `spacy evaluate` itself calls; there is no public way to it

    setup_gpu(gpu_id, silent=True)
    try:
        nlp = spacy.load(model)
    except OSError as error:
        wrong = "it is no pipeline" if Path(model).exists() else "there is no such pipeline"
        raise CorpusError(
            f"{model}: {wrong}. Give a folder with config.cfg and meta.json, as train writes, or the name of an "
            "installed package."
        ) from error
    nlp.max_length = max(nlp.max_length, 10**9)
    return nlp


def _other(name: str, gpu_id: int) -> Tuple[Union[Language, EarlierPredictions], Dict[str, Any]]:
    """What to compare with, a pipeline or what an evaluation has written, and what is noted of it."""
    folder = Path(name)
    if (folder / "config.cfg").exists() or not (folder / PREDICTIONS).is_file():
        nlp = _load(name, gpu_id)
        return nlp, describe_model(nlp, name)
    model: Dict[str, Any] = {"loaded_as": name}
    if (folder / METRICS).is_file():
        try:
            model = json.loads((folder / METRICS).read_text(encoding="utf-8"))["run"]["model"]
        except (ValueError, KeyError, TypeError) as error:
            raise CorpusError(f"{folder / METRICS}: crf-ner evaluate has not written it, or not to its end.") from error
    evaluated = {"evaluation": name, "predictions_sha256": hash_of(folder / PREDICTIONS)}
    return EarlierPredictions(folder / PREDICTIONS), {**model, **evaluated}


def _timed(found: Iterable[Any], name: str, n: int, seconds: Dict[str, float]) -> Iterator[Any]:
    """Show a bar, and note how long predicting took, without what was done between two predictions."""
    seconds[name] = 0.0
    with tqdm(total=n, desc=f"Predicting {name}", unit=" documents", disable=None) as bar:
        iterator = iter(found)
        while True:
            begin = time.perf_counter()
            item = next(iterator, None)
            seconds[name] += time.perf_counter() - begin
            if item is None:
                return
            bar.update()
            yield item


def _write(output: Path, evaluation: Evaluation, rows: Iterable[Dict[str, Any]], timings: Dict[str, Any]) -> None:
    with (
        written_whole(output / METRICS) as metrics,
        written_whole(output / PREDICTIONS) as predictions,
        written_whole(output / TIMINGS) as times,
    ):
        _write_json(metrics, evaluation.as_dict())
        with predictions.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)
        _write_json(times, timings)


def _write_json(path: Path, found: Dict[str, Any]) -> None:
    text = json.dumps(found, ensure_ascii=False, indent=1, default=str)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def _remove_report(output: Path) -> None:
    """Take away what an earlier evaluation has shown, so that it does not stand beside new scores."""
    (output / REPORT).unlink(missing_ok=True)
    for path in (output / PLOTS).glob("*.png"):
        if is_plot(path):
            path.unlink()


def _write_report(output: Path) -> None:
    """Make the page and the pictures of the two files alone."""
    metrics = json.loads((output / METRICS).read_text(encoding="utf-8"))
    with (output / PREDICTIONS).open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    with written_whole(output / REPORT) as path:
        path.write_text(report(metrics, rows), encoding="utf-8", newline="\n")
    for name, draw in plots(metrics, rows):
        with written_whole(output / PLOTS / name) as path:
            draw(path)


# What is printed


def summary(evaluation: Evaluation) -> Iterator[str]:
    """Tables of the main figures, for a person."""
    for part in evaluation.parts.values():
        yield from _part(part)
    if evaluation.comparison is None:
        return
    for name, compared in evaluation.comparison.parts.items():
        rows = [
            (
                kind.replace("_", ", "),
                f"{100 * d.difference:+.1f}",
                "" if d.interval is None else f"{100 * d.interval[0]:+.1f} … {100 * d.interval[1]:+.1f}",
                f"{d.p_value:.4f}",
            )
            for kind, d in compared.f.items()
        ]
        yield f"\n{name}: F1 less that of {evaluation.comparison.model.get('loaded_as', 'the other')}"
        yield table(rows, header=("F1 of", "difference", "interval", "p"), divider=True, aligns=("l", "r", "r", "r"))
        yield f"Gold entities found exactly: {', '.join(f'{n:,} by {who}' for who, n in compared.found.items())}."


def _part(part: Part) -> Iterator[str]:
    yield f"\n{part.name}: {part.documents:,} documents, {part.gold:,} gold entities, {part.predicted:,} predicted"
    characters, aligned = part.characters, part.aligned
    named: Dict[str, Rates] = {
        "exact": characters.exact.micro,
        "exact, mean of labels": characters.exact.macro,
        "exact, labels weighted": characters.exact.weighted,
        "exact, gold on tokens": aligned.exact.micro,
        "in part": characters.overlap.micro,
        "borders alone": characters.boundaries,
        "tokens": characters.tokens.micro,
        **{f"SemEval {name}": found for name, found in characters.semeval.items()},
        **{f"in training: {name}": found for name, found in (part.by_seen or {}).items()},
    }
    yield _table("score", named)
    yield _table("label, exact", characters.exact.per_label)
    for key, values in part.by_attribute.items():
        yield _table(f"{key}, exact", {value or "(none)": found.exact for value, found in values.items()})
    yield from _remarks(part)


def _remarks(part: Part) -> Iterator[str]:
    left_out = ", ".join(f"{n:,} {label}" for label, n in part.other_labels.items())
    for n, remark in (
        (part.not_annotated, "documents are not annotated, and were left out."),
        (part.repeated, "gold entities are given more than once, and count once."),
        (part.unread, "annotations could not be read, and are not scored; crf-ner convert --report says why."),
        (sum(part.other_labels.values()), f"gold entities have labels that were not given to the model: {left_out}."),
        (part.ignored, "predictions stand where it is not known what is right, and do not count."),
    ):
        if n:
            yield f"{n:,} {remark}"


def _table(name: str, rows: Dict[str, Any]) -> str:
    shown = []
    for row, found in rows.items():
        numbers = [f"{100 * value:.1f}" for value in (found.p, found.r, found.f)]
        interval = (found.intervals or {}).get("f")
        numbers.append("" if interval is None else f"{100 * interval[0]:.1f} … {100 * interval[1]:.1f}")
        counted = isinstance(found, Score)
        shown.append((row, *numbers, *((f"{found.gold:,}", f"{found.predicted:,}") if counted else ("", ""))))
    header = (name, "P", "R", "F1", "F1 interval", "gold", "predicted")
    return table(shown, header=header, divider=True, aligns=("l", *"rrrrrr"))
