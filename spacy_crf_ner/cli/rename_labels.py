"""`crf-ner rename-labels`: labels under other names."""

from pathlib import Path
from typing import List, Optional

import typer

from ..corpora.items import read_items
from ..corpora.rename import read_map, rename
from . import options
from .errors import clear_errors, good
from .writing import CorpusWriter, summarize


@clear_errors
def rename_labels(
    input: Path = options.INPUT,
    output: Path = typer.Argument(..., help="The .spacy file, or with --to the file or folder, to write."),
    said: Optional[List[str]] = typer.Option(
        None, "--map", help="OLD=NEW; OLD= drops the label's entities. Once for each label."
    ),
    map_file: Optional[Path] = typer.Option(None, "--map-file", help="A text file of such lines; # begins a comment."),
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
    """Rename labels, bring several together under one name, or drop some.

    All new names are given at once, so that two labels can change places. Of a .spacy file doc.ents and all span
    groups are changed, with --spans only the one.
    """
    names = read_map(said or [], map_file)
    name = options.format_of(input, source)
    read = options.read_options(encoding, columns, sentences, spans)
    writer = CorpusWriter(target, lang, align, discontinuous, read)
    writer.check(output)
    items, done = rename(list(read_items(input, name, read)), names, spans)
    summarize([writer.write(items, output)])
    typer.echo(f"{done.renamed:,} entities were renamed, {done.dropped:,} dropped.", err=True)
    if done.merged:
        typer.echo(f"{done.merged:,} entities were left out, since they have become the same as another one.", err=True)
    if done.links:
        typer.echo(f"{done.links:,} relations and the like were left out with what they joined.", err=True)
    good(f"Wrote {output}")
