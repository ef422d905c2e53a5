"""Tiny encoders with classes, and inputs of them: a ViT, a DeiT, and BERT and Llama with padded texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import transformers as T
from tests.models.small_texts import classifier

from palimpsest import methods
from palimpsest.models.parts import attach

SIZES = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48}
IMAGES = {"image_size": 12, "patch_size": 4, "num_channels": 1, "num_labels": 4}
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
LENGTHS = (7, 5, 3, 6)


def encoder(layout: str, blocks: int = 3, **options: Any) -> Any:
    """A classifier of four images or of three texts, the same at every call."""
    torch.manual_seed(0)
    if layout in ("bert", "llama"):
        model = classifier(layout)
    else:
        config = T.ViTConfig if layout == "vit" else T.DeiTConfig
        kind = T.ViTForImageClassification if layout == "vit" else T.DeiTForImageClassification
        model = kind(config(**{**SIZES, **IMAGES, **STILL, "num_hidden_layers": blocks, **options}))
    with torch.no_grad():
        for parameter in model.parameters():  # at the start all rows say nearly the same
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model.eval()


def inputs(layout: str, rows: int = 4) -> dict[str, torch.Tensor]:
    """Images of noise, or texts of several lengths, padded on the right."""
    generator = torch.Generator().manual_seed(1)
    if layout in ("vit", "deit"):
        return {"pixel_values": torch.randn(rows, 1, 12, 12, generator=generator)}
    ids_BT = torch.randint(5, 20, (rows, max(LENGTHS)), generator=generator)
    mask_BT = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS[:rows])[:, None]
    return {"input_ids": ids_BT * mask_BT, "attention_mask": mask_BT.long()}


def alone(given: dict[str, torch.Tensor], row: int) -> dict[str, torch.Tensor]:
    """One row without its padding."""
    length = LENGTHS[row]
    return {name: of[row : row + 1] if of.dim() == 4 else of[row : row + 1, :length] for name, of in given.items()}


def said(model: Any, given: dict[str, torch.Tensor]) -> torch.Tensor:
    """Logits."""
    with torch.no_grad():
        logits: torch.Tensor = model(**given).logits.clone()
    return logits


def with_prompts(model: Any, name: str, options: dict[str, Any] | None = None, seed: int = 0) -> Sequence[Any]:
    """The new parts of a prompt learner on a model, moved from where they start; earlier ones are old then."""
    from palimpsest.models.parts import parts_of

    for part in parts_of(model):
        part.is_new = False
        part.requires_grad_(False)
    method = methods.load(name)(methods.configure(name, options or {}))
    method.check(model)
    torch.manual_seed(seed)
    made = method.parts(model, {}, seed)
    for part in made:
        part.is_new = True
        part.requires_grad_(True)
        with torch.no_grad():
            for parameter in part.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape))
    attach(model, made)
    model.eval()
    return made
