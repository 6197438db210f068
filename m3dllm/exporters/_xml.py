"""Text as XML can hold it."""

from __future__ import annotations

import re

_NONE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
CHANGED = "XML cannot hold this character: written as �"


def held(text: str) -> str:
    """`text` with a `�` for every character that XML cannot hold, such as control characters."""
    return _NONE.sub("�", text)
