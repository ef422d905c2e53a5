"""Model folders and Hub names -> a causal LM and its tokenizer.

Weights come from safetensors only. A folder that holds a PEFT adapter is loaded onto its base and merged, so that
every run starts from one plain model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from palimpsest.errors import ModelError

CPU_ONE_THREAD_BELOW = 20_000_000  # parameters; above it several threads pay off on a CPU


@dataclass(frozen=True)
class Loaded:
    """A model ready to run.

    Attributes:
        model: the causal LM, in eval mode, fp32 on a CPU.
        tokenizer: its tokenizer, or None when the folder has none.
        source: the folder or Hub name.
    """

    model: Any
    tokenizer: Any
    source: str

    @property
    def eos_ids(self) -> frozenset[int]:
        """Tokens that end a generation, from the generation config, else the model's, else the tokenizer's."""
        for holder in (getattr(self.model, "generation_config", None), self.model.config, self.tokenizer):
            eos = getattr(holder, "eos_token_id", None)
            if eos is not None:
                return frozenset(eos if isinstance(eos, list | tuple) else [eos])
        return frozenset()


def check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be a model, before anything heavy is imported or written.

    Raises:
        ModelError: not a folder, no readable config.json, or no safetensors weights.
    """
    if not folder.is_dir():
        raise ModelError(f"model {folder}: no such folder; give a folder written by save_pretrained")
    config = folder / ("adapter_config.json" if (folder / "adapter_config.json").is_file() else "config.json")
    if not config.is_file():
        raise ModelError(f"model {folder}: no config.json; give a folder written by save_pretrained")
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"model {folder}: {config.name} is not JSON ({error})") from None
    if not isinstance(content, dict) or not ({"model_type", "peft_type"} & content.keys()):
        raise ModelError(f"model {folder}: {config.name} names no model_type; give a causal LM's folder")
    if not list(folder.glob("*.safetensors")):
        pickles = [p.name for p in (*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth"))]
        found = f" (found {', '.join(pickles)}, which is never unpickled)" if pickles else ""
        raise ModelError(f"model {folder}: no .safetensors weights{found}; save it with save_pretrained")


def load(
    source: str | Path, *, revision: str | None = None, tokenizer_needed: bool = True, as_stored: bool = False
) -> Loaded:
    """Load a causal LM for reading, in eval mode.

    Args:
        source: a folder written by ``save_pretrained`` (model or PEFT adapter), or a Hub name.
        revision: the commit of a Hub name; required there so that a plan always means the same weights.
        tokenizer_needed: refuse a source without a tokenizer.
        as_stored: keep half-precision weights on an accelerator, for reading only. Training always works on fp32
            weights: a small update of a bf16 weight rounds away.

    Raises:
        ModelError: the source cannot be loaded; the message says why and what to give.
    """
    path = Path(source)
    is_local = path.exists() or path.is_absolute() or str(source).startswith((".", "~"))
    if is_local:
        check_folder(path.expanduser())
    elif str(source).count("/") > 1 or not revision:
        raise ModelError(
            f"model {str(source)!r}: no such folder; a Hub name (owner/name) needs a pinned --revision COMMIT"
        )
    dtype = "auto" if as_stored and torch.cuda.is_available() else torch.float32
    model = _from_pretrained(path.expanduser() if is_local else source, revision, dtype)
    tokenizer = _load_tokenizer(path.expanduser() if is_local else source, revision, tokenizer_needed)
    return Loaded(model.eval(), tokenizer, str(source))


def _from_pretrained(source: str | Path, revision: str | None, dtype: Any) -> Any:
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # a bar per load would drown the run's own

    adapter = isinstance(source, Path) and (source / "adapter_config.json").is_file()
    try:
        if adapter:
            from peft import AutoPeftModelForCausalLM

            return AutoPeftModelForCausalLM.from_pretrained(source, dtype=dtype).merge_and_unload()
        model, info = AutoModelForCausalLM.from_pretrained(
            source, revision=revision, dtype=dtype, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError) as error:
        # everything transformers, safetensors and the Hub client raise for unusable sources
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"model {source}: cannot be loaded as a causal LM: {reason}") from error
    missing = sorted(info["missing_keys"]) + sorted(str(k) for k in info.get("mismatched_keys", ()))
    if missing:
        raise ModelError(f"model {source}: {len(missing)} weights are missing or misshapen, e.g. {missing[0]}")
    return model


def _load_tokenizer(source: str | Path, revision: str | None, needed: bool) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(source, revision=revision)
    except (OSError, ValueError, KeyError, TypeError, json.JSONDecodeError) as error:
        if not needed:
            return None
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"model {source}: its tokenizer cannot be loaded: {reason}") from error


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
    """
    if threads is not None:
        torch.set_num_threads(threads)
    elif count_parameters(model) < CPU_ONE_THREAD_BELOW:
        torch.set_num_threads(1)
    return torch.get_num_threads()
