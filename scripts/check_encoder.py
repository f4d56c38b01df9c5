"""Check the SHA-256 of an encoder's weights.

python scripts/check_encoder.py ENCODER SHA256
"""

import hashlib
import sys
from pathlib import Path

from spacy_crf_ner.embedding.encoder import resolve_encoder


def main(encoder: str, expected: str) -> None:
    """Exit with 1 and a message where the weights are not there or not the right ones."""
    try:
        weights = Path(resolve_encoder(encoder)) / "model.safetensors"
    except ValueError as error:
        sys.exit(str(error))
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else hashlib.sha256(file.read())
    found = digest.hexdigest()
    if found != expected:
        sys.exit(f"{weights} has SHA-256 {found}, not {expected}: install the package anew.")
    print(f"{encoder}: the weights are the expected ones.")


if __name__ == "__main__":
    main(*sys.argv[1:])
