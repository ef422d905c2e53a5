"""Do the token ids of a run mean the same words to two models? A run encodes its rows once, for all of its models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from palimpsest.errors import PlanError
from palimpsest.printed import short
from palimpsest.records import Chat, Completion, Example, Labelled, Text

ROWS_ASKED = 32  # rows of each set that both tokenizers are asked for


def check_same_words(
    mine: Any, theirs: Any, examples: Mapping[str, Sequence[Example]], given: str, than: str = "--model"
) -> None:
    """Refuse a model whose tokenizer reads or writes the rows otherwise: its scores would be those of other words.

    Special tokens and templates are not compared: what they add is in the ids that all models are given.

    Args:
        mine: tokenizer of the model; None of one that takes images.
        theirs: of the base or the oracle.
        examples: the sets of the run.
        given: the other model, as on the command line, such as "--oracle DIR".
        than: the option that gave the model.

    Raises:
        PlanError: names the first difference.
    """
    if mine is None or theirs is None:
        return
    difference = next(_other_tokens(mine, theirs), None) or next(_other_cuts(mine, theirs, examples), None)
    if difference is not None:
        raise PlanError(
            f"{given} has another tokenizer than {than} ({difference}): it would be asked for other words; give one "
            "that was trained with the tokenizer of the model"
        )


def _other_tokens(mine: Any, theirs: Any) -> Iterator[str]:
    """Ids that stand for another token; a token that only one of them has is no difference."""
    words, others = ({number: token for token, number in one.get_vocab().items()} for one in (mine, theirs))
    for number in sorted(words.keys() & others.keys()):
        if words[number] != others[number]:
            yield f"id {number} is {short(others[number])} there and {short(words[number])} here"


def _other_cuts(mine: Any, theirs: Any, examples: Mapping[str, Sequence[Example]]) -> Iterator[str]:
    """Rows that are cut into other tokens."""
    for rows in examples.values():
        for example in islice(rows, ROWS_ASKED):
            text = _text_of(example)
            cuts = [list(one(text, add_special_tokens=False)["input_ids"]) for one in (mine, theirs)]
            if cuts[0] != cuts[1]:
                yield f"example {short(example.id)} is {len(cuts[1])} tokens there and {len(cuts[0])} here, or others"


def _text_of(example: Example) -> str:
    """What of an example is cut into tokens; nothing of one that comes as ids."""
    content = example.content
    if isinstance(content, Text | Labelled):
        return content.text
    if isinstance(content, Completion):
        return content.prompt + content.completion
    return "\n".join(message.content for message in content.messages) if isinstance(content, Chat) else ""
