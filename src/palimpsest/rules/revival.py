"""Revival: codes that nobody chose for some steps begin again at what is to be coded now.

Source: usual for codebooks (see ``models/parts/code_start.py``); "CodeUnlearn" trains with it, too, as far as is known.

    every N steps:   c_k <- h / S  for a drawn h of the step,  where code k was chosen 0 times in these N steps

The counts are buffers of the codebook and the draw is of (seed, step), so that a run that dies or takes steps back ends
with the same bits. The optimizer keeps its moments of a code that begins again. It is a rule of the method
``code_learn`` and no rule that is chosen alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from palimpsest.contract import ExampleSet, Phase
from palimpsest.models.parts.code_start import revived
from palimpsest.models.parts.codebook import Codebook, codebooks_of
from palimpsest.rules.rule import Rule, StepIds

_STEPS = "steps"


class Revival(Rule):
    """Counts which codes are chosen, and brings back those that are not."""

    def __init__(self, every: int) -> None:
        super().__init__()
        self._every, self._steps, self._revived = every, 0, 0

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> None:
        """No step was taken yet."""
        self._steps, self._revived = 0, 0
        for book in _moving(model):
            book.lately.clear()

    def reopen(self, model: nn.Module) -> None:
        """What the last step coded is no longer of interest."""
        for book in _moving(model):
            book.lately.clear()

    @contextmanager
    def around(self, model: nn.Module, phase: Phase, ids: StepIds) -> Iterator[None]:
        """Count, and every so many steps begin again what was not chosen."""
        yield
        self._steps, self._revived = self._steps + 1, 0
        for book in _moving(model):
            for chosen, _ in book.lately:
                book.usage += torch.bincount(chosen.flatten(), minlength=book.config.codes)
            if self._every and self._steps % self._every == 0:
                self._revive(book)

    @torch.no_grad()
    def _revive(self, book: Codebook) -> None:
        if book.lately:
            hidden_NC = torch.cat([hidden for _, hidden in book.lately])
            seed = self.setting.seed * 1_000_003 + self._steps
            found_KC, dead_K = revived(book.codes, book.usage, hidden_NC, 1 / book.config.chosen, seed)
            book.codes.copy_(found_KC)
            self._revived += int(dead_K.sum())
        book.usage.zero_()

    def diagnostics(self, learning_rate: float) -> dict[str, float]:
        """Codes that began again after this step."""
        return {"revived": float(self._revived)}

    def state(self) -> dict[str, Tensor]:
        """How many steps were counted."""
        return {_STEPS: torch.tensor(self._steps)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of ``state``."""
        self._steps = int(state[_STEPS]) if _STEPS in state else 0


def _moving(model: nn.Module) -> list[Codebook]:
    return [book for book in codebooks_of(model) if book.codes.requires_grad]
