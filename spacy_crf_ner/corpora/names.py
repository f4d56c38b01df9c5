"""Names that must not be given twice, of which there may be millions."""

import hashlib
from array import array


class Names:
    """Names that were given. 8 bytes of each are kept, at 16 to 32 bytes a name, since there may be millions."""

    def __init__(self) -> None:
        self._table = array("Q", bytes(8 * 1024))
        self._count = 0

    def add(self, name: str) -> bool:
        """RETURNS (bool): Whether it is a new one."""
        digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        if not self._put(self._table, int.from_bytes(digest, "little") or 1):
            return False
        self._count += 1
        if self._count * 2 > len(self._table):
            larger = array("Q", bytes(16 * len(self._table)))
            for number in self._table:
                if number:
                    self._put(larger, number)
            self._table = larger
        return True

    @staticmethod
    def _put(table: array, number: int) -> bool:
        at = number % len(table)
        while table[at] and table[at] != number:
            at = (at + 1) % len(table)
        new = not table[at]
        table[at] = number
        return new
