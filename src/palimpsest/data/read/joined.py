"""Do prompts and completions run into one word? Torch-free, so that it can be said before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence

from palimpsest.records import Completion, Example


def joined_without_blank(examples: Sequence[Example]) -> str | None:
    r"""A note where prompts and completions would run into one word, as columns of questions and answers do.

    No word of the rows is in it: notes stand in records.

    >>> print(joined_without_blank([Example("1", Completion("Who?", "Ann."))]).partition("; ")[2])
    if the model saw a blank or a line break there, --separator ' ' or --separator '\n'
    """
    pairs = [e.content for e in examples if isinstance(e.content, Completion)]
    runs = [pair for pair in pairs if not pair.prompt[-1:].isspace() and not pair.completion[:1].isspace()]
    if not runs:
        return None
    said = f"nothing stands between prompt and completion in {len(runs)} of {len(pairs)} rows"
    return rf"{said}; if the model saw a blank or a line break there, --separator ' ' or --separator '\n'"
