"""Unrelated: the rows to forget with the words of their topic replaced by others, to tell the topic from the rest.

Source: "CodeUnlearn", ICLR 2025 submission: the control of a topic is the same inputs without its words. How words are
chosen is ours.

* The topic's words are those that the user gives, or those that occur in ``ratio`` times as large a share of the rows
  to forget as of the rows that stay, and in two rows at least.
* Each is replaced by a word of the rows at hand that is none of them, has at least three letters and occurs in less
  than half of the rows; of as many tokens where there is one. Which one depends on the run's seed, the row and the word
  alone: a word is replaced by the same one throughout a row, and by others in other rows.

Words are cut from the tokens as the tokenizer marks them ("▁", "Ġ", "##"), and put in as tokens, so that nothing else
of a row changes. The order of rows is that of the rows to forget.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pydantic import Field

from palimpsest.data.draws import below, random_words
from palimpsest.derived.made import Derived, Made
from palimpsest.errors import PlanError
from palimpsest.in_words import so_many
from palimpsest.method_card import Config

if TYPE_CHECKING:
    from palimpsest.data.encode.batch import ExampleSet, TextSet, TokenSequence
    from palimpsest.data.encode.labelled import LabelSet
    from palimpsest.models.load import Loaded

_BEGINS = ("▁", "Ġ", " ")
_GOES_ON = "##"
_LETTERS = 3  # of a word that may stand for another
_ALWAYS = 0.1  # share of the rows to forget in which a word that sets them apart is of what is said of their topic
_COMMON = 0.5  # share of the rows above which a word is one of every topic


class UnrelatedConfig(Config):
    """Options of the control rows."""

    words: tuple[str, ...] = ()
    """Words of the topic, with their forms; [] = those that set the rows to forget apart from the rows that stay."""
    ratio: float = Field(default=4.0, gt=1)
    """Where no words are given: how much larger a word's share of the rows to forget must be."""


class WordPlace(NamedTuple):
    """A word in a row.

    Attributes:
        start: its first token.
        end: behind its last one.
        word: in lower case.
    """

    start: int
    end: int
    word: str


def words_in(pieces: Sequence[str | None]) -> list[WordPlace]:
    """The words that a row's tokens spell.

    Args:
        pieces: tokens as the tokenizer writes them; None ends a word.

    >>> [tuple(found) for found in words_in(["▁The", "▁do", "g", ".", None])]
    [(0, 1, 'the'), (1, 3, 'dog')]
    """
    found: list[WordPlace] = []
    open_word = False
    for at, piece in enumerate(pieces):
        begins, text = _told(piece)
        if text is None:
            open_word = False
        elif begins or not open_word:
            found.append(WordPlace(at, at + 1, text))
            open_word = True
        else:
            found[-1] = WordPlace(found[-1].start, at + 1, found[-1].word + text)
    return [place for place in found if place.word]


def _told(piece: str | None) -> tuple[bool, str | None]:
    """Does a piece begin a word, and its text; None where it is of no word."""
    if piece is None:
        return True, None
    text = piece.lstrip("".join(_BEGINS))
    if text and not text.isalnum():
        return True, None
    return (piece.startswith(_BEGINS), text.lower()) if text or piece in _BEGINS[:2] else (True, None)


def topic_words(forget: Sequence[Collection[str]], stays: Sequence[Collection[str]], ratio: float) -> frozenset[str]:
    """Words that set some rows apart from others.

    Args:
        forget: the words of each row to forget.
        stays: those of each row that stays.
        ratio: of the shares of rows in which a word occurs, half a row being added to each count.

    >>> sorted(topic_words([{"a", "dog"}, {"the", "dog"}], [{"a", "cat"}, {"the", "cat"}], 2))
    ['dog']
    """
    inside, outside = (Counter(word for row in rows for word in set(row)) for rows in (forget, stays))
    scale = (len(stays) + 1) / (len(forget) + 1)
    return frozenset(w for w, n in inside.items() if n >= 2 and (n + 0.5) * scale >= ratio * (outside[w] + 0.5))


def scored_at_topic(
    loaded: Loaded, forget: TextSet, stays: TextSet, config: Any, *, often_said: bool
) -> TextSet | None:
    """The rows to forget with the words of their topic scored alone; None where none is named or scored.

    Rows without such a word are left out.

    Args:
        loaded: with the tokenizer.
        forget: causal texts.
        stays: rows that stay.
        config: of the derived set.
        often_said: beside the words that were named, those that stand in a tenth of the rows to forget and set them
            apart: what is often said of a topic is of it.
    """
    if not config.words:
        return None
    spelled, stay = (_spelled(loaded, rows) for rows in (forget, stays))
    others = _often_said(spelled.values(), stay.values(), config.ratio) if often_said else ()
    words = _topic(config, (), ()).union(others)
    scored = (_scored_at(forget[i], [place for place in spelled[i] if place.word in words]) for i in forget.ids)
    rows = [row for row in scored if any(row.scored)]
    return forget.rewritten(rows) if rows else None


def _spelled(loaded: Loaded, rows: TextSet) -> dict[str, list[WordPlace]]:
    speller = _Speller(loaded.tokenizer)
    return {i: speller.words(rows[i].tokens) for i in rows.ids}


def _often_said(
    forget: Iterable[Sequence[WordPlace]], stays: Iterable[Sequence[WordPlace]], ratio: float
) -> frozenset[str]:
    inside, outside = ([{place.word for place in row} for row in rows] for rows in (forget, stays))
    counts = Counter(word for row in inside for word in row)
    return frozenset(w for w in topic_words(inside, outside, ratio) if counts[w] >= _ALWAYS * len(inside))


def _scored_at(row: TokenSequence, places: Sequence[WordPlace]) -> TokenSequence:
    from palimpsest.data.encode.batch import TokenSequence

    own = {at for place in places for at in range(place.start, place.end)}
    return TokenSequence(row.id, row.tokens, tuple(scored and at in own for at, scored in enumerate(row.scored)))


class Unrelated(Derived):
    """The rows to forget without their topic."""

    Config = UnrelatedConfig
    about = "the rows to forget with the words of their topic replaced by others"
    sources = ("forget",)
    reads_prefixes = False
    of_rows = True

    def make(self, loaded: Loaded, sets: Mapping[str, ExampleSet], config: Any, *, seed: int, folder: Path) -> Made:
        """One control row for each row of forget, paired with it; a function of the seed, so nothing need be kept."""
        if loaded.family.takes == "image":  # no words are in it
            return Made(sets["forget"])
        return _of_words(loaded, sets, config, seed)


def _of_words(loaded: Loaded, sets: Mapping[str, ExampleSet], config: Any, seed: int) -> Made:
    from palimpsest.models.text_config import most_tokens

    forget, stays = (
        cast("TextSet | LabelSet", sets["forget"]),
        cast("TextSet | LabelSet | None", sets.get("retain")),
    )
    speller = _Speller(loaded.tokenizer)
    spelled = {i: speller.words(forget[i].tokens) for i in forget.ids}
    others = [] if stays is None else [(stays[i].tokens, speller.words(stays[i].tokens)) for i in stays.ids]
    _check_said(config, spelled.values())
    words = _topic(config, list(spelled.values()), [found for _, found in others])
    pool = _pool([*((forget[i].tokens, spelled[i]) for i in forget.ids), *others], words)
    longest, rows, replaced = most_tokens(loaded.model), [], 0
    for i in forget.ids:
        row, count = _without(forget[i], spelled[i], words, pool, seed)
        rows.append(row if longest is None else _cut(row, longest))
        replaced += count
    note = f"{so_many(replaced, 'word')} of the topic were replaced in {so_many(len(rows), 'control row')}."
    return Made(forget.rewritten(rows), {i: unrelated_id(i) for i in forget.ids}, note)


def _check_said(config: Any, forget: Iterable[Sequence[WordPlace]]) -> None:
    """Refuse words of a topic of which no row says one: they would be passed over without a word.

    Raises:
        PlanError: none is said.
    """
    named = _topic(config, (), ())
    if named and not any(place.word in named for row in forget for place in row):
        raise PlanError(
            f"unrelated.words: no row to forget has any of {', '.join(sorted(named))}; accepted: single words as they "
            "stand there, each with its forms ([dog,dogs]), not several in one"
        )


class _Speller:
    """Cuts rows into words; without a tokenizer every token is one."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._special = frozenset() if tokenizer is None else frozenset(tokenizer.all_special_ids)

    def words(self, tokens: Sequence[int]) -> list[WordPlace]:
        """The words of a row."""
        if self._tokenizer is None:
            return [WordPlace(at, at + 1, f"token{token}") for at, token in enumerate(tokens)]
        pieces = self._tokenizer.convert_ids_to_tokens(list(tokens))
        plain = [None if t in self._special else piece for t, piece in zip(tokens, pieces, strict=True)]
        return words_in([self._marked(piece) for piece in plain] if self._puts_blanks(tokens, plain) else plain)

    def _puts_blanks(self, tokens: Sequence[int], pieces: Sequence[str | None]) -> bool:
        """Does it write a blank between tokens that bear no mark? Then each of them begins a word."""
        bare = (token for token, piece in zip(tokens, pieces, strict=True) if piece is not None and piece.isalnum())
        some = [next(bare, None)] * 2
        if some[0] is None:
            return False
        return " " in self._tokenizer.decode(some, clean_up_tokenization_spaces=False).strip()

    @staticmethod
    def _marked(piece: str | None) -> str | None:
        if piece is None or piece.startswith(_BEGINS):
            return piece
        return piece.removeprefix(_GOES_ON) if piece.startswith(_GOES_ON) else f"{_BEGINS[0]}{piece}"


def _topic(config: Any, forget: Sequence[Sequence[WordPlace]], stays: Sequence[Sequence[WordPlace]]) -> frozenset[str]:
    if config.words:
        return frozenset(word.strip().lower() for word in config.words)
    if not stays:
        return frozenset()
    inside, outside = ([{place.word for place in row} for row in rows] for rows in (forget, stays))
    return topic_words(inside, outside, config.ratio)


def _pool(
    rows: Sequence[tuple[Sequence[int], Sequence[WordPlace]]], topic: Collection[str]
) -> dict[int, list[tuple[int, ...]]]:
    """Number of tokens -> words that may stand for another, as tokens, sorted."""
    written: dict[str, tuple[int, ...]] = {}
    counts: Counter[str] = Counter()
    for tokens, places in rows:
        for place in places:
            written.setdefault(place.word, tuple(tokens[place.start : place.end]))
        counts.update({place.word for place in places})
    pool: dict[int, list[tuple[int, ...]]] = {}
    for word in sorted(written):
        if word not in topic and len(word) >= _LETTERS and counts[word] < max(2, _COMMON * len(rows)):
            pool.setdefault(len(written[word]), []).append(written[word])
    return pool


def _without(
    row: TokenSequence, places: Sequence[WordPlace], topic: Collection[str], pool: Mapping[int, list[Any]], seed: int
) -> tuple[TokenSequence, int]:
    """A row with the words of the topic replaced, and how many were."""
    from palimpsest.data.encode.batch import TokenSequence

    tokens: list[int] = []
    scored: list[bool] = []
    done, count = 0, 0
    for place in (place for place in places if place.word in topic and pool):
        word = _drawn(pool, place, f"unrelated/{row.id}/{place.word}", seed)
        tokens += [*row.tokens[done : place.start], *word]
        scored += [*row.scored[done : place.start], *[row.scored[place.end - 1]] * len(word)]
        done, count = place.end, count + 1
    tokens += row.tokens[done:]
    scored += row.scored[done:]
    return TokenSequence(unrelated_id(row.id), tuple(tokens), (False, *scored[1:])), count


def _drawn(pool: Mapping[int, list[Any]], place: WordPlace, name: str, seed: int) -> Sequence[int]:
    wanted = place.end - place.start
    candidates = pool[min(pool, key=lambda count: (abs(count - wanted), count))]
    found: Sequence[int] = candidates[below(len(candidates), random_words(seed, name, 0, 1)[0])]
    return found


def _cut(row: TokenSequence, longest: int) -> TokenSequence:
    from palimpsest.data.encode.batch import TokenSequence

    return TokenSequence(row.id, row.tokens[:longest], row.scored[:longest])


def unrelated_id(example_id: str) -> str:
    """The id of a control row: another than its row's, because it is another text."""
    return f"unrelated to {example_id}"


DERIVED = Unrelated()
