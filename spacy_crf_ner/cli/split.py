"""`crf-ner split`: a corpus into train, dev and test."""

import json
from pathlib import Path

import typer
from wasabi import msg

from ..corpora.files import CorpusError
from ..corpora.formats import read_docs
from ..corpora.split import split as split_items
from .convert import blank, write_docs
from .errors import clear_errors, written_whole


@clear_errors
def split(
    input: Path = typer.Argument(..., help="A .spacy file."),
    output: Path = typer.Argument(..., help="Folder for train.spacy, dev.spacy, test.spacy and split.json."),
    dev: float = typer.Option(0.15, "--dev", help="Share of documents for development."),
    test: float = typer.Option(0.15, "--test", help="Share of documents for the test."),
    seed: int = typer.Option(0, "--seed", help="The same seed gives the same parts."),
) -> None:
    """Split a corpus at random, by document. split.json says which document went where."""
    if dev < 0 or test < 0 or dev + test >= 1:
        raise CorpusError(f"--dev {dev} --test {test}: both must be 0 or more, and leave a share for training.")
    docs = list(read_docs(input, blank("xx").vocab))
    parts = split_items(docs, {"train": 1 - dev - test, "dev": dev, "test": test}, seed)
    for name, part in parts.items():
        if part:
            write_docs(part, output / f"{name}.spacy")
        else:
            # one of an earlier split would overlap with the new parts
            (output / f"{name}.spacy").unlink(missing_ok=True)
        msg.text(
            f"{name}: {len(part):,} documents, {sum(len(d.spans.get('entities', d.ents)) for d in part):,} entities"
        )
    ids = {name: [doc.user_data.get("id", "") for doc in part] for name, part in parts.items()}
    with written_whole(output / "split.json") as beside:
        beside.write_text(json.dumps({"seed": seed, "documents": ids}, indent=1) + "\n", encoding="utf-8")
    msg.good(f"Wrote {output}")
