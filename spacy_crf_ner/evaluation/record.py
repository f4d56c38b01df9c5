"""What was evaluated: versions and hashes, so that a score can be told from another."""

import hashlib
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Dict

from spacy.language import Language

PACKAGES = ("spacy-crf-ner", "spacy", "spacy-transformers", "thinc", "torch", "transformers", "tokenizers", "numpy")
CHUNK = 1 << 20


def hash_of(path: Path) -> str:
    """SHA-256 of a file; of a folder that of the names and hashes of all files in it, hidden ones left out."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
        listed = "".join(f"{file.relative_to(path).as_posix()}\0{hash_of(file)}\n" for file in files)
        return hashlib.sha256(listed.encode("utf-8")).hexdigest()
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            found.update(chunk)
    return found.hexdigest()


def describe_model(nlp: Language, name: str) -> Dict[str, Any]:
    """A pipeline: what it was loaded as, its name, version and language, its pipes, and the hash of its folder."""
    path = nlp.path
    return {
        "loaded_as": name,
        "name": nlp.meta.get("name", ""),
        "version": nlp.meta.get("version", ""),
        "lang": nlp.lang,
        "pipes": list(nlp.pipe_names),
        "sha256": hash_of(path) if path is not None and path.exists() else None,
    }


def versions() -> Dict[str, str]:
    """Versions of Python and of the packages that scores depend on; those that are not installed are left out."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
