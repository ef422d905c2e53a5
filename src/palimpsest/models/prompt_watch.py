"""Which of the prompts that a run comes by is kept: the one that hides most of what must go and keeps what must stay.

    share(set) = exp(mean nats per label token without the prompt − the same behind it)
    kept       = argmin share(forget)   over all looks with   share(forget) < floor <= share(retain)

Where no look is within that, none is kept: the model is given back as it was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from palimpsest.data.encode.batch import ExampleSet
from palimpsest.models.soft_prompting import Learner

LOOKS = 8
"""In a run, evenly."""
WATCHED_ROWS = 16
"""Of each set that is looked at, its first ones."""
_NOWHERE = math.inf


def is_due(step: int, planned: int) -> bool:
    """Is a look due after this step?

    >>> [step for step in range(20) if is_due(step, 20)]
    [2, 4, 7, 9, 12, 14, 17, 19]
    """
    return (step + 1) * LOOKS // planned > step * LOOKS // planned


class PromptWatch:
    """Looks at both sets in a run, and remembers the best prompt.

    Attributes:
        best: share(forget) of the prompt that is kept so far; infinite while there is none.
        nearest: both shares at the look that came nearest, for a run that keeps none.
    """

    def __init__(self, learner: Learner, forget: ExampleSet, retain: ExampleSet, floor: float) -> None:
        self.learner, self.floor = learner, floor
        self.sets = {"forget": forget, "retain": retain}
        self.before = {name: learner.nats(rows, WATCHED_ROWS, without=True) for name, rows in self.sets.items()}
        self.best, self.nearest = _NOWHERE, (1.0, 1.0)
        self._kept_N = learner.part.prompt_D.detach().clone()

    def shares(self) -> tuple[float, float]:
        """Share(forget) and share(retain) behind the prompt as it stands."""
        now = {name: self.learner.nats(rows, WATCHED_ROWS) for name, rows in self.sets.items()}
        forget, retain = (math.exp(self.before[name] - now[name]) for name in ("forget", "retain"))
        return forget, retain

    def look(self) -> None:
        """Ask both sets, and remember the prompt if it is the best so far."""
        forget, retain = self.shares()
        if retain - forget > self.nearest[1] - self.nearest[0]:
            self.nearest = forget, retain
        if forget < self.floor <= retain and forget < self.best:
            self.best, self._kept_N = forget, self.learner.part.prompt_D.detach().clone()

    def why_none(self) -> str | None:
        """Why no prompt is kept, or None where one is."""
        if self.best < _NOWHERE:
            return None
        forget, retain = self.nearest
        return (
            f"no soft prompt was found that keeps {self.floor:g} of the probability per token of the retain rows and "
            f"takes more than that from the forget rows; nearest: {retain:.2f} of retain and {forget:.2f} of forget "
            "left; the model is as it was"
        )

    def keep(self) -> None:
        """Let the best prompt stand."""
        with torch.no_grad():
            self.learner.part.prompt_D.copy_(self._kept_N)

    def state(self) -> Mapping[str, Tensor]:
        """For a checkpoint."""
        numbers = torch.tensor([self.best, *self.nearest], dtype=torch.float64)
        return {"kept_prompt": self._kept_N, "kept_shares": numbers}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of ``state``."""
        self._kept_N = state["kept_prompt"].to(self._kept_N)
        self.best, *nearest = state["kept_shares"].tolist()
        self.nearest = nearest[0], nearest[1]
