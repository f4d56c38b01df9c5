"""`crf-ner stats`: what a corpus holds, and what in it looks like a mistake."""

import json
from pathlib import Path
from typing import Optional

import typer
from tqdm import tqdm

from ..corpora.files import STANDARD, CorpusError
from ..corpora.formats import FORMATS
from ..corpora.statistics import Statistics
from ..corpora.statistics_page import draw_plots, page, text_lines, write_plots
from . import options
from .errors import clear_errors, good, written_whole
from .writing import blank


@clear_errors
def stats(
    input: Path = options.INPUT,
    source: Optional[str] = options.SOURCE,
    output: Optional[Path] = typer.Option(
        None, "--output", "-o", help="Folder for stats.html, a page with plots, the plots as .png, and stats.json."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
    listed: int = typer.Option(10, "--list", help="So many of each suspicious thing are listed; 0: all."),
    long: int = typer.Option(25, "--long", help="Tokens above which an entity is called very long."),
    lang: str = options.LANG,
    encoding: str = options.ENCODING,
    columns: Optional[str] = options.COLUMNS,
    sentences: int = options.SENTENCES,
    spans: str = options.SPANS,
) -> None:
    """Count documents, tokens and entities, and list what looks like a mistake, with where it is.

    INPUT is read twice, to find where a text that is an entity elsewhere is none; standard input only once, without
    this. It is never in memory as a whole.
    """
    if listed < 0 or long < 1:
        raise CorpusError(f"--list {listed} --long {long}: the first must not be negative, the second at least 1.")
    if output is not None and output.exists() and not output.is_dir():
        raise CorpusError(f"{output}: --output must be a folder.")
    name = options.format_of(input, source)
    read = options.read_options(encoding, columns, sentences, spans)
    counted = Statistics(blank(lang).make_doc, listed, long)
    for document in tqdm(FORMATS[name].read(input, read), desc=f"Reading {input}", unit=" documents", disable=None):
        counted.add(document)
    if not counted.documents:
        raise CorpusError(f"{input}: there is no document in it.")
    if input != STANDARD:
        for document in tqdm(FORMATS[name].read(input, read), desc="Once more", unit=" documents", disable=None):
            counted.look_again(document)
    found = counted.to_dict()
    typer.echo(json.dumps(found, indent=1, ensure_ascii=False) if as_json else "\n".join(text_lines(found)))
    if output is not None:
        plots = draw_plots(counted)
        write_plots(plots, output, written_whole)
        with written_whole(output / "stats.json") as beside:
            beside.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        with written_whole(output / "stats.html") as beside:
            beside.write_text(page(found, plots, f"{input}"), encoding="utf-8")
        good(f"Wrote {output / 'stats.html'}")
