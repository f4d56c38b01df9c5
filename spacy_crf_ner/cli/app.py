"""`python -m spacy crf-ner …`: hangs our commands on spaCy's command line."""

import typer
from spacy.cli._util import app as spacy_app  # the only way in that spaCy's own plugins use

from .convert import convert
from .init_config import init_config
from .quantize import quantize
from .split import split

app = typer.Typer(
    name="crf-ner",
    help="Transformer + CNN + CRF named-entity recognition: data, configs, deployment.",
    no_args_is_help=True,
)
init = typer.Typer(name="init", help="Start a project.", no_args_is_help=True)
init.command("config")(init_config)
app.add_typer(init)
app.command("convert")(convert)
app.command("split")(split)
app.command("quantize")(quantize)
spacy_app.add_typer(app)
