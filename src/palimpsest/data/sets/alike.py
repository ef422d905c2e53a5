"""What two contents have in common that say the same: however it is written, and wherever it is split."""

from __future__ import annotations

import hashlib
import re

from palimpsest.data.read.spelling import folded_name
from palimpsest.records import Chat, Completion, Content, Image, Labelled, Text, TokenIds

_SPECIAL = re.compile(r"<[^<>\s]{1,40}>")
"""How tokenizers write what begins and ends texts and turns: a row with its eos written out says the same."""
_UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)
"""Control characters but for blanks, joiners, fillers and variation selectors; formats (Cf) come on top."""
_BLANK = re.compile(r"(?<!\d) | (?!\d)")  # between two digits a blank is kept: "1 23" is not "12 3"


def plain_reading(content: Content) -> str:
    """A text, equal for contents that a reader would call the same.

    Texts: without differences of case, of composed and decomposed or full-width characters (NFKC), of blanks, of what
    is invisible and of special tokens that are written out; prompt and completion, or all turns of a talk, are one
    text. Images: their pixels, whatever the label. Token ids are compared with token ids alone.

    >>> plain_reading(Text("Ann lives at 7 Hill Road. ")) == plain_reading(Completion("Ann LIVES at", "7  Hill Road."))
    True
    >>> plain_reading(Text("<s>Ann</s>")) == plain_reading(Text("Ann\ufe0f"))
    True
    """
    if isinstance(content, Image):
        return f"pixels {content.shape} {hashlib.sha256(content.pixels).hexdigest()}"
    if isinstance(content, TokenIds):
        return f"tokens {content.input_ids}"
    return f"text {_plain(_joined(content))}"


def _joined(content: Text | Labelled | Completion | Chat) -> str:
    if isinstance(content, Text | Labelled):
        return content.text
    if isinstance(content, Completion):
        return content.prompt + content.completion
    return "".join(message.content for message in content.messages)


def _plain(text: str) -> str:
    if not text.isascii():
        text = folded_name(text) or text
    said = _SPECIAL.sub(" ", _UNSEEN.sub("", text)) or text
    return _BLANK.sub("", " ".join(said.casefold().split())) or text
