"""Any ``nn.Module`` as the rest of the house takes a model: called by keyword, with a config, saved to a folder.

The module is a deep copy of the caller's. A folder holds its state dict in safetensors under the module's own names,
and a config.json with what its code does not say; it is loaded by laying the weights into another copy (at_hand.py).

Shape legend: B examples, T tokens, C channels, H height, W width, D width of the model, V vocabulary, K classes.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput, ImageClassifierOutputWithNoAttention

from palimpsest.errors import ModelError
from palimpsest.models.at_hand import CUSTOM, NOTE, CustomFacts, module_at_hand
from palimpsest.models.hooked import caught_inputs
from palimpsest.records import digest

_WEIGHTS = "model.safetensors"
HOW_TO_LOAD = """These are the weights of a {name}, a module that was in memory, under the names of its own state dict.
Its code is not here. Build the module as it was built then, and:

    from safetensors.torch import load_model

    load_model(module, "{weights}")
    model = pal.Model.of(module{arguments})
"""


class CustomConfig(PreTrainedConfig):  # type: ignore[misc] # transformers is untyped
    """What is known of a module beside its code."""

    model_type = CUSTOM

    held_as: str = "model"
    """role of the module in the call that saved it"""
    module_class: str = ""
    """name of its class"""
    structure: str = ""
    """digest of the names and classes of its layers"""
    head: str | None = None
    """name of the linear layer that its outputs leave"""
    max_position_embeddings: int | None = None
    """most tokens that it takes"""


class CustomModule(PreTrainedModel):  # type: ignore[misc] # transformers is untyped
    """A module behind the interface of a transformers model."""

    config_class = CustomConfig

    def __init__(self, config: CustomConfig, inner: nn.Module) -> None:
        super().__init__(config)
        self.inner = inner

    def get_output_embeddings(self) -> nn.Module | None:
        """The linear layer that the outputs leave, if there is one."""
        return None if self.config.head is None else self.inner.get_submodule(self.config.head)

    def save_pretrained(self, folder: str | Path, **_: Any) -> None:
        """Write weights, config and a note on how to load them."""
        write_custom(self.inner, self.config, Path(folder))


class CustomForImageClassification(CustomModule):
    """Images to classes."""

    main_input_name = "pixel_values"

    def forward(self, pixel_values: Float[Tensor, "B C H W"], **_: Any) -> ImageClassifierOutputWithNoAttention:
        """Logits of normalised images, (B, K), in ``.logits``."""
        return ImageClassifierOutputWithNoAttention(logits=logits_in(self.inner(pixel_values)))


class CustomForCausalLM(CustomModule):
    """Tokens to the next ones. No cache is kept: every pass reads its texts from the beginning."""

    main_input_name = "input_ids"

    def forward(
        self, input_ids: Int[Tensor, "B T"], attention_mask: Int[Tensor, "B T"] | None = None, **_: Any
    ) -> CausalLMOutput:
        """Logits, (B, T, V), in ``.logits``; the mask goes to modules that take one."""
        return CausalLMOutput(logits=said_of_tokens(self.inner, input_ids, attention_mask))

    @property
    def base_model(self) -> Any:
        """The module without its head, as far as the outside sees."""
        return _BeforeHead(self)


class _BeforeHead:
    """Calls a module and gives what enters its head."""

    def __init__(self, model: CustomForCausalLM) -> None:
        self.model = model

    def __call__(self, **inputs: Any) -> BaseModelOutput:
        """Last hidden states, (B, T, D).

        Raises:
            ModelError: it has no head.
        """
        head = self.model.get_output_embeddings()
        if head is None:
            raise ModelError(
                f"{self.model.config.module_class} has no last linear layer with as many outputs as the vocabulary, so "
                "its hidden states cannot be had; give one as nn.Linear"
            )
        with caught_inputs(head) as seen:
            self.model(**inputs)
        return BaseModelOutput(last_hidden_state=seen[-1])


def said_of_tokens(module: nn.Module, input_ids_BT: Tensor, mask_BT: Tensor | None) -> Float[Tensor, "B T V"]:
    """Logits of a causal LM, with the mask where its forward takes one."""
    taken = inspect.signature(module.forward).parameters
    given = {"attention_mask": mask_BT} if mask_BT is not None and "attention_mask" in taken else {}
    return logits_in(module(input_ids_BT, **given, **({"use_cache": False} if "use_cache" in taken else {})))


def logits_in(output: Any) -> Tensor:
    """What a forward returned, read: a tensor, or what has one as ``logits``.

    Raises:
        ModelError: it is something else.
    """
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", output)
    if not isinstance(logits, Tensor):
        raise ModelError(
            f"the module returns a {type(output).__name__}; accepted: a tensor of logits, or an object with .logits"
        )
    return logits


def copied(module: nn.Module) -> nn.Module:
    """A copy that shares nothing with the caller's module, in fp32 and without gradients.

    Raises:
        ModelError: it cannot be copied.
    """
    try:
        twin = copy.deepcopy(module)
    except (RuntimeError, TypeError, AttributeError, NotImplementedError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"module {type(module).__name__} cannot be copied ({reason}); accepted: what copy.deepcopy takes"
        ) from error
    twin.zero_grad(set_to_none=True)
    return twin.float()


def config_of(module: nn.Module, facts: CustomFacts, role: str) -> CustomConfig:
    """The config of a module."""
    own: dict[str, Any] = {"held_as": role, "module_class": type(module).__name__, "structure": structure_of(module)}
    if facts.image_size is None:
        own |= {"vocab_size": facts.num_outputs, "max_position_embeddings": facts.max_length}
        kind = CustomForCausalLM
    else:
        own |= {"num_labels": facts.num_outputs, "image_size": list(facts.image_size)}
        own |= {"image_mean": list(facts.image_mean), "image_std": list(facts.image_std)}
        kind = CustomForImageClassification
    return CustomConfig(head=facts.head, architectures=[kind.__name__], **own)


def structure_of(module: nn.Module) -> str:
    """Digest of the names and classes of all layers: two modules of one shape may still be of another make."""
    return digest([[name, type(layer).__qualname__] for name, layer in module.named_modules()])[:16]


def write_custom(module: nn.Module, config: CustomConfig, folder: Path) -> None:
    """Weights, config and note of a module.

    Raises:
        ModelError: its state is more than tensors.
    """
    from safetensors.torch import save_model

    folder.mkdir(parents=True, exist_ok=True)
    config.to_json_file(folder / "config.json", use_diff=False)
    save_model(module, str(folder / _WEIGHTS), metadata={"format": "pt"})
    note = HOW_TO_LOAD.format(name=config.module_class, weights=_WEIGHTS, arguments=_arguments(config))
    (folder / NOTE).write_text(note, encoding="utf-8")


def _arguments(config: CustomConfig) -> str:
    """What ``Model.of`` was told."""
    if config.architectures == [CustomForCausalLM.__name__]:
        length = config.max_position_embeddings
        longest = "" if length is None else f", max_length={length}"
        return f", tokenizer, num_outputs={config.vocab_size}{longest}"
    size, mean, std = (tuple(value) for value in (config.image_size, config.image_mean, config.image_std))
    return f", num_outputs={config.num_labels}, image_size={size}, image_mean={mean}, image_std={std}"


def load_custom(folder: Path, config: Mapping[str, Any], source: str | Path) -> CustomModule:
    """A copy of the module that is at hand, with the weights of a folder.

    Args:
        folder: with config and weights.
        config: content of its config.json.
        source: for messages.

    Raises:
        ModelError: no module is at hand, or these are not its weights.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_model

    twin = copied(module_at_hand(config, source))
    try:
        load_model(twin, str(folder / _WEIGHTS))
    except (RuntimeError, OSError, SafetensorError) as error:
        first = " ".join(str(error).split())[:200]
        raise ModelError(f"model {source}: not the weights of this {type(twin).__name__}: {first}") from error
    is_image = config.get("architectures") == [CustomForImageClassification.__name__]
    kind = CustomForImageClassification if is_image else CustomForCausalLM
    model: CustomModule = kind(CustomConfig(**config), twin)
    model.name_or_path = str(source)
    return model


def made_anew(model: CustomModule) -> CustomModule:
    """A copy whose layers drew their weights again, from torch's generator on the CPU.

    Raises:
        ModelError: a layer has parameters and no way to draw them.
    """
    twin = copied(model.inner).cpu()
    for name, layer in twin.named_modules():
        draw = getattr(layer, "reset_parameters", None)
        if draw is not None:
            draw()
        elif next(layer.parameters(recurse=False), None) is not None:
            raise ModelError(
                f"a fresh twin of {type(model.inner).__name__} cannot be built: {name or 'it'} has parameters of its "
                "own and no reset_parameters(); give it one, or take a method without an untrained teacher"
            )
    return type(model)(copy.deepcopy(model.config), twin)
