"""What the tests share: a small random encoder on disk, a small corpus, pipelines over both."""

import importlib.util
import os
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import pytest
import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example
from thinc.api import fix_random_seed

# with models so small, threads wait for each other longer than they work; also in processes that tests start
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
if not torch.cuda.is_available():
    # read when triton is first imported, which others may do before our kernels are
    os.environ.setdefault("TRITON_INTERPRET", "1")
ROOT = Path(__file__).parent.parent
CORPORA = ROOT.parent / "shared" / "data"

TEXTS = [
    ("Aspirin was given for fever in Lyon .", [(0, 1, "DRUG"), (4, 5, "PROBLEM"), (6, 7, "PLACE")]),
    ("No fever today .", [(1, 2, "PROBLEM")]),
    ("She took ibuprofen and acetyl salicylic acid .", [(2, 3, "DRUG"), (4, 7, "DRUG")]),
    ("Pain in the left knee since Monday .", [(0, 5, "PROBLEM")]),
    ("They met in New York and then in Lyon .", [(3, 5, "PLACE"), (8, 9, "PLACE")]),
    ("Nothing to report .", []),
]


@pytest.fixture(autouse=True)
def seeded() -> None:
    fix_random_seed(0)


def write_tokenizer(folder: Path, kind: str = "wordpiece") -> Any:
    """Make a tokenizer of a family for the small corpus and save it as transformers would.

    The word pieces are listed here, since what a trainer finds differs from run to run.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    letters = [chr(c) for c in range(33, 127)]
    texts = [text for text, _ in TEXTS] * 3
    if kind == "wordpiece":
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        heads = {word[:3].lower() for text in texts for word in text.split()}
        vocabulary = [*special, *letters, *(f"##{letter}" for letter in letters), *sorted(heads - set(letters))]
        pieces = {piece: i for i, piece in enumerate(vocabulary)}
        tokenizer = Tokenizer(models.WordPiece(pieces, unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        first, last, pad, unk = "[CLS]", "[SEP]", "[PAD]", "[UNK]"
    else:
        special = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
        if kind == "byte-bpe":
            tokenizer = Tokenizer(models.BPE())
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            tokenizer.decoder = decoders.ByteLevel()
            alphabet = pre_tokenizers.ByteLevel.alphabet()
            trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
        else:
            tokenizer = Tokenizer(models.Unigram())
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
            trainer = trainers.UnigramTrainer(
                vocab_size=150, special_tokens=special, unk_token="<unk>", initial_alphabet=letters
            )
        first, last, pad, unk = "<s>", "</s>", "<pad>", "<unk>"
        tokenizer.train_from_iterator(texts, trainer)
    ids = [(token, tokenizer.token_to_id(token)) for token in (first, last)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{first} $A {last}", special_tokens=ids)
    # settings that a published tokenizer.json may have, and that must not cut or fill anything here
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=16, pad_id=tokenizer.token_to_id(pad), pad_token=pad)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, unk_token=unk, cls_token=first, sep_token=last, model_max_length=64
    )
    fast.save_pretrained(folder)
    return fast


def write_encoder(folder: Path, kind: str = "wordpiece", **settings: Any) -> str:
    """A 2-layer encoder with random weights, as a folder. RETURNS: its path."""
    from transformers import BertConfig, BertModel

    tokenizer = write_tokenizer(folder, kind)
    torch.manual_seed(0)
    config = BertConfig(
        **{
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 48,
            "max_position_embeddings": 64,
            "initializer_range": 0.2,
            **settings,
        }
    )
    BertModel(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_encoder(tmp_path_factory.mktemp("encoder"))


def make_nlp(encoder: str, tok2vec: Dict[str, Any] = {}, **settings: Any) -> Language:
    """An untrained pipeline with crf_ner over the small encoder."""
    nlp = spacy.blank("en")
    embedding = {"@architectures": "spacy_crf_ner.TransformerCNN.v1", "encoder": encoder, **tok2vec}
    model = {"@architectures": "spacy_crf_ner.CRFTagger.v1", "tok2vec": embedding}
    nlp.add_pipe("crf_ner", config={"model": model, **settings})
    return nlp


def make_examples(nlp: Language, group: str = "") -> List[Example]:
    """The small corpus; with `group`, entities are in that span group and not in doc.ents."""
    examples = []
    for text, spans in TEXTS:
        reference = nlp.make_doc(text)
        entities = [Span(reference, start, end, label=label) for start, end, label in spans]
        if group:
            reference.spans[group] = entities
        else:
            reference.ents = entities
        examples.append(Example(nlp.make_doc(text), reference))
    return examples


def train(nlp: Language, examples: List[Example], steps: int = 40, rate: float = 0.01) -> Language:
    """Fit a pipeline to the small corpus."""
    from spacy_crf_ner.training.optimizer import make_adamw

    nlp.initialize(lambda: examples)
    optimizer = make_adamw(rate, groups={})
    for _ in range(steps):
        nlp.update(examples, sgd=optimizer)
    return nlp


@pytest.fixture(scope="session")
def trained(encoder: str) -> Language:
    """A pipeline that knows the small corpus by heart. Do not change it."""
    fix_random_seed(0)
    nlp = make_nlp(encoder)
    return train(nlp, make_examples(nlp))


def entities(doc: Doc) -> List[Tuple[int, int, str]]:
    return [(e.start, e.end, e.label_) for e in doc.ents]


def found(doc: Doc) -> List[Tuple[int, int, str, float]]:
    """Entities with their probabilities."""
    group = doc.spans["crf_ner"]
    return [(s.start, s.end, s.label_, float(p)) for s, p in zip(group, group.attrs["scores"])]


@pytest.fixture(scope="session")
def demo_writer() -> Callable[..., Dict[str, int]]:
    """`write` of assets/make_demo_corpus.py."""
    spec = importlib.util.spec_from_file_location("make_demo_corpus", ROOT / "assets" / "make_demo_corpus.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.write


def corpus(*parts: str) -> Path:
    """A real corpus beside the checkout; the test is skipped where it is absent."""
    path = CORPORA.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{path.relative_to(CORPORA.parent.parent)} is not there")
    return path
