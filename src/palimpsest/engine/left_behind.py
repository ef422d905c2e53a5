"""What a run that did not end leaves in its partial folder, what of it can be read, and how it is removed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from palimpsest.engine.output import PARTIAL, PLAN, REJECTED, Output
from palimpsest.engine.unfinished import reached
from palimpsest.engine.whose import foreign_in, is_temporary
from palimpsest.errors import PlanError, reachable
from palimpsest.models.plain import read_json_object

_WEIGHTS = "a model on its way: asked the right way it may still say the rows"
_OTHER = "a part of the model; no row"
_TELLS = {
    "plan.json": "options, names of files and of who was asked for; no row",
    "metrics.jsonl": "losses and means over sets, step by step; no row",
    REJECTED: "why the run ended; at most the id of a row",
    "reference": "what the model before thought at each row: with the head beside it, the rows word by word",
    "checkpoint.safetensors": f"weights and optimizer moments of {_WEIGHTS}",
    "control": f"weights of {_WEIGHTS}; texts that it said by itself",
    "repair": "texts that the model said by itself",
    "derived": "texts that the model said by itself; which rows are like which",
    "remembered": "scores of each row, under its id",
    "mixing": f"weights of {_WEIGHTS}",
    "restored": f"weights of {_WEIGHTS}",
    "restored.json": "how much of the change stayed; no row",
    "trained.json": "how training ended; no row",
    "federated": f"weights of {_WEIGHTS}, one for each client at work",
    "rounds.json": "losses, bytes and names of clients, round by round; no row",
    "rounds.html": "losses, bytes and names of clients, round by round; no row",
    "recording": "what the steps changed in the weights, under keyed digests of whose steps they were",
    "companion": "what was kept of rows to delete it later, under keyed digests",
    "palimpsest": "losses, step by step, for a tracker; no row",
    "learned.json": "keyed digests of rows: nothing without the key",
    "split.json": "ids of the rows that stay, keyed digests of those that go",
    "manifest.json": "digests of the files beside it; no row",
    "report.html": "scores and, unless switched off, a few rows and answers",
    "result.json": "scores of each row under its id and, unless switched off, a few rows and answers",
    "*.safetensors": f"weights of {_WEIGHTS}",
    "*.safetensors.index.json": "names of weights; no row",
    "*config.json": "layout of the model; no row",
    "tokenizer*": "the tokenizer; no row",
    "special_tokens_map.json": "the tokenizer; no row",
    "added_tokens.json": "the tokenizer; no row",
    "vocab.*": "the tokenizer; no row",
    "merges.txt": "the tokenizer; no row",
    "chat_template.jinja": "the tokenizer; no row",
    "README.md": "words of PEFT about an adapter; no row",
    "model.pt2": f"weights of {_WEIGHTS}",
}
"""Name of a file or folder that a run makes -> what can be read from it."""
_HALF = "half of a file: what the whole one would tell"


class LeftFile(NamedTuple):
    """One file that is left.

    Attributes:
        path: below the partial folder.
        size: bytes.
        tells: what can be read from it; empty where no run of ours makes such a file.
    """

    path: str
    size: int
    tells: str


class Left(NamedTuple):
    """What is left of a run that did not end.

    Attributes:
        folder: its partial folder.
        state: how far it got, in words.
        files: of ours.
        others: files that no run of ours makes; they are never removed.
        removed: the files of ours are gone.
    """

    folder: str
    state: str
    files: tuple[LeftFile, ...]
    others: tuple[LeftFile, ...]
    removed: bool = False


def left_in(place: str | Path, *, remove: bool = False) -> Left:
    """Look at what a run left, and remove it if that is asked.

    Args:
        place: the partial folder, or the output that it was to become.
        remove: delete what is ours.

    Raises:
        PlanError: no unfinished run of ours is there, or a process is at work in it.
    """
    folder = _partial_of(place)
    with Output(folder.with_name(folder.name.removesuffix(PARTIAL))).held():
        _check_ours(folder)
        files = tuple(_files_of(folder))
        ours, others = (tuple(f for f in files if bool(f.tells) == known) for known in (True, False))
        found = Left(str(folder), _state_of(folder), ours, others, remove)
        if remove:
            _remove_all(folder, ours)
    return found


def _partial_of(place: str | Path) -> Path:
    folder = Path(reachable(place, "run", PlanError)).expanduser()
    if folder.name and not folder.name.endswith(PARTIAL):
        folder = folder.with_name(folder.name + PARTIAL)
    if folder.name and folder.is_dir() and not folder.is_symlink():
        return folder
    raise PlanError(
        f"{place}: no unfinished run is there; accepted: a folder OUTPUT{PARTIAL} that a run of palimpsest left, or "
        "the OUTPUT it was to become"
    )


def _check_ours(folder: Path) -> None:
    """The plan of a run is there, or nothing but what a process left that died before it wrote one."""
    plan = read_json_object(folder / PLAN)
    if {"digest", "kind", "method"} <= plan.keys() or all(is_temporary(path) for path in folder.iterdir()):
        return
    raise PlanError(f"{folder} holds no plan.json of a run of palimpsest, so it may be somebody's; nothing was touched")


def _state_of(folder: Path) -> str:
    plan = read_json_object(folder / PLAN)
    what = f"{plan['kind']} with {plan['method']}" if plan else "a run that had not begun"
    return f"{what}, {'rejected' if (folder / REJECTED).exists() else f'unfinished {reached(folder)}' if plan else ''}"


def _files_of(folder: Path) -> Iterator[LeftFile]:
    foreign = [Path(name) for name in foreign_in(folder)]
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_dir():
            name = path.relative_to(folder)
            ours = not any(name.is_relative_to(other) for other in foreign)
            half = _HALF if is_temporary(path, inside=len(name.parts) > 1) else ""
            tells = (half or tells_of(name)) if ours else ""
            yield LeftFile(name.as_posix(), path.lstat().st_size, tells)


def tells_of(name: Path) -> str:
    """What can be read from a file that a run made in its partial folder.

    >>> tells_of(Path("merges.txt")), tells_of(Path("trained.json"))
    ('a part of the model; no row', 'how training ended; no row')
    """
    first = name.parts[0]
    return next((tells for pattern, tells in _TELLS.items() if fnmatchcase(first, pattern)), _OTHER)


def _remove_all(folder: Path, ours: tuple[LeftFile, ...]) -> None:
    """The plan goes last: whose folder this is must be known until the end."""
    for file in sorted(ours, key=lambda file: file.path == "plan.json"):
        (folder / file.path).unlink(missing_ok=True)
    below = sorted((path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink()), reverse=True)
    for path in (*below, folder):
        if not any(path.iterdir()):
            shutil.rmtree(path)
