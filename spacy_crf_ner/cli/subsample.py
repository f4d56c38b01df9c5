"""`crf-ner subsample`: some documents of a corpus."""

from pathlib import Path
from typing import Optional

import typer

from ..corpora.files import CorpusError
from ..corpora.items import read_items
from ..corpora.split import count_labels, deal
from . import options
from .errors import clear_errors, good
from .writing import CorpusWriter, summarize


@clear_errors
def subsample(
    input: Path = options.INPUT,
    output: Path = typer.Argument(..., help="The .spacy file, or with --to the file or folder, to write."),
    n: Optional[int] = typer.Option(None, "--n", help="So many documents."),
    share: Optional[float] = typer.Option(None, "--share", help="This share of the documents, above 0 and below 1."),
    stratified: bool = typer.Option(False, "--stratified", help="With the same share of the entities of each label."),
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
    """Draw documents of a corpus at random, in the order that they have there."""
    if (n is None) == (share is None):
        raise CorpusError("Say how many documents with --n, or what share of them with --share.")
    if (n is not None and n < 1) or (share is not None and not 0 < share < 1):
        raise CorpusError("--n must be at least 1, --share above 0 and below 1.")
    name = options.format_of(input, source)
    read = options.read_options(encoding, columns, sentences, spans)
    writer = CorpusWriter(target, lang, align, discontinuous, read)
    writer.check(output)
    items = list(read_items(input, name, read))
    wanted = n if n is not None else max(1, round((share or 0) * len(items)))
    if wanted > len(items):
        raise CorpusError(f"{input}: it has {len(items):,} documents, and {wanted:,} are asked for.")
    chosen = items
    if wanted < len(items):
        shares = {"chosen": wanted / len(items), "rest": 1 - wanted / len(items)}
        parts = deal(items, [[i] for i in range(len(items))], shares, seed, stratified)
        chosen = [items[i] for i in parts["chosen"]]
    summarize([writer.write(chosen, output)])
    labels = ", ".join(f"{label} {count:,}" for label, count in count_labels(chosen).items())
    typer.echo(f"{len(chosen):,} of {len(items):,} documents; {labels or 'no entity'}.", err=True)
    good(f"Wrote {output}")
