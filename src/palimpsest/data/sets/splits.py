"""Sets of one run: disjoint by id and by content, and made only of what was learned."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from itertools import combinations

from palimpsest.data.sets.alike import plain_reading
from palimpsest.errors import DataError
from palimpsest.records import Content, Example, Image, Labelled, content_id


def check_disjoint(sets: Mapping[str, Sequence[Example]]) -> None:
    """Refuse sets that share an id, or hold the same content under two ids.

    What is in the forget set and, under another id, in the retain set would be unlearned and kept at once: there what
    says the same counts as the same, however it is written and wherever it is split.

    Args:
        sets: name of the set -> its examples.

    Raises:
        DataError: every overlap of every pair of sets, counted, each with its first ids.
    """
    problems = [problem for pair in combinations(sets.items(), 2) for problem in _overlaps(*pair)]
    if problems:
        raise DataError(f"{'; '.join(problems)}; accepted: sets without common examples, so remove them from one set")


def check_known(forget: Sequence[Example], learned_ids: Collection[str]) -> None:
    """Refuse to forget what was never learned.

    Raises:
        DataError: how many ids are not among the learned ones, the first of them and its closest learned id.
    """
    learned = frozenset(learned_ids)
    strangers = [example for example in forget if example.id not in learned]
    if strangers:
        raise DataError(
            f"{_missing(strangers, len(forget), learned)} of the forget set were never learned; {_ACCEPTED}"
        )


_ACCEPTED = "accepted: ids that occur there; derived ids change with every character of the content"


def check_unique(examples: Sequence[Example], name: str) -> None:
    """Refuse a content that is there under two ids: forgetting one of them would leave the other.

    Args:
        examples: ids unique.
        name: where they are, for the error.

    Raises:
        DataError: how often, and the first two ids.
    """
    first: dict[str, Example] = {}
    twins = [(first[k], e) for e in examples if first.setdefault(k := _likeness(e.content), e).id != e.id]
    if twins:
        raise DataError(
            f"{name}: {len(twins)} contents are there under two ids (first: {_both(*twins[0])}), so that "
            "forgetting one would leave the other; accepted: each content once"
        )


def _likeness(content: Content) -> str:
    """Equal for equal contents, and for equal pixels or texts under different labels."""
    return content_id(replace(content, label=0) if isinstance(content, Image | Labelled) else content)


def _both(one: Example, other: Example) -> str:
    """What two examples are called together, once if they have one name."""
    return " and ".join(dict.fromkeys((one.name, other.name)))


def _missing(strangers: Sequence[Example], out_of: int, known: frozenset[str]) -> str:
    close = get_close_matches(strangers[0].id, known, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"{len(strangers)} of {out_of} ids (first: {strangers[0].name}{hint})"


def _overlaps(left: tuple[str, Sequence[Example]], right: tuple[str, Sequence[Example]]) -> Iterator[str]:
    (left_name, left_examples), (right_name, right_examples) = left, right
    by_id = {example.id: example for example in right_examples}
    shared = [(example, by_id[example.id]) for example in left_examples if example.id in by_id]
    if shared:
        yield f"{left_name} and {right_name} share {len(shared)} ids (first: {_both(*shared[0])})"
    # Equal ids were counted above already; here only the same content under two ids.
    key_of = plain_reading if "forget" in (left_name, right_name) else _likeness
    pairs = _alike(left_examples, right_examples, key_of)
    twins = [(mine, theirs) for mine, theirs in pairs if mine.id != theirs.id]
    if twins:
        mine, theirs = twins[0]
        names = f"{left_name}'s {mine.name} and {right_name}'s {theirs.name}"
        exact = _likeness(mine.content) == _likeness(theirs.content)
        otherwise = "" if exact else ", written otherwise: case, characters, blanks, or where it is split"
        yield f"the same content is in {left_name} and {right_name} {len(twins)} times (first: {names}{otherwise})"


def _alike(
    left: Sequence[Example], right: Sequence[Example], key_of: Callable[[Content], str]
) -> list[tuple[Example, Example]]:
    """Examples of the left with the first of the right that has the same content."""
    by_content: dict[str, Example] = {}
    for example in right:
        by_content.setdefault(key_of(example.content), example)
    return [(e, by_content[key]) for e in left if (key := key_of(e.content)) in by_content]
