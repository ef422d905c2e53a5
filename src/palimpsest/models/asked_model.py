"""A model that can only be asked, behind the interface of a transformers model.

Shape legend: B rows, T tokens, C channels, H height, W width, P positions of a soft prompt, D width of an embedding.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from palimpsest.errors import ModelError
from palimpsest.files import write_atomic
from palimpsest.models.black_box_file import BLACK_BOX
from palimpsest.models.black_boxes.tokens import READER_WIDTH
from palimpsest.models.parts import bearer_of
from palimpsest.models.questions import Questions
from palimpsest.models.token_reader import TokenReader


class BlackBoxConfig(PreTrainedConfig):  # type: ignore[misc] # transformers is untyped
    """What is known of a black box."""

    model_type = BLACK_BOX

    asked: dict[str, Any] | None = None
    """fields of ``black_boxes.box.BlackBoxFacts`` but the labels, which are ``id2label``"""
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
            "answers, with estimator = zeroth_order"
        )


class AskedModel(PreTrainedModel):  # type: ignore[misc] # transformers is untyped
    """What it is given to log-probabilities, by asking.

    Attributes:
        reads_alone: it asks nothing and says zeros, for parts that only look at the tokens it is given.
    """

    config_class = BlackBoxConfig

    def __init__(self, config: BlackBoxConfig, questions: Questions) -> None:
        super().__init__(config)
        box = questions.facts.box
        self.questions, self.main_input_name, self.reads_alone = questions, box.main_input, False
        self.takes_soft_prompt = box.reads_tokens
        self.unit = nn.Parameter(torch.ones(1), requires_grad=False)  # says where it is; it has no weights
        self.readers = nn.ModuleList([TokenReader(READER_WIDTH)] if box.reads_tokens else [])

    def get_output_embeddings(self) -> nn.Module | None:
        """No layer of it is known."""
        return None

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        soft_prompt: Tensor | None = None,
        **_: Any,
    ) -> CausalLMOutputWithPast:
        """Log-probabilities in ``.logits``.

        Args:
            input_ids: (B, T), of a model of texts.
            attention_mask: (B, T), padding behind each text.
            pixel_values: (B, C, H, W), of a model of images.
            soft_prompt: (B, P, D), embeddings that stand before each text.
        """
        named = {"input_ids": input_ids, "attention_mask": attention_mask, "pixel_values": pixel_values}
        given = {name: value for name, value in {**named, "soft_prompt": soft_prompt}.items() if value is not None}
        for reader in self.readers:
            reader(given["input_ids"])
        main, facts = given[self.main_input_name], self.questions.facts
        if self.reads_alone:
            return CausalLMOutputWithPast(logits=torch.zeros(1, 1, 1, device=main.device).expand(*main.shape[:2], -1))
        answers = self.questions.answers(facts.box.questions_of(given, facts))
        logits = facts.box.logits_of(answers, given, facts).to(main.device)
        hangs_on = main if soft_prompt is None else soft_prompt
        sealed: Any = _Sealed.apply(logits, hangs_on)  # type: ignore[no-untyped-call]  # torch's is untyped
        return CausalLMOutputWithPast(logits=sealed)

    def save_pretrained(self, folder: str | Path, **_: Any) -> None:
        """Write where it is asked, and its answers to the probes if it was asked for them."""
        from safetensors.torch import save_file

        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        answers = self.questions.probed()
        if answers:
            self.config.probe_answers = [list(answer) for answer in answers]
        if self.config.asked and self.config.asked.get("tokenizer"):
            self.config.asked = {**self.config.asked, "tokenizer": ""}  # a version has its own beside it
        self.config.architectures = [type(self).__name__]
        again = self.questions.facts.box.config(self.questions.facts)  # follows from what is kept
        said = {name: value for name, value in self.config.to_dict().items() if name not in again}
        write_atomic(place / "config.json", json.dumps(said, indent=2, sort_keys=True) + "\n")
        save_file({"unit": self.unit.detach().cpu()}, place / "model.safetensors", metadata={"format": "pt"})


@contextmanager
def reading_alone(model: Any) -> Iterator[None]:
    """In the block a model that can only be asked is not: its parts see the tokens, and what it says is zeros.

    Of any other model nothing changes.
    """
    bearer = bearer_of(model)
    alike = isinstance(bearer, AskedModel)
    if alike:
        bearer.reads_alone = True
    try:
        yield
    finally:
        if alike:
            bearer.reads_alone = False
