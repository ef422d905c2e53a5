"""Model folders and Hub names -> a causal LM and its tokenizer, or an image classifier and the format of its images.

Weights come from safetensors only. A folder that holds a PEFT adapter is loaded onto its base and merged, so that
every run starts from one plain model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from palimpsest.data.pixels import PixelFormat
from palimpsest.errors import ModelError, PlanError
from palimpsest.models.images import Preprocessor, check_timm, is_image_config, pixel_format, read_preprocessor
from palimpsest.models.plain import load_plain, plain_weights
from palimpsest.models.sources import check_folder, is_image_model, read_config, source_digest

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

CPU_ONE_THREAD_BELOW = 20_000_000  # parameters; above it several threads pay off on a CPU
Modality = Literal["text", "image"]


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
        return int(config.vocab_size if self.pixels is None else config.num_labels)

    @property
    def class_names(self) -> Mapping[str, int]:
        """Name -> class, as far as the model's config names its classes."""
        names: Mapping[str, int] = getattr(self.model.config, "label2id", None) or {}
        return {name: number for name, number in names.items() if name != f"LABEL_{number}"}

    @property
    def companion(self) -> Any:
        """What is saved beside a changed model, by ``save_pretrained``: tokenizer or preprocessor, or None."""
        return self.tokenizer if self.pixels is None else self.preprocessor

    @property
    def eos_ids(self) -> frozenset[int]:
        """Tokens that end a generation, from the generation config, else the model's, else the tokenizer's."""
        for holder in (getattr(self.model, "generation_config", None), self.model.config, self.tokenizer):
            eos = getattr(holder, "eos_token_id", None)
            if eos is not None:
                return frozenset(eos if isinstance(eos, list | tuple) else [eos])
        return frozenset()


def load(
    source: str | Path, *, revision: str | None = None, tokenizer_needed: bool = True, as_stored: bool = False
) -> Loaded:
    """Load a causal LM or an image classifier for reading, in eval mode.

    Args:
        source: a folder written by ``save_pretrained`` (model or PEFT adapter), a Hub name, or plain weights of a small
            ResNet, e.g. ``resnet20@FOLDER`` (see plain.py).
        revision: the commit of a Hub name; required there so that a plan always means the same weights.
        tokenizer_needed: refuse a causal LM without a tokenizer.
        as_stored: keep half-precision weights of a causal LM on an accelerator, for reading only. Training always works
            on fp32 weights: a small update of a bf16 weight rounds away.

    Raises:
        ModelError: the source cannot be loaded; the message says why and what to give.
        MissingExtra: it is a timm folder and timm is not installed.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()  # a bar per load and save would drown the run's own
    plain = plain_weights(source)
    if plain is not None:
        return _image_model(load_plain(plain), source)
    path = Path(source)
    is_local = path.exists() or path.is_absolute() or str(source).startswith((".", "~"))
    if is_local:
        check_folder(path.expanduser())
    elif str(source).count("/") > 1 or not revision:
        raise ModelError(
            f"model {str(source)!r}: no such folder; a Hub name (owner/name) needs a pinned --revision COMMIT"
        )
    place = path.expanduser() if is_local else str(source)
    adapter = read_config(place, revision, "adapter_config.json") if isinstance(place, Path) else {}
    if adapter and is_image_model(str(adapter.get("base_model_name_or_path")), adapter.get("revision")):
        return _image_adapter(place, adapter)
    config = read_config(place, revision)
    if is_image_config(config):
        check_timm(config, source)
        preprocessor = read_preprocessor(place, revision, config)
        model = _from_pretrained(place, revision, torch.float32, "AutoModelForImageClassification")
        return _image_model(model, source, preprocessor)
    dtype = "auto" if as_stored and torch.cuda.is_available() else torch.float32
    model = _merged_causal(place, dtype) if adapter else _from_pretrained(place, revision, dtype)
    tokenizer = _load_tokenizer(place, revision, tokenizer_needed)
    return Loaded(model.eval(), tokenizer, str(source))


def _image_model(model: Any, source: str | Path, preprocessor: Preprocessor | None = None) -> Loaded:
    pixels = pixel_format(preprocessor, model.config.to_dict(), source)
    return Loaded(model.eval(), None, str(source), pixels, preprocessor)


def _image_adapter(folder: str | Path, adapter: Mapping[str, Any]) -> Loaded:
    """A LoRA adapter merged into its base."""
    from peft import PeftModel
    from safetensors import SafetensorError

    base = load(str(adapter["base_model_name_or_path"]), revision=adapter.get("revision"))
    try:
        model = PeftModel.from_pretrained(base.model, folder).merge_and_unload()
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError) as error:
        raise ModelError(f"model {folder}: its adapter cannot be loaded: {_first_line(error)}") from error
    return Loaded(model.eval(), None, str(folder), base.pixels, base.preprocessor)


def _merged_causal(folder: str | Path, dtype: Any) -> Any:
    from peft import AutoPeftModelForCausalLM
    from safetensors import SafetensorError

    try:
        return AutoPeftModelForCausalLM.from_pretrained(folder, dtype=dtype).merge_and_unload()
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError) as error:
        raise ModelError(f"model {folder}: cannot be loaded as a causal LM: {_first_line(error)}") from error


def _from_pretrained(source: str | Path, revision: str | None, dtype: Any, auto: str = "AutoModelForCausalLM") -> Any:
    import transformers
    from safetensors import SafetensorError

    from palimpsest.models import resnet

    resnet.register()
    try:
        model, info = getattr(transformers, auto).from_pretrained(
            source, revision=revision, dtype=dtype, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError) as error:
        # everything transformers, safetensors and the Hub client raise for unusable sources
        what = "a causal LM" if auto == "AutoModelForCausalLM" else "an image classifier"
        raise ModelError(f"model {source}: cannot be loaded as {what}: {_first_line(error)}") from error
    missing = sorted(info["missing_keys"]) + sorted(str(k) for k in info.get("mismatched_keys", ()))
    if missing:
        raise ModelError(f"model {source}: {len(missing)} weights are missing or misshapen, e.g. {missing[0]}")
    return model


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _load_tokenizer(source: str | Path, revision: str | None, needed: bool) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(source, revision=revision)
    except (OSError, ValueError, KeyError, TypeError, json.JSONDecodeError) as error:
        if not needed:
            return None
        raise ModelError(f"model {source}: its tokenizer cannot be loaded: {_first_line(error)}") from error


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
        PlanError: fewer than one.
    """
    if threads is not None and threads < 1:
        raise PlanError(f"{threads} threads; accepted: 1 or more, or None")
    if threads is not None:
        torch.set_num_threads(threads)
    elif count_parameters(model) < CPU_ONE_THREAD_BELOW:
        torch.set_num_threads(1)
    return torch.get_num_threads()
