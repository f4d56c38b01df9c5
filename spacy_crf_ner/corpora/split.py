"""Parts of a corpus for training, development and test."""

import random
from typing import Dict, List, Sequence, TypeVar

Item = TypeVar("Item")


def split(items: Sequence[Item], shares: Dict[str, float], seed: int) -> Dict[str, List[Item]]:
    """Deal items out at random, the same for the same seed.

    shares (Dict[str, float]): Share of each part; they sum to 1. A part with a share above 0 gets at least one
        item where there are enough.
    RETURNS (Dict[str, List]): The parts, each in the order of `items`.
    RAISES (ValueError): The shares do not sum to 1, or there are fewer items than parts.
    """
    if any(share < 0 for share in shares.values()) or abs(sum(shares.values()) - 1) > 1e-9:
        raise ValueError(f"The shares {shares} must not be negative and must sum to 1.")
    wanted = [name for name, share in shares.items() if share > 0]
    if len(items) < len(wanted):
        raise ValueError(f"{len(items)} documents cannot be split into {len(wanted)} parts.")
    order = list(range(len(items)))
    random.Random(seed).shuffle(order)
    sizes = {name: max(1, round(shares[name] * len(items))) if name in wanted else 0 for name in shares}
    largest = max(sizes, key=lambda name: sizes[name])
    sizes[largest] += len(items) - sum(sizes.values())
    parts = {}
    at = 0
    for name, size in sizes.items():
        parts[name] = [items[i] for i in sorted(order[at : at + size])]
        at += size
    return parts
