"""What transformers' auto classes are told of the model type ``palimpsest``: a config, and who loads such a folder.

Nobody's code is run from a folder, and no class of ours comes out: what is returned is the base's own class, bearing
its parts. Importing this imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from transformers.configuration_utils import PreTrainedConfig

from palimpsest.errors import ModelError
from palimpsest.models.parts.parts_folder import MODEL_TYPE, base_in

_AUTO_CLASSES = (
    "AutoModelForCausalLM",
    "AutoModelForImageClassification",
    "AutoModelForSeq2SeqLM",
    "AutoModelForSequenceClassification",
)
_OF_THE_PLACE = ("config", "revision", "subfolder", "_commit_hash", "_from_auto")
"""Options that say where the whole folder is; its base is in it."""


class PartsConfig(PreTrainedConfig):  # type: ignore[misc] # transformers is untyped
    """The config.json of a version with parts; that of the model is its base's."""

    model_type = MODEL_TYPE

    @classmethod
    def from_dict(cls, config_dict: Mapping[str, Any], **options: Any) -> Any:
        """The config. Every option is left to the base, whose config knows what to do with it."""
        wanted = options.pop("return_unused_kwargs", False)
        config = cls(**{name: config_dict.get(name) for name in ("format", "base", "parts")})
        return (config, options) if wanted else config


class _VersionWithParts:
    """Loads a folder as one of the auto classes loads its base."""

    config_class = PartsConfig
    auto: ClassVar[str] = ""

    @classmethod
    def from_pretrained(cls, name: str | Path, *arguments: Any, **options: Any) -> Any:
        """The model of the base, bearing its parts; with its loading info where that is asked for.

        Raises:
            ModelError: the folder is not whole, or none on this machine.
        """
        import transformers

        from palimpsest.models.parts import attach
        from palimpsest.models.parts.with_parts import read_parts
        from palimpsest.models.sources import check_folder

        place = Path(name)
        if not place.is_dir() or options.get("subfolder"):
            raise ModelError(f"model {name}: a version with parts is loaded from a folder on this machine; download it")
        check_folder(place)
        given = {key: value for key, value in options.items() if key not in _OF_THE_PLACE}
        parts = read_parts(place)
        found = getattr(transformers, cls.auto).from_pretrained(
            base_in(place), *arguments, **{**given, "trust_remote_code": False, "use_safetensors": True}
        )
        model = found[0] if isinstance(found, tuple) else found
        attach(model, parts)
        model.name_or_path = str(place)
        return found


def register_config(auto: Any) -> None:
    """Tell the module ``configuration_auto``."""
    auto.AutoConfig.register(MODEL_TYPE, PartsConfig, exist_ok=True)


def register_models(auto: Any) -> None:
    """Tell the module ``modeling_auto``."""
    for name in _AUTO_CLASSES:
        shell = type(f"{name}WithParts", (_VersionWithParts,), {"auto": name})
        getattr(auto, name).register(PartsConfig, shell, exist_ok=True)
