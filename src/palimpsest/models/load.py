"""Model folders and Hub names -> a model of one of the families (``families/``), with its tokenizer or preprocessor.

Weights come from safetensors only. A folder that holds a PEFT adapter is loaded onto its base and merged, so that
every run starts from one plain model.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from palimpsest.errors import ModelError, PlanError
from palimpsest.models.adapter_base import adapter_in, base_of
from palimpsest.models.adapters import adapted
from palimpsest.models.at_hand import CUSTOM
from palimpsest.models.families import of_config
from palimpsest.models.families.image_classifier import ImageClassifier
from palimpsest.models.half_there import check_unquantised
from palimpsest.models.loaded import How, Loaded
from palimpsest.models.own_code import check_data_only, refuse_code
from palimpsest.models.parts import attach
from palimpsest.models.parts.parts_folder import base_in, bears_parts
from palimpsest.models.plain import load_plain, plain_weights
from palimpsest.models.pretrained import is_away
from palimpsest.models.sources import check_folder, is_image_model, place_of, read_config, source_digest
from palimpsest.models.whole import quietly
from palimpsest.printed import short
from palimpsest.untrusted import parse_json, refusing

__all__ = [
    "Loaded",
    "check_folder",
    "count_parameters",
    "device",
    "is_image_model",
    "load",
    "source_digest",
    "use_threads",
]

MOST_THREADS = 1024
CPU_ONE_THREAD_BELOW = 20_000_000  # parameters; above it several threads pay off on a CPU
TOKENIZERS = frozenset(
    {"sentencepiece.bpe.model", "spiece.model", "tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt"}
)
"""Files of which a tokenizer has at least one."""

_NO_CLASS_OF_ITS_OWN = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""What ``save_pretrained`` of transformers 4 and 5 writes of a tokenizer that is all in its tokenizer.json."""


def load(
    source: str | Path,
    *,
    revision: str | None = None,
    tokenizer_needed: bool = True,
    as_stored: bool = False,
    parts: bool = True,
    beside: bool = False,
) -> Loaded:
    """Load a model of any family for reading, in eval mode.

    Args:
        source: a folder written by ``save_pretrained`` (model or PEFT adapter), a Hub name, or plain weights of a small
            ResNet, e.g. ``resnet20@FOLDER`` (see plain.py).
        revision: the commit of a Hub name; required there so that a plan always means the same weights.
        tokenizer_needed: refuse a model of texts without a tokenizer.
        as_stored: keep half-precision weights of a causal LM on an accelerator, for reading only. Training always works
            on fp32 weights: a small update of a bf16 weight rounds away.
        parts: False leaves away what lies beside the weights: the parts of a version with parts, and an adapter.
        beside: an adapter stays beside the weights as a part ``lora``, which is not merged.
        parts: False leaves out the parts of a version with parts, and the adapter of an adapter folder.

    Raises:
        ModelError: the source cannot be loaded; the message says why and what to give.
        MissingExtra: it is a timm folder and timm is not installed.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()  # a bar per load and save would drown the run's own
    how = How(str(source), revision, source, tokenizer_needed, as_stored, parts, beside)
    with refusing(lambda reason: ModelError(f"model {source}: cannot be loaded ({reason})")):
        loaded = _loaded(source, how)
        _ = loaded.num_outputs, loaded.class_names, loaded.eos_ids  # what is asked of it later can be told
        loaded.family.check_loaded(loaded)
        return loaded


def _loaded(source: str | Path, how: How) -> Loaded:
    """A model with its tokenizer, from where it is."""
    plain = plain_weights(source)
    if plain is not None:
        return ImageClassifier().loaded(load_plain(plain), how.source)
    place = place_of(source, how.revision)
    loaded = _load(place, how._replace(beside=place))
    if loaded.pixels is not None:
        return loaded
    if loaded.tokenizer is not None and not _has_tokenizer(place):
        return loaded  # an adapter's: the base's is its own
    # transformers repeats in its log what a config says
    with quietly():
        return replace(loaded, tokenizer=_load_tokenizer(place, how.revision, how.tokenizer_needed))


def _load(place: str | Path, how: How) -> Loaded:
    """A model without its tokenizer, from where it is."""
    if isinstance(place, Path) and adapter_in(place):
        base = _base_of(place, how)
        model = adapted(place, base.model, beside=how.adapter_beside) if how.parts else base.model
        return replace(base, model=model.eval(), source=how.source)
    if isinstance(place, Path) and bears_parts(place):
        return _with_parts(place, how)
    return _load_one(place, how)


def _with_parts(place: Path, how: How) -> Loaded:
    """The base in the folder of a version with parts, bearing them."""
    from palimpsest.models.parts.with_parts import read_parts

    base = _load_one(base_in(place), how)
    attach(base.model, read_parts(place) if how.parts else ())
    base.model.name_or_path = str(place)  # an adapter that is made on it lies on the whole
    return base


def _load_one(place: str | Path, how: How) -> Loaded:
    """A plain model, by its family."""
    config = read_config(place, how.revision)
    refuse_code(config, how.source)
    if config.get("model_type") != CUSTOM:
        check_unquantised(config, how.source)
    family = of_config(config)
    family.check_config(config, how.source)
    return family.load(place, config, how)


def _base_of(folder: Path, how: How) -> Loaded:
    """What an adapter is laid on: a folder, which may hold an adapter itself, or a Hub name at the adapter's commit."""
    name, pinned = base_of(folder, how.revision)
    try:
        own = how._replace(source=str(name), revision=pinned, beside=name, tokenizer_needed=False)
        return _loaded(name, own)
    except ModelError as error:
        raise ModelError(f"model {folder}: the base of its adapter cannot be loaded: {error}") from error


def _has_tokenizer(place: str | Path) -> bool:
    return isinstance(place, Path) and place.is_dir() and any(path.name in TOKENIZERS for path in place.iterdir())


def _is_its_file(place: str | Path) -> bool:
    """Is the tokenizer no class of its own, but what its file says?

    For some types of models (Qwen2's is one) transformers takes the class of the type even then, which cuts words in
    another way than the file, and so than the tokenizer that was saved.
    """
    if not isinstance(place, Path) or not (place / "tokenizer.json").is_file():
        return False
    try:
        said = parse_json((place / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(said, dict) and said.get("tokenizer_class") in _NO_CLASS_OF_ITS_OWN


def _load_tokenizer(source: str | Path, revision: str | None, needed: bool) -> Any:
    if isinstance(source, Path) and source.is_file():
        _check_not_needed(source, needed=needed)
        return None  # transformers would ask the Hub for a model of its name
    try:
        with refusing(ModelError):
            return _made_tokenizer(source, revision)
    except ModelError as error:
        if not needed:
            return None
        cure = "save its tokenizer there, by tokenizer.save_pretrained(FOLDER), or give a folder that has one"
        if isinstance(source, Path) and not _has_tokenizer(source):
            raise ModelError(
                f"model {source}: no tokenizer beside the weights (none of {', '.join(sorted(TOKENIZERS))}); {cure}"
            ) from error
        raise ModelError(f"model {source}: its tokenizer cannot be loaded ({error}); {cure}") from error


def _made_tokenizer(source: str | Path, revision: str | None) -> Any:
    """The tokenizer as transformers makes it.

    Raises:
        ModelError: it has no words.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    made = (PreTrainedTokenizerFast if _is_its_file(source) else AutoTokenizer).from_pretrained(
        source, revision=revision, trust_remote_code=False, local_files_only=is_away(source)
    )
    if made.is_fast and isinstance(source, Path) and not _has_tokenizer(source):
        raise ModelError("it has no vocabulary")  # slow ones, of bytes, need none
    return made


def _check_not_needed(source: Path, *, needed: bool) -> None:
    """Refuse the description of a black box that names no tokenizer, where one is needed."""
    if needed:
        raise ModelError(
            f"model {source}: no tokenizer; name a folder that has one in its field tokenizer, or give rows of "
            "token ids and say so (--token-ids)"
        )


def load_tokenizer(source: str | Path, revision: str | None = None) -> Any:
    """The tokenizer of a source alone; None where it has none of its own."""
    if plain_weights(source) is not None or is_image_model(source, revision):
        return None
    place = place_of(source, revision)
    if isinstance(place, Path) and not _has_tokenizer(place):
        return None
    with quietly():
        return _load_tokenizer(place, revision, needed=False)


def tokenizer_in(folder: Path) -> Any:
    """The tokenizer in a folder that need hold nothing else.

    Raises:
        ModelError: there is none.
    """
    if not folder.is_dir():
        raise ModelError(f"tokenizer {folder}: no such folder; give one that tokenizer.save_pretrained wrote")
    check_data_only(folder)
    with quietly():
        return _load_tokenizer(folder, None, needed=True)


def count_parameters(model: nn.Module) -> int:
    """Number of parameters, tied ones once."""
    return sum(p.numel() for p in model.parameters())


def device() -> torch.device:
    """The accelerator if there is one, else the CPU."""
    if torch.accelerator.is_available():
        return torch.accelerator.current_accelerator() or torch.device("cpu")
    return torch.device("cpu")


def use_threads(model: nn.Module, threads: int | None) -> int:
    """Set the number of CPU threads: the one asked for, or one for a small model.

    On two cores a small model is several times faster with one thread: the operations are too short to share.

    Returns:
        The number in use.

    Raises:
        PlanError: fewer than one, or more than any machine has.
    """
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise PlanError(f"{short(threads)} threads; accepted: 1 to {MOST_THREADS}, or None")
    if threads is not None:
        torch.set_num_threads(threads)
    elif count_parameters(model) < CPU_ONE_THREAD_BELOW:
        torch.set_num_threads(1)
    return torch.get_num_threads()
