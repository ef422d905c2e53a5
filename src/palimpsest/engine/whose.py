"""Whose is a file in a run's partial folder? What is not known to be the run's own is never deleted.

A name alone is not enough for what anybody could have called so: a folder is a run's when its plan says so, a temporary
file when it is called as ours are, to the letter, and a link never, because no run makes one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

OF_A_RUN = frozenset({"plan.json", "result.json", "report.html", "metrics.jsonl", "rejected.txt", "trained.json",
                      "learned.json", "restored.json", "split.json", "checkpoint.safetensors",
                      "manifest.json", "edit.json", "queries.jsonl", "rounds.json", "rounds.html"})  # fmt: skip
OF_A_MODEL = frozenset({
    "config.json", "generation_config.json", "model.safetensors", "model.safetensors.index.json", "README.md",
    "adapter_config.json", "adapter_model.safetensors", "preprocessor_config.json", "processor_config.json",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
    "chat_template.json", "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model", "spm.model",
    "sentencepiece.bpe.model", "source.spm", "target.spm", "tekken.json", "bpe.codes", "normalizer.json",
    "how_to_load.txt",
})  # fmt: skip
FOLDERS_OF_A_RUN = frozenset({"base", "companion", "control", "derived", "federated", "mixing", "parts", "recording",
                              "reference", "remembered", "repair", "restored",
                              "additional_chat_templates", "palimpsest"})  # fmt: skip
"""``palimpsest`` is where a tracker writes."""
_SHARD = re.compile(r"(adapter_)?model-\d{5}-of-\d{5}\.safetensors")
_INSIDE = re.compile(
    r".*\.(safetensors|json|jinja)|metrics\.jsonl|events\.out\.tfevents\..*|hparams\.yml|how_to_load\.txt"
)
_ATOMIC = re.compile(r"\.(?P<of>.+)\.\d+\.tmp")  # of files.write_atomic, and the probe of durable.with_usual_modes
_OF_SAFETENSORS = re.compile(r"\.tmp[A-Za-z0-9]{6}")
_LENGTH = 8  # bytes of a safetensors file before its header, which is JSON


def is_temporary(path: Path, *, inside: bool = False) -> bool:
    """Is this a file of ours that was to be renamed when whole?

    Args:
        path: in a partial folder.
        inside: it is in a folder that the run made there.
    """
    if path.is_symlink() or not path.is_file():
        return False
    if (atomic := _ATOMIC.fullmatch(path.name)) is not None:
        return _is_known(atomic["of"], inside=inside) or not path.stat().st_size
    if path.suffix == ".tmp":
        return any(_is_known(path.stem + suffix, inside=inside) for suffix in (".safetensors", ".json", ".jsonl"))
    return _OF_SAFETENSORS.fullmatch(path.name) is not None and _begins_as_safetensors(path)


def temporaries_in(folder: Path) -> Iterator[Path]:
    """Files of ours in a partial folder that a process which died was to rename, in the folders of a run there too."""
    for path in sorted(folder.iterdir()):
        if is_temporary(path):
            yield path
        elif path.is_dir() and is_ours(path):
            yield from (inner for inner in sorted(path.rglob("*")) if is_temporary(inner, inside=True))


def is_ours(path: Path) -> bool:
    """Is this a file that a run wrote, or a folder that it made?

    Args:
        path: directly in a partial folder whose plan is a run's.
    """
    if path.is_symlink():
        return False
    if path.is_dir():
        return path.name in FOLDERS_OF_A_RUN
    return path.is_file() and (_is_known(path.name) or is_temporary(path))


def foreign_in(folder: Path) -> list[str]:
    """Names of what a run did not write, in its partial folder and the folders it made there; links among them."""
    top = sorted(folder.iterdir())
    found = [path for path in top if not is_ours(path)]
    found += [inner for path in top if is_ours(path) and path.is_dir() for inner in _foreign_below(path)]
    return [path.relative_to(folder).as_posix() for path in found]


def first_link(folder: Path) -> Path | None:
    """A link in a partial folder: what is written to one goes into a file of somebody else."""
    return next((path for path in folder.rglob("*") if path.is_symlink()), None)


def empty_of_ours(folder: Path) -> None:
    """Delete what a run wrote into a folder that it made, and the folder unless it holds more."""
    if folder.is_symlink():
        return
    for inner in sorted(folder.rglob("*"), reverse=True):  # what is inside comes first
        if inner.is_dir() and not inner.is_symlink():
            _remove_empty(inner)
        elif _is_inside(inner):
            inner.unlink(missing_ok=True)
    _remove_empty(folder)


def remove_ours(path: Path) -> None:
    """Delete a file of a run, or a folder of one with what is the run's in it; a folder that holds more stays.

    Args:
        path: there or not, directly in a partial folder.
    """
    if not is_ours(path):
        return
    if path.is_dir():
        empty_of_ours(path)
    else:
        path.unlink(missing_ok=True)


def _foreign_below(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_symlink() or not (path.is_dir() or _is_inside(path)))


def _is_inside(path: Path) -> bool:
    """Is this a file that a run wrote into one of its folders?"""
    if path.is_symlink() or not path.is_file():
        return False
    return _is_known(path.name, inside=True) or is_temporary(path, inside=True)


def _is_known(name: str, *, inside: bool = False) -> bool:
    """May a whole file of ours be called so?"""
    if inside:
        return _INSIDE.fullmatch(name) is not None
    return name in OF_A_RUN | OF_A_MODEL or _SHARD.fullmatch(name) is not None


def _begins_as_safetensors(path: Path) -> bool:
    """It is empty, was not yet filled, or begins with the length of a header and the header."""
    with path.open("rb") as file:
        start = file.read(_LENGTH + 1)
    return not start.strip(b"\0") or (len(start) > _LENGTH and start[_LENGTH:] == b"{")


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
