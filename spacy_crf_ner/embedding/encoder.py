"""A pretrained Hugging Face encoder: where it comes from, and how it is described and made again."""

import contextlib
import importlib.util
import json
import logging
import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Tuple

from .dropout import replace_dropout
from .pieces import NO_LIMIT, PieceTokenizer, special_settings

logger = logging.getLogger("spacy")

PACKAGE = "package:"
LAYER = re.compile(r"\.(?:layers?|h|blocks?)\.(\d+)\.")
HOW_TO_NAME = (
    "An encoder is the name of a model on the Hugging Face hub, a folder that has config.json, tokenizer.json and "
    "the weights, or package:NAME/FOLDER, a folder inside an installed Python package."
)


def resolve_encoder(encoder: str) -> str:
    """Turn an encoder reference into what transformers can load: a hub name, or a folder that is there.

    RAISES (ValueError): The package or the folder is not there.
    """
    if encoder.startswith(PACKAGE):
        name, _, inner = encoder[len(PACKAGE) :].partition("/")
        # a plain name only: for a dotted one Python would import what stands before the dot
        spec = importlib.util.find_spec(name) if name.isidentifier() else None
        if spec is None or not spec.submodule_search_locations:
            raise ValueError(
                f'encoder = "{encoder}": there is no installed Python package "{name}". Install it with pip '
                f"(its name on the index may have dashes: {name.replace('_', '-')}), or name another encoder. "
                f"{HOW_TO_NAME}"
            )
        folder = Path(next(iter(spec.submodule_search_locations))) / inner
        if not (folder / "config.json").is_file():
            raise ValueError(f'encoder = "{encoder}": the package has no folder "{inner}" with a config.json in it.')
        return str(folder)
    path = Path(encoder)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ValueError(
                f'encoder = "{encoder}": the folder has no config.json, so it holds no encoder. {HOW_TO_NAME}'
            )
        return str(path)
    if path.is_absolute() or encoder.startswith((".", "~")) or encoder.count("/") > 1:
        raise ValueError(f'encoder = "{encoder}": there is no such folder. {HOW_TO_NAME}')
    return encoder


def _cannot_load(encoder: str, error: Exception) -> ValueError:
    first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ValueError(
        f'encoder = "{encoder}": it could not be loaded ({first_line}). Is the name right? {HOW_TO_NAME} Without a '
        "network, use a folder or a package."
    )


def load_tokenizer(encoder: str) -> PieceTokenizer:
    """The tokenizer of an encoder alone, without its weights.

    RAISES (ValueError): The encoder is not there, or its tokenizer is a slow one.
    """
    from transformers import AutoConfig, AutoTokenizer

    source = resolve_encoder(encoder)
    try:
        config = AutoConfig.from_pretrained(source)
        tokenizer = AutoTokenizer.from_pretrained(source, use_fast=True)
    except Exception as error:  # transformers and safetensors raise what they like for a broken or missing file
        raise _cannot_load(encoder, error) from None
    return PieceTokenizer(tokenizer, _max_length(config, tokenizer))


def load_pretrained(
    encoder: str, layers: Sequence[int] = (-1,)
) -> Tuple[Any, PieceTokenizer, Dict[str, Any], List[int]]:
    """Fetch an encoder with its weights.

    layers (Sequence[int]): Which of its layers are wanted: 0 for what goes into the first, -1 for the last. Those
        above the highest of them are not built.
    RETURNS: The encoder in float32, its tokenizer, the description from which `rebuild` makes both again, and the
        layers that are wanted, none of them negative.
    RAISES (ValueError): It is not there, its tokenizer is a slow one, it also has a decoder, or it has no such layer.
    """
    from spacy_transformers.layers.hf_shim import HFObjects
    from spacy_transformers.layers.transformer_model import huggingface_from_pretrained
    from transformers import AutoConfig

    source = resolve_encoder(encoder)
    try:
        depth = AutoConfig.from_pretrained(source).num_hidden_layers
        if not all(-depth - 1 <= layer <= depth for layer in layers):
            raise _NoSuchLayer(
                f'layers = {list(layers)}: "{encoder}" has layers 0 to {depth}; -1 is the last, -{depth + 1} the first.'
            )
        chosen = [layer % (depth + 1) for layer in layers]
        settings = {} if max(chosen) == depth else {"num_hidden_layers": max(chosen)}
        loader = _Loader()
        found: HFObjects = huggingface_from_pretrained(source, {"use_fast": True}, settings, model_cls=loader)
        # the pooler is dropped anyway, and buffers follow from the configuration
        computed = dict(found.transformer.named_buffers())
        lacking = (name for name in loader.report["missing_keys"] if name not in computed)
        missing = [name for name in lacking if "pooler" not in name.split(".")]
        if missing:
            raise _Incomplete(f"weights that it needs are not there: {_some(missing)}. They would be random")
    except _NoSuchLayer as error:
        raise ValueError(str(error)) from None
    except Exception as error:  # transformers and safetensors raise what they like for a broken or missing file
        raise _cannot_load(encoder, error) from None
    config = found.transformer.config
    _tell_what_is_dropped(encoder, config, loader.report["unexpected_keys"], max(chosen))
    if config.is_encoder_decoder:
        raise ValueError(
            f'encoder = "{encoder}": {config.model_type} has an encoder and a decoder. Use an encoder-only model, such '
            "as one of the BERT, RoBERTa, DeBERTa or ELECTRA families."
        )
    tokenizer = PieceTokenizer(found.tokenizer, _max_length(config, found.tokenizer))
    description = {
        "model": json.loads(config.to_json_string(use_diff=False)),
        "tokenizer": tokenizer.files(),
        "special_tokens": special_settings(found.tokenizer),
        "max_length": tokenizer.max_length,
    }
    return _prepared(found.transformer.float()), tokenizer, description, chosen


class _NoSuchLayer(Exception):
    pass


class _Incomplete(Exception):
    pass


class _Loader:
    """transformers' AutoModel, but that what it finds in a checkpoint is kept rather than reported by itself.

    report (Dict[str, Sequence[str]]): "missing_keys", weights that the encoder has and the checkpoint has not;
        "unexpected_keys", the other way round.
    """

    def __init__(self) -> None:
        self.report: Dict[str, Sequence[str]] = {}

    def from_pretrained(self, source: str, **settings: Any) -> Any:
        from transformers import AutoModel

        with _quiet():
            model, self.report = AutoModel.from_pretrained(source, output_loading_info=True, **settings)
        return model


def _tell_what_is_dropped(encoder: str, config: Any, unexpected: Sequence[str], highest: int) -> None:
    """Say which weights of a checkpoint are not used: its head, but not layers that were not asked for."""
    found = ((name, LAYER.search(name)) for name in unexpected)
    head = [name for name, layer in found if layer is None or int(layer.group(1)) < highest]
    if head:
        made_for = ", ".join(config.architectures or ["another task"])
        logger.info(
            'encoder = "%s": %d weights of the checkpoint (%s) are left out: %s. They are the head that it was trained '
            "with; the pipe that uses the encoder has a head of its own.",
            encoder, len(head), made_for, _some(head),
        )  # fmt: skip


def _some(names: Sequence[str]) -> str:
    listed = ", ".join(sorted(names)[:6])
    return f"{listed} and {len(names) - 6} more" if len(names) > 6 else listed


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own report of weights that a checkpoint lacks or has too many of."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def rebuild(description: Dict[str, Any]) -> Tuple[Any, PieceTokenizer]:
    """Make encoder and tokenizer from their description, without any file or network; weights are random."""
    from tokenizers import Tokenizer
    from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

    settings = dict(description["model"])
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    encoder = _prepared(AutoModel.from_config(config).float())
    fast = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(description["tokenizer"]), **description["special_tokens"]
    )
    return encoder, PieceTokenizer(fast, description["max_length"])


def _prepared(encoder: Any) -> Any:
    """Drop the layer that makes one vector a text, which would be trained on nothing, and put our dropout in."""
    replace_dropout(encoder)
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    return encoder


def _max_length(config: Any, tokenizer: Any) -> int:
    """Most wordpieces that an encoder takes at once, special ones included."""
    positions = getattr(config, "max_position_embeddings", None) or NO_LIMIT
    if config.model_type in (
        "roberta",
        "camembert",
        "xlm-roberta",
        "xlm-roberta-xl",
        "longformer",
        "mpnet",
        "data2vec-text",
    ):
        # their positions start behind the padding id
        positions -= (config.pad_token_id or 0) + 1
    if config.model_type in ("deberta", "deberta-v2", "xlnet") and getattr(config, "relative_attention", True):
        positions = max(positions, 512)
    return int(min(positions, tokenizer.model_max_length or NO_LIMIT, NO_LIMIT))
