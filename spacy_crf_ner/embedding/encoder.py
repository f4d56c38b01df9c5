"""A pretrained Hugging Face encoder: where it comes from, how it is described, and the torch module."""

import importlib.util
import json
from pathlib import Path
from typing import Any, Dict, Tuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .cnn import TextCNN
from .pieces import NO_LIMIT, PieceBatch, PieceTokenizer, special_settings

PACKAGE = "package:"
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


def load_pretrained(encoder: str) -> Tuple[Any, PieceTokenizer, Dict[str, Any]]:
    """Fetch an encoder with its weights.

    RETURNS: The encoder in float32, its tokenizer, and the description from which `rebuild` makes both again.
    RAISES (ValueError): It is not there, its tokenizer is a slow one, or it also has a decoder.
    """
    from spacy_transformers.layers.hf_shim import HFObjects
    from spacy_transformers.layers.transformer_model import huggingface_from_pretrained

    source = resolve_encoder(encoder)
    try:
        found: HFObjects = huggingface_from_pretrained(source, {"use_fast": True}, {})
    except Exception as error:  # transformers and safetensors raise what they like for a broken or missing file
        raise _cannot_load(encoder, error) from None
    config = found.transformer.config
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
    return _without_pooler(found.transformer.float()), tokenizer, description


def rebuild(description: Dict[str, Any]) -> Tuple[Any, PieceTokenizer]:
    """Make encoder and tokenizer from their description, without any file or network; weights are random."""
    from tokenizers import Tokenizer
    from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

    settings = dict(description["model"])
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    encoder = _without_pooler(AutoModel.from_config(config).float())
    fast = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(description["tokenizer"]), **description["special_tokens"]
    )
    return encoder, PieceTokenizer(fast, description["max_length"])


def _without_pooler(encoder: Any) -> Any:
    """Drop the layer that makes one vector a text: it is not used, and would be trained on nothing."""
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


class TransformerCNNModule(nn.Module):
    """Encoder over windows of wordpieces, mean over the pieces of each token, CNN over the tokens.

    encoder: A Hugging Face encoder.
    tokenizer (PieceTokenizer): Its tokenizer; kept here so that the two travel together.
    width (int): Width of the token vectors that come out.
    cnn (Dict[str, Any]): Settings of TextCNN but for its widths.
    """

    def __init__(self, encoder: Any, tokenizer: PieceTokenizer, width: int, cnn: Dict[str, Any]) -> None:
        super().__init__()
        self.encoder = encoder
        self.tokenizer = tokenizer
        hidden = encoder.config.hidden_size
        self.no_pieces = nn.Parameter(torch.zeros(hidden))
        self.cnn = TextCNN(hidden, width, **cnn)

    def forward(self, batch: PieceBatch, dropout: float = 0.0, precision: str = "fp32") -> Tensor:
        """Vectors of all tokens of a batch.

        dropout (float): In training, the share of values set to 0 in the token vectors and in the CNN. At 0
            the encoder's own dropout is off too; above, it keeps the rate of its own configuration.
        precision (str): What encoder and CNN are computed in, "fp32" or "bf16". Weights are float32 all the same.
        RETURNS (Tensor): float32, (tokens, width).
        """
        self.encoder.train(self.training and dropout > 0)
        with torch.autocast(self.no_pieces.device.type, torch.bfloat16, enabled=precision == "bf16"):
            return self.cnn(self._embed(batch), batch.doc_lengths, dropout).float()

    def _embed(self, batch: PieceBatch) -> Tensor:
        """Mean over the pieces of each token, each from the centre of a window, float32, (tokens, hidden).

        One micro-batch after another. In training what lies inside the encoder is kept for the last one only, and
        worked out again for the others on the way back.
        """
        device = self.no_pieces.device
        tokens = self.no_pieces.new_zeros(sum(batch.doc_lengths), len(self.no_pieces))
        last = len(batch.micro_batches) - 1
        for i, micro_batch in enumerate(batch.micro_batches):
            inputs = [torch.from_numpy(part).to(device) for part in micro_batch]
            if torch.is_grad_enabled() and i < last:
                part = checkpoint(self._pool_windows, *inputs, use_reentrant=False)
            else:
                part = self._pool_windows(*inputs)
            tokens = tokens.index_add_(0, inputs[2], part)
        without = torch.from_numpy(batch.no_pieces).to(device)
        return tokens.index_add_(0, without, self.no_pieces.expand(len(without), -1))

    def _pool_windows(
        self, ids: Tensor, n_real: Tensor, tokens: Tensor, places: Tensor, owners: Tensor, shares: Tensor
    ) -> Tensor:
        """What the windows of a micro-batch add to the vectors of their tokens, float32, (here, hidden)."""
        mask = torch.arange(ids.shape[1], device=ids.device) < n_real[:, None]
        hidden = self.encoder(input_ids=ids, attention_mask=mask.long())[0]  # (windows, longest, hidden)
        pieces = hidden.flatten(0, 1)[places].float() * shares[:, None]
        return pieces.new_zeros(len(tokens), pieces.shape[1]).index_add(0, owners, pieces)
