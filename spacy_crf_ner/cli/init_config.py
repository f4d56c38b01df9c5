"""`crf-ner init config`: a complete config from a template."""

from importlib.util import find_spec
from pathlib import Path
from typing import Optional

import typer
from spacy import util
from thinc.api import Config
from wasabi import Printer

from ..corpora.files import CorpusError
from ..corpora.formats import detect
from ..embedding.encoder import PACKAGE, resolve_encoder
from .errors import clear_errors, written_whole

# Corpora that are not .spacy files, and what reads them.
READERS = {
    "standoff": "spacy_crf_ner.Standoff.v1",
    "columns": "spacy_crf_ner.Columns.v1",
    "label_studio": "spacy_crf_ner.LabelStudio.v1",
    "jsonl": "spacy_crf_ner.Jsonl.v1",
    "csv": "spacy_crf_ner.Tables.v1",
    "parquet": "spacy_crf_ner.Tables.v1",
    "datasets": "spacy_crf_ner.Tables.v1",
}

TEMPLATES = Path(__file__).parent / "templates"
NAMES = ("transformer_cnn_crf", "shared_embedding", "stacked", "cnn_crf")
WITHOUT_ENCODER = ("cnn_crf", "flair")
WITH_VECTORS = ("stacked", "flair")
# what others train with, in our terms; see docs/migrating.md
PEERS = ("eds_nlp", "eds_nlp_script", "flair", "run_ner", "metaextractor", "medkit")


@clear_errors
def init_config(
    output: Path = typer.Argument("-", help="File to write; - for standard output.", allow_dash=True),
    lang: str = typer.Option("en", "--lang", "-l", help="Two-letter code of the language."),
    encoder: Optional[str] = typer.Option(
        None, "--encoder", "-e", help="Pretrained encoder: a hub name, a folder, or package:NAME/FOLDER."
    ),
    train: Optional[Path] = typer.Option(None, "--train", help="Training corpus, of any format that is read."),
    dev: Optional[Path] = typer.Option(None, "--dev", help="Development corpus, likewise."),
    template: str = typer.Option(
        "transformer_cnn_crf", "--template", help=f"What to build: {', '.join(NAMES + PEERS)}."
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace OUTPUT if it is there."),
) -> None:
    """Write a complete config for spacy train. Nothing is fetched."""
    if output.is_file() and not overwrite:
        raise CorpusError(f"{output}: it is there already. Give another name, or --overwrite to replace it.")
    text = make_config(lang, encoder, train, dev, template).to_str()
    if str(output) == "-":
        print(text)
        return
    with written_whole(output) as beside:
        beside.write_text(text + "\n", encoding="utf-8")
    say = Printer()
    say.good(f"Wrote {output}")
    if encoder is None and template not in WITHOUT_ENCODER and lang != "en":
        say.warn(f"The default encoder is an English one. For {lang}, name another with --encoder.")
    for path in (train, dev):
        if path is not None and not path.exists():
            say.warn(f"{path} is not there yet.")
    missing = [f"--paths.{name} FILE" for name, path in (("train", train), ("dev", dev)) if path is None]
    if template in WITH_VECTORS:
        missing.append("--paths.vectors PIPELINE")
    command = "crf-ner train" if template in PEERS else "train"
    # not by wasabi, which would wrap what is to be copied
    typer.echo(" ".join([f"Train with: python -m spacy {command}", str(output), "--output training", *missing]))


def make_config(lang: str, encoder: Optional[str], train: Optional[Path], dev: Optional[Path], template: str) -> Config:
    """Fill a template.

    A corpus of .spacy files, and one that is not there yet, is read by spaCy's reader, annotations by ours.

    RAISES (ValueError): A name or the format of a corpus is not known, a corpus has texts alone, or the encoder is a
        package or folder that is not there.
    """
    if template not in NAMES + PEERS:
        raise CorpusError(f"--template {template}: it is not one of {', '.join(NAMES + PEERS)}.")
    folder = TEMPLATES / "migrating" if template in PEERS else TEMPLATES
    config = Config().from_disk(folder / f"{template}.cfg", interpolate=False)
    config["nlp"]["lang"] = lang
    if encoder is not None:
        if template in WITHOUT_ENCODER:
            raise CorpusError(f"--encoder: the template {template} has no pretrained encoder. Leave the option out.")
        if encoder.startswith((PACKAGE, ".", "/", "~")):
            resolve_encoder(encoder)
        config["paths"]["encoder"] = encoder
    for name, path in (("train", train), ("dev", dev)):
        if path is not None:
            config["paths"][name] = str(path)
            form = detect(path) if path.exists() else "spacy"
            if form == "text":
                raise CorpusError(f"--{name} {path}: it has texts, but no annotations.")
            if form != "spacy":
                config.setdefault("corpora", {})[name] = {"@readers": READERS[form], "path": f"${{paths.{name}}}"}
    try:
        nlp = util.load_model_from_config(config, auto_fill=True)
    except ImportError as error:
        if find_spec(f"spacy.lang.{lang}") is None:
            why = "spaCy has no such language. Use its two-letter code, or xx for none."
        else:
            why = str(error)
        raise CorpusError(f"--lang {lang}: {why}") from error
    made = nlp.config
    if made["nlp"]["tokenizer"] == {"@tokenizers": "spacy.Tokenizer.v1"}:
        made["nlp"]["tokenizer"] = {"@tokenizers": "spacy_crf_ner.Tokenizer.v1"}
    return made
