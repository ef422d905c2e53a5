"""Model folders and Hub names -> a causal LM and its tokenizer, or an image classifier and the format of its images.

Weights come from safetensors only. A folder that holds a PEFT adapter is loaded onto its base and merged, so that
every run starts from one plain model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from palimpsest.data.encode.pixels import PixelFormat
from palimpsest.data.read.classes import given_names
from palimpsest.data.read.hub import AWAY, is_reachable
from palimpsest.errors import ModelError, PlanError
from palimpsest.method_card import Modality
from palimpsest.models.adapter_base import adapter_in, base_of
from palimpsest.models.adapters import adapted
from palimpsest.models.at_hand import CUSTOM
from palimpsest.models.half_there import check_unquantised
from palimpsest.models.images import Preprocessor, check_timm, is_image_config, pixel_format, read_preprocessor
from palimpsest.models.own_code import refuse_code
from palimpsest.models.parts import attach
from palimpsest.models.parts.parts_folder import base_in, bears_parts
from palimpsest.models.plain import load_plain, plain_weights
from palimpsest.models.proportions import check_filled
from palimpsest.models.purposes import check_head, check_purpose
from palimpsest.models.sources import check_folder, is_image_model, place_of, read_config, source_digest
from palimpsest.models.text_config import text_config
from palimpsest.models.whole import check_whole, quietly
from palimpsest.printed import short
from palimpsest.untrusted import refusing

__all__ = [
    "Loaded",
    "Modality",
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


@dataclass(frozen=True)
class Loaded:
    """A model ready to run.

    Attributes:
        model: the causal LM or image classifier, in eval mode, fp32 on a CPU.
        tokenizer: its tokenizer, or None when the folder has none.
        source: the folder or Hub name.
        pixels: how it wants its images; None for a causal LM.
        preprocessor: of a transformers image model, to be saved beside a changed one; None for all others.
    """

    model: Any
    tokenizer: Any
    source: str
    pixels: PixelFormat | None = None
    preprocessor: Preprocessor | None = None

    @property
    def modality(self) -> Modality:
        """What its examples are."""
        return "text" if self.pixels is None else "image"

    @property
    def num_outputs(self) -> int:
        """Words or classes it chooses from."""
        config = self.model.config
        return int(text_config(self.model).vocab_size if self.pixels is None else config.num_labels)

    @property
    def class_names(self) -> Mapping[str, int]:
        """Name -> class, as far as the model's config names its classes."""
        config = self.model.config
        return given_names(getattr(config, "label2id", None), getattr(config, "id2label", None))

    @property
    def companion(self) -> Any:
        """What is saved beside a changed model, by ``save_pretrained``: tokenizer or preprocessor, or None."""
        return self.tokenizer if self.pixels is None else self.preprocessor

    @property
    def eos_ids(self) -> frozenset[int]:
        """Tokens that end a generation, from the generation config, else the model's, else the tokenizer's."""
        holders = getattr(self.model, "generation_config", None), text_config(self.model), self.tokenizer
        for holder in holders:
            eos = getattr(holder, "eos_token_id", None)
            if eos is not None:
                return frozenset(eos if isinstance(eos, list | tuple) else [eos])
        return frozenset()


def load(
    source: str | Path,
    *,
    revision: str | None = None,
    tokenizer_needed: bool = True,
    as_stored: bool = False,
    parts: bool = True,
    beside: bool = False,
) -> Loaded:
    """Load a causal LM or an image classifier for reading, in eval mode.

    Args:
        source: a folder written by ``save_pretrained`` (model or PEFT adapter), a Hub name, or plain weights of a small
            ResNet, e.g. ``resnet20@FOLDER`` (see plain.py).
        revision: the commit of a Hub name; required there so that a plan always means the same weights.
        tokenizer_needed: refuse a causal LM without a tokenizer.
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

    from palimpsest.models.causal import check_causal

    logging.disable_progress_bar()  # a bar per load and save would drown the run's own
    with refusing(lambda reason: ModelError(f"model {source}: cannot be loaded ({reason})")):
        loaded = _loaded(source, revision, _How(tokenizer_needed, as_stored, parts, beside))
        _ = loaded.num_outputs, loaded.class_names, loaded.eos_ids  # what is asked of it later can be told
        if loaded.modality == "text":
            check_causal(loaded.model, source)
        return loaded


class _How(NamedTuple):
    """How a model is loaded: as ``load`` says."""

    tokenizer_needed: bool
    as_stored: bool
    parts: bool
    beside: bool


def _loaded(source: str | Path, revision: str | None, how: _How) -> Loaded:
    """A model with its tokenizer, from where it is."""
    plain = plain_weights(source)
    if plain is not None:
        return _image_model(load_plain(plain), source)
    place = place_of(source, revision)
    loaded = _load(place, source, revision, how)
    if loaded.pixels is not None:
        return loaded
    if loaded.tokenizer is not None and not _has_tokenizer(place):
        return loaded  # an adapter's: the base's is its own
    # transformers repeats in its log what a config says
    with quietly():
        return replace(loaded, tokenizer=_load_tokenizer(place, revision, how.tokenizer_needed))


def _load(place: str | Path, source: str | Path, revision: str | None, how: _How) -> Loaded:
    """A model without its tokenizer, from where it is."""
    if isinstance(place, Path) and adapter_in(place):
        base = _base_of(place, revision, how)
        model = adapted(place, base.model, beside=how.beside) if how.parts else base.model
        return replace(base, model=model.eval(), source=str(source))
    if isinstance(place, Path) and bears_parts(place):
        return _with_parts(place, source, revision, how)
    return _load_one(place, source, revision, how, beside=place)


def _with_parts(place: Path, source: str | Path, revision: str | None, how: _How) -> Loaded:
    """The base in the folder of a version with parts, bearing them."""
    from palimpsest.models.parts.with_parts import read_parts

    base = _load_one(base_in(place), source, revision, how, beside=place)
    attach(base.model, read_parts(place) if how.parts else ())
    base.model.name_or_path = str(place)  # an adapter that is made on it lies on the whole
    return base


def _load_one(place: str | Path, source: str | Path, revision: str | None, how: _How, *, beside: str | Path) -> Loaded:
    """A plain model; what says how its images are read is beside it, or beside the version that it is the base of."""
    config = read_config(place, revision)
    refuse_code(config, source)
    if isinstance(place, Path) and config.get("model_type") == CUSTOM:
        return _custom(place, config, source)
    check_unquantised(config, source)
    if is_image_config(config):
        check_timm(config, source)
        preprocessor = read_preprocessor(beside, revision, config)
        model = _from_pretrained(place, revision, torch.float32, "AutoModelForImageClassification")
        return _image_model(model, source, preprocessor)
    check_purpose(config, source)
    check_head(config, source)
    dtype = "auto" if how.as_stored and torch.cuda.is_available() else torch.float32
    return Loaded(_from_pretrained(place, revision, dtype).eval(), None, str(source))


def _custom(place: Path, config: Mapping[str, Any], source: str | Path) -> Loaded:
    """A module of the caller's."""
    from palimpsest.models.custom import load_custom

    model = load_custom(place, config, source).eval()
    if not is_image_config(config):
        return Loaded(model, None, str(source))
    height, width = config["image_size"]
    pixels = PixelFormat(height, width, tuple(config["image_mean"]), tuple(config["image_std"]))
    return Loaded(model, None, str(source), pixels)


def _image_model(model: Any, source: str | Path, preprocessor: Preprocessor | None = None) -> Loaded:
    pixels = pixel_format(preprocessor, model.config.to_dict(), source)
    return Loaded(model.eval(), None, str(source), pixels, preprocessor)


def _base_of(folder: Path, revision: str | None, how: _How) -> Loaded:
    """What an adapter is laid on: a folder, which may hold an adapter itself, or a Hub name at the adapter's commit."""
    name, pinned = base_of(folder, revision)
    try:
        return _loaded(name, pinned, how._replace(tokenizer_needed=False))
    except ModelError as error:
        raise ModelError(f"model {folder}: the base of its adapter cannot be loaded: {error}") from error


def _from_pretrained(source: str | Path, revision: str | None, dtype: Any, auto: str = "AutoModelForCausalLM") -> Any:
    import transformers

    from palimpsest.models import resnet

    resnet.register()
    away = _is_away(source)
    what = "a causal LM" if auto == "AutoModelForCausalLM" else "an image classifier"

    def say(reason: str) -> ModelError:
        return ModelError(f"model {source}: {AWAY if away else f'cannot be loaded as {what}: {_why(reason)}'}")

    with refusing(say), quietly():
        if isinstance(source, Path):
            check_filled(source, transformers.AutoConfig.from_pretrained(source, trust_remote_code=False))
        model, info = getattr(transformers, auto).from_pretrained(
            source,
            revision=revision,
            dtype=dtype,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            local_files_only=away,
        )
    if getattr(model.config, "rescale_every", 0):  # RWKV halves its weights in place to be asked in half precision,
        model.config.rescale_every = 0  # and would be saved, or trained, as it then is; in fp32 there is no need
    misshapen = (str(key) for key in info.get("mismatched_keys", ()))
    check_whole(source, model, [*info["missing_keys"], *misshapen], info["unexpected_keys"])
    return model


def _why(reason: str) -> str:
    """A library's reason, with what can be done about it where that is known."""
    if "trust_remote_code" in reason:
        return (
            "its class is code in its own folder, which is never run; accepted: classes of transformers, or the module "
            "itself in Python (pal.Model.of)"
        )
    if "gated repo" in reason:
        return "it is gated; accept its terms on the Hub, then log in there with hf auth login"
    return reason


def _is_away(source: str | Path) -> bool:
    """Is it a Hub name, and the Hub out of reach? Then only what is in the cache can be had."""
    return not isinstance(source, Path) and not is_reachable()


def _has_tokenizer(place: str | Path) -> bool:
    return isinstance(place, Path) and any(path.name in TOKENIZERS for path in place.iterdir())


def _load_tokenizer(source: str | Path, revision: str | None, needed: bool) -> Any:
    from transformers import AutoTokenizer

    try:
        with refusing(ModelError):
            return AutoTokenizer.from_pretrained(
                source, revision=revision, trust_remote_code=False, local_files_only=_is_away(source)
            )
    except ModelError as error:
        if not needed:
            return None
        cure = "save its tokenizer there, by tokenizer.save_pretrained(FOLDER), or give a folder that has one"
        if isinstance(source, Path) and not _has_tokenizer(source):
            raise ModelError(
                f"model {source}: no tokenizer beside the weights (none of {', '.join(sorted(TOKENIZERS))}); {cure}"
            ) from error
        raise ModelError(f"model {source}: its tokenizer cannot be loaded ({error}); {cure}") from error


def load_tokenizer(source: str | Path, revision: str | None = None) -> Any:
    """The tokenizer of a source alone; None where it has none of its own."""
    if plain_weights(source) is not None or is_image_model(source, revision):
        return None
    place = place_of(source, revision)
    if isinstance(place, Path) and not _has_tokenizer(place):
        return None
    with quietly():
        return _load_tokenizer(place, revision, needed=False)


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
