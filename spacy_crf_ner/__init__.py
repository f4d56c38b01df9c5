"""Named-entity recognition for spaCy: a transformer + CNN embedding and an exact, constrained CRF.

Nothing here has to be imported by hand: spaCy finds the factories, architectures, readers and commands
through entry points. Scripts and notebooks may call `spacy_crf_ner.train`.
"""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # late, since every start of spaCy imports this module
    if name == "train":
        from .api import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
