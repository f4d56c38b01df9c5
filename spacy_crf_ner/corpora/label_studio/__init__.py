"""Label Studio's exports: JSON and JSON_MIN, CSV and TSV, `completions` of old versions, and storage targets, which
hold a file for each annotation.

https://labelstud.io/guide/export. Offsets count code points in today's versions, and UTF-16 units, as JavaScript does,
in those of 2021 and before; which it is, and whether it is so, is seen from the text that each result quotes.
"""

from .reader import read_label_studio
from .settings import LabelStudio
from .tasks import is_label_studio, may_be_export
from .writer import write_label_studio

__all__ = ["LabelStudio", "is_label_studio", "may_be_export", "read_label_studio", "write_label_studio"]
