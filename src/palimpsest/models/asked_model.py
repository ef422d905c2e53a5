"""A model that can only be asked, behind the interface of a transformers model.

Shape legend: B images, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutputWithNoAttention

from palimpsest.errors import ModelError
from palimpsest.models.black_box_file import BLACK_BOX
from palimpsest.models.questions import Questions

_SMALLEST = torch.finfo(torch.float32).tiny


class BlackBoxConfig(PreTrainedConfig):  # type: ignore[misc] # transformers is untyped
    """What is known of a black box."""

    model_type = BLACK_BOX

    asked: dict[str, Any] | None = None
    """fields of ``black_box_file.BlackBoxFacts`` but the labels, which are ``id2label``"""
    probe_answers: list[list[float]] | None = None
    """of the run that made a version"""
    held_as: str = "model"
    """role of the function in the call that saved it"""


class _Sealed(torch.autograd.Function):
    """An answer that hangs on what was asked, and refuses to be followed back."""

    @staticmethod
    def forward(_context: Any, answer: Tensor, _asked: Tensor) -> Tensor:
        """The answer."""
        return answer.clone()

    @staticmethod
    def backward(_context: Any, *_gradients: Any) -> Any:
        """There is none.

        Raises:
            ModelError: always.
        """
        raise ModelError(
            "a gradient was asked of a model that can only be asked; accepted: a method that estimates it from "
            "answers, as bar does with estimator = zeroth_order"
        )


class AskedModel(PreTrainedModel):  # type: ignore[misc] # transformers is untyped
    """Images to log-probabilities, by asking."""

    config_class = BlackBoxConfig
    main_input_name = "pixel_values"

    def __init__(self, config: BlackBoxConfig, questions: Questions) -> None:
        super().__init__(config)
        self.questions = questions
        self.unit = nn.Parameter(torch.ones(1), requires_grad=False)  # says where it is; it has no weights

    def get_output_embeddings(self) -> nn.Module | None:
        """No layer of it is known."""
        return None

    def forward(self, pixel_values: Float[Tensor, "B C H W"], **_: Any) -> ImageClassifierOutputWithNoAttention:
        """Log-probabilities, (B, K), in ``.logits``."""
        probs_BK = self.questions.probs(pixel_values)
        logits_BK = probs_BK.clamp_min(_SMALLEST).log().to(pixel_values.device)
        sealed_BK: Any = _Sealed.apply(logits_BK, pixel_values)  # type: ignore[no-untyped-call]  # torch's is untyped
        return ImageClassifierOutputWithNoAttention(logits=sealed_BK)

    def save_pretrained(self, folder: str | Path, **_: Any) -> None:
        """Write where it is asked, and its answers to the probes if it was asked for them."""
        from safetensors.torch import save_file

        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        answers = self.questions.probed()
        if answers:
            self.config.probe_answers = [list(answer) for answer in answers]
        self.config.architectures = [type(self).__name__]
        self.config.to_json_file(place / "config.json", use_diff=False)
        save_file({"unit": self.unit.detach().cpu()}, place / "model.safetensors", metadata={"format": "pt"})
