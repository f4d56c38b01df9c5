"""`python -m spacy crf-ner …`: hangs our commands on spaCy's command line."""

import typer
from spacy.cli._util import app as spacy_app  # the only way in that spaCy's own plugins use

from .calibrate import calibrate
from .check import check
from .convert import convert
from .debug import debug
from .evaluate import evaluate
from .init_config import init_config
from .merge import merge
from .quantize import quantize
from .rename_labels import rename_labels
from .split import split
from .stats import stats
from .subsample import subsample
from .suggest import suggest
from .train import train

app = typer.Typer(
    name="crf-ner",
    help="Transformer + CNN + CRF named-entity recognition: data, configs, training, deployment.",
    no_args_is_help=True,
)
init = typer.Typer(name="init", help="Start a project.", no_args_is_help=True)
init.command("config")(init_config)
app.add_typer(init)
app.command("convert")(convert)
app.command("stats")(stats)
app.command("split")(split)
app.command("merge")(merge)
app.command("subsample")(subsample)
app.command("rename-labels")(rename_labels)
app.command("check")(check)
app.command("evaluate")(evaluate)
app.command("calibrate")(calibrate)
app.command("quantize")(quantize)
app.command("suggest")(suggest)
for name, command in (("debug", debug), ("train", train)):
    app.command(name, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(command)
spacy_app.add_typer(app)
