"""Weights in safetensors -> a class of transformers, whole and without any code of the folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from palimpsest.data.read.hub import AWAY, is_reachable
from palimpsest.errors import ModelError
from palimpsest.models.images import without_said_twice
from palimpsest.models.proportions import check_filled
from palimpsest.models.whole import check_whole, quietly
from palimpsest.untrusted import refusing


def whole_model(source: str | Path, revision: str | None, dtype: Any, auto: str, noun: str) -> Any:
    """A model of transformers, every weight of which came from its file.

    Args:
        source: a folder that could be a model, or a Hub name.
        revision: the commit of a Hub name.
        dtype: of the weights.
        auto: the class of transformers that finds its class, e.g. "AutoModelForCausalLM".
        noun: what messages call such a model.

    Raises:
        ModelError: it cannot be loaded.
    """
    import transformers

    from palimpsest.models import resnet

    resnet.register()
    away = is_away(source)

    def say(reason: str) -> ModelError:
        return ModelError(f"model {source}: {AWAY if away else f'cannot be loaded as {noun}: {_why(reason)}'}")

    with refusing(say), quietly():
        given: dict[str, Any] = {}
        if isinstance(source, Path):
            config = transformers.AutoConfig.from_pretrained(source, trust_remote_code=False)
            if config.model_type == "timm_wrapper":
                given = {"config": without_said_twice(config)}
            check_filled(source, config)
        model, info = getattr(transformers, auto).from_pretrained(
            source,
            revision=revision,
            dtype=dtype,
            trust_remote_code=False,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # told below, by name
            output_loading_info=True,
            local_files_only=away,
            **given,
        )
    if getattr(model.config, "rescale_every", 0):  # RWKV halves its weights in place to be asked in half precision,
        model.config.rescale_every = 0  # and would be saved, or trained, as it then is; in fp32 there is no need
    misshapen = (_told(*key) for key in info["mismatched_keys"])
    check_whole(source, model, [*info["missing_keys"], *misshapen], info["unexpected_keys"])
    return model


def _told(name: str, held: Sequence[int], asked: Sequence[int]) -> str:
    """A tensor whose shape in the file is not that of the model."""
    return f"{name}, {tuple(held)} in its file and {tuple(asked)} by its config.json"


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


def is_away(source: str | Path) -> bool:
    """Is it a Hub name, and the Hub out of reach? Then only what is in the cache can be had."""
    return not isinstance(source, Path) and not is_reachable()
