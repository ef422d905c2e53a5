"""Files of others -> values, within bounds: whatever is in one, it is a value or one error that the caller expects."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from palimpsest.errors import PalimpsestError
from palimpsest.printed import as_line

if TYPE_CHECKING:
    import yaml

DEEPEST = 100
"""Lists and objects in each other; what is deeper cannot be written or compared without running out of stack."""
MOST_NODES = 100_000
"""Values of a YAML text, with all that its aliases repeat."""
ALWAYS_READ = 2**30
"""Bytes of unpacked values that are taken from any file."""
MOST_TIMES = 200
"""Times its own size that a file may unpack to beyond that; equal bytes alone pack to a thousandth."""
LONGEST_REASON = 300  # characters of a message that is not ours
A_SENTENCE = 3  # words; fewer, such as the key that is not there, say nothing without the kind of error


@contextmanager
def refusing(say: Callable[[str], PalimpsestError]) -> Iterator[None]:
    """In the block, whatever a library raises about a file of others becomes one error of ours.

    Which exceptions that can be no list tells: a number as text, heads of 0, a class that needs another package.

    Args:
        say: the reason -> the error.
    """
    try:
        yield
    except (PalimpsestError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # panics of libraries that are written in Rust are no Exception
        raise say(reason_of(error)) from error


def reason_of(error: BaseException) -> str:
    r"""What an error of a library says, on one line of bounded length, with its kind where the message is only a name.

    >>> reason_of(KeyError("rope")), reason_of(ValueError("no such\n  model")), reason_of(AssertionError())
    ("KeyError: 'rope'", 'no such model', 'AssertionError')
    """
    text = as_line(str(error), LONGEST_REASON)
    if not text:
        return type(error).__name__
    return text if text.count(" ") >= A_SENTENCE - 1 else f"{type(error).__name__}: {text}"


def parse_json(text: str, **hooks: Any) -> Any:
    """A JSON value that is not absurdly deep.

    Args:
        text: JSON.
        hooks: of ``json.loads``.

    Raises:
        JSONDecodeError: it is none.
    """
    try:
        value = json.loads(text, **hooks)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:  # a number of more digits than Python converts
        raise json.JSONDecodeError(str(error).partition(";")[0], "", 0) from None
    if text.count("[") + text.count("{") > DEEPEST and _is_deep(value):
        raise _too_deep()
    return value


def _too_deep() -> json.JSONDecodeError:
    return json.JSONDecodeError(f"more than {DEEPEST} lists and objects in each other", "", 0)


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return True


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    return [inner for inner in value if isinstance(inner, dict | list)] if isinstance(value, list) else []


def parse_yaml(text: str) -> Any:
    """A YAML value without the tags of any language, and not absurdly deep or large once its aliases are followed.

    Raises:
        ValueError: it is none.
    """
    import yaml

    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _weight(node, {}, DEEPEST)
        return loader.construct_document(node)
    except RecursionError:
        raise ValueError(f"more than {DEEPEST} lists and mappings in each other") from None
    except Exception as error:  # a date that is none is a ValueError, a number an AttributeError, ...
        raise ValueError(reason_of(error)) from error


def _weight(node: yaml.Node, known: dict[int, int], room: int) -> int:
    """Values in a YAML node, each alias counted as all that it stands for.

    Args:
        node: composed, not yet constructed.
        known: of nodes that were counted; 0 of those that are being.
        room: how much deeper it may go.
    """
    if not room:
        raise RecursionError
    if id(node) in known:
        if not known[id(node)]:
            raise ValueError("a list or mapping that holds itself")
        return known[id(node)]
    known[id(node)] = 0
    inner = node.value if isinstance(node.value, list) else []
    parts = [part for entry in inner for part in (entry if isinstance(entry, tuple) else (entry,))]
    weight = 1 + sum(_weight(part, known, room - 1) for part in parts)
    if weight > MOST_NODES:
        raise ValueError(f"more than {MOST_NODES} values, with those that its aliases (*name) repeat")
    known[id(node)] = weight
    return weight
