"""`crf-ner merge`: several corpora as one."""

from pathlib import Path
from typing import List, Optional

import typer

from ..corpora.files import STANDARD, CorpusError
from ..corpora.items import read_items
from ..corpora.merge import CONFLICTS
from ..corpora.merge import merge as merge_corpora
from . import options
from .errors import clear_errors, good
from .writing import CorpusWriter, summarize


@clear_errors
def merge(
    paths: List[Path] = typer.Argument(..., metavar="INPUT… OUTPUT", help="Corpora of any formats, and what to write."),
    ids: str = typer.Option(
        "prefix", "--ids", help="An id that a document before has: prefix (the corpus's name stands before it), error."
    ),
    conflicts: str = typer.Option(
        "error", "--conflicts", help=f"The same text with other entities in a later corpus: {', '.join(CONFLICTS)}."
    ),
    sources: Optional[List[str]] = typer.Option(
        None, "--from", help="Format of the inputs: once for all, or once for each. Default: found out."
    ),
    target: Optional[str] = options.TARGET,
    lang: str = options.LANG,
    align: str = options.ALIGN,
    discontinuous: str = options.DISCONTINUOUS_ENTITIES,
    encoding: str = options.ENCODING,
    columns: Optional[str] = options.COLUMNS,
    sentences: int = options.SENTENCES,
    spans: str = options.SPANS,
) -> None:
    """Put corpora one after another. A text that several of them have is in OUTPUT once.

    Texts that stand twice in one and the same corpus stay as they are.
    """
    *inputs, output = paths
    if not inputs:
        raise CorpusError("Give the corpora to merge, and then OUTPUT.")
    given = sources or []
    if len(given) not in (0, 1, len(inputs)):
        raise CorpusError(f"--from: give it once for all, or once for each of the {len(inputs)} inputs.")
    read = options.read_options(encoding, columns, sentences, spans)
    writer = CorpusWriter(target, lang, align, discontinuous, read)
    writer.check(output)
    names = _names(inputs)
    formats = [given[i % len(given)] if given else None for i in range(len(inputs))]
    found = [options.format_of(path, source) for path, source in zip(inputs, formats)]
    corpora = [(name, read_items(path, form, read)) for name, path, form in zip(names, inputs, found)]
    items, done = merge_corpora(corpora, ids, conflicts)  # type: ignore[arg-type]
    summarize([writer.write(items, output)])
    typer.echo(f"{len(items):,} documents of {len(inputs)} corpora.", err=True)
    for n, what in (
        (done.renamed, "got another id"),
        (
            done.same,
            "were left out, since an earlier corpus has the same text, with the same entities or alone with any",
        ),
        (done.joined, "have the entities of several corpora"),
        (done.left, "have the entities of the first corpus, and others were left out"),
    ):
        if n:
            typer.echo(f"{n:,} documents {what}.", err=True)
    good(f"Wrote {output}")


def _names(paths: List[Path]) -> List[str]:
    """What the corpora are called in prefixes: the names of their files, and where these are the same, numbers too."""
    stems = ["stdin" if path == STANDARD else path.resolve().name.split(".")[0] or "corpus" for path in paths]
    return [stem if stems.count(stem) == 1 else f"{stem}-{i}" for i, stem in enumerate(stems, start=1)]
