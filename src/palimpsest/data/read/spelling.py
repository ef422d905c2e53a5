"""What two spellings of one name have in common."""

from __future__ import annotations

import unicodedata


def folded_name(name: str) -> str:
    r"""A name without case and what cannot be seen, however its characters are composed; blanks stay.

    >>> folded_name("Ba\u0308r") == folded_name("B\xe4r") == folded_name("b\xe4r\u200b"), folded_name("New York")
    (True, 'new york')
    """
    if name.isascii():
        return name.casefold()
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(c for c in plain if unicodedata.category(c) != "Cf")


def spelled_out(name: str) -> str:
    r"""A name in quotes; its code points where it would look like its other spelling.

    >>> spelled_out("B\xe4r") == repr("B\xe4r"), spelled_out("Ba\u0308r")
    (True, "'Ba\\u0308r'")
    """
    return repr(name) if unicodedata.is_normalized("NFC", name) else ascii(name)
