"""`crf-ner split`: a corpus into train, dev and test, or into folds."""

import json
import math
from pathlib import Path
from typing import Any, Dict, List, Optional

import typer

from .. import __version__
from ..corpora.files import MANIFEST, CorpusError
from ..corpora.items import clashes, read_items
from ..corpora.split import deal, describe, folds, group_items, shared_texts, worst_balance
from . import options
from .errors import clear_errors, good, written_whole
from .writing import CorpusWriter, summarize, write_parts

SHARES = {"dev": 0.15, "test": 0.15}


@clear_errors
def split(
    input: Path = options.INPUT,
    output: Path = typer.Argument(..., help=f"Folder for the parts and {MANIFEST}."),
    dev: Optional[float] = typer.Option(None, "--dev", help=f"Share of documents for development ({SHARES['dev']})."),
    test: Optional[float] = typer.Option(None, "--test", help=f"Share of documents for the test ({SHARES['test']})."),
    part: Optional[List[str]] = typer.Option(
        None, "--part", help="NAME=SHARE: parts with names of your own, in place of --dev and --test; once for each."
    ),
    k: Optional[int] = typer.Option(None, "--folds", help="So many folds: fold-1/train, fold-1/dev, fold-2/train, …"),
    group_by: Optional[str] = typer.Option(
        None,
        "--group-by",
        help="What documents that stay together have in common: a key of their data (doc.user_data), or between "
        "slashes a regular expression on their ids or file names: /^([^-]+)-/.",
    ),
    stratified: bool = typer.Option(False, "--stratified", help="Each part gets its share of each label."),
    duplicates: str = typer.Option(
        "together",
        "--duplicates",
        help="Documents with the same text: together in one part, or report: say which are not.",
    ),
    seed: int = options.SEED,
    source: Optional[str] = options.SOURCE,
    target: Optional[str] = options.TARGET,
    lang: str = options.LANG,
    align: str = options.ALIGN,
    discontinuous: str = options.DISCONTINUOUS_ENTITIES,
    encoding: str = options.ENCODING,
    columns: Optional[str] = options.COLUMNS,
    sentences: int = options.SENTENCES,
    spans: str = options.SPANS,
) -> None:
    """Split a corpus by document, or by group of documents.

    manifest.json says which document went where, with SHA-256 of its text, and how many entities of each label each
    part has. Parts of an earlier split in OUTPUT are replaced.
    """
    if duplicates not in ("together", "report"):
        raise CorpusError(f"--duplicates {duplicates}: it is together or report.")
    shares = _shares(dev, test, part, k)
    name = options.format_of(input, source)
    read = options.read_options(encoding, columns, sentences, spans)
    writer = CorpusWriter(target, lang, align, discontinuous, read)
    items = list(read_items(input, name, read))
    twice = clashes(items)
    if twice:
        typer.echo(f"{len(twice):,} ids stand for several documents: {', '.join(twice[:5])}", err=True)
    groups = group_items(items, group_by, duplicates == "together")
    if k is None:
        parts = deal(items, groups, shares, seed, stratified)
    else:
        found = folds(items, groups, k, seed, stratified)
        parts = {f"fold-{i}/{n}": part for i, two in enumerate(found, 1) for n, part in zip(("train", "dev"), two)}
        shares = {name: 1 / k if name.endswith("dev") else 1 - 1 / k for name in parts}
    chosen = {name: [items[i] for i in members] for name, members in parts.items()}
    reports = write_parts(writer, chosen, output, _files_of(output / MANIFEST))
    summarize(reports if k is None else reports[:2])
    settings: Dict[str, Any] = {
        "shares": shares,
        "folds": k,
        "group_by": group_by,
        "stratified": stratified,
        "duplicates": duplicates,
        "seed": seed,
    }
    described = {n: {"file": f"{n}{writer.ending}", **describe(part)} for n, part in chosen.items() if part}
    manifest = {
        "spacy_crf_ner": __version__,
        "input": str(input),
        "from": name,
        "to": writer.format,
        "options": settings,
        "groups": len(groups),
        "parts": described,
    }
    with written_whole(output / MANIFEST) as beside:
        beside.write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for name, part_of in described.items():
        typer.echo(f"{name}: {part_of['n_documents']:,} documents, {part_of['n_entities']:,} entities")
    _tell(items, parts, shares, len(groups), k)
    good(f"Wrote {output}")


def _tell(
    items: List[Any], parts: Dict[str, List[int]], shares: Dict[str, float], n_groups: int, k: Optional[int]
) -> None:
    """Say what a person should know of the parts."""
    if n_groups < len(items):
        typer.echo(f"{len(items):,} documents were dealt out in {n_groups:,} groups that stay together.")
    dealt = parts if k is None else {name: members for name, members in parts.items() if name.endswith("dev")}
    worst = worst_balance(items, dealt, shares)
    if worst:
        typer.echo(f"The label that is furthest from its share: {worst}.")
    shared = shared_texts(items, dealt)
    if shared:
        typer.echo(f"{len(shared):,} texts are in several parts: {'; '.join(shared[:5])}.", err=True)


def _shares(
    dev: Optional[float], test: Optional[float], part: Optional[List[str]], k: Optional[int]
) -> Dict[str, float]:
    """RAISES (CorpusError): Options do not go together, or a share is none."""
    if k is not None and (part or dev is not None or test is not None):
        raise CorpusError("--folds has parts of its own, train and dev: leave --dev, --test and --part out.")
    if part and (dev is not None or test is not None):
        raise CorpusError("--part names all parts: leave --dev and --test out.")
    if part:
        shares = [_share(said) for said in part]
        names = [name.lower() for name, _ in shares]  # some file systems do not tell case apart
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise CorpusError(f"--part {twice}: two parts have this name.")
        return dict(shares)
    dev, test = SHARES["dev"] if dev is None else dev, SHARES["test"] if test is None else test
    if not (dev >= 0 and test >= 0 and dev + test < 1):
        raise CorpusError(f"--dev {dev} --test {test}: both must be 0 or more, and leave a share for training.")
    return {"train": 1 - dev - test, "dev": dev, "test": test}


def _share(said: str) -> "tuple[str, float]":
    name, _, share = said.partition("=")
    if not name or not all(char.isalnum() or char in "-_." for char in name) or name.startswith("."):
        raise CorpusError(f"--part {said}: give a name of letters and digits and a share, as in train=0.8.")
    if name.lower() == Path(MANIFEST).stem:
        raise CorpusError(f"--part {said}: {MANIFEST} is what says which document is where. Give another name.")
    try:
        number = float(share)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise CorpusError(f"--part {said}: give a name and a share from 0 to 1, as in train=0.8.")
    return name, number


def _files_of(manifest: Path) -> List[str]:
    """Files and folders that an earlier split has written; of a manifest that is not ours none."""
    if not manifest.is_file():
        return []
    try:
        files = [part["file"] for part in json.loads(manifest.read_text(encoding="utf-8"))["parts"].values()]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
    paths = [Path(file) for file in files if isinstance(file, str)]
    return [path.as_posix() for path in paths if not path.is_absolute() and ".." not in path.parts]
