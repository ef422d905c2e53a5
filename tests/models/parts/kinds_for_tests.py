"""Two kinds of part and methods that add them, as a stranger would write them: files in folders of their own."""

from __future__ import annotations

GAIN = '''"""A factor per channel: y + alpha * gain * y. A part for tests."""

import torch
from pydantic import Field
from torch import nn

from palimpsest.models.parts.part import Part, PartConfig
from palimpsest.models.places import module_at


class GainConfig(PartConfig):
    """Options."""

    width: int = Field(ge=1)
    """Channels."""


class Gain(Part):
    """Makes channels louder; folds where its place is a linear layer."""

    Config = GainConfig
    kind = "gain"

    def __init__(self, config):
        super().__init__(config)
        self.gain_D = nn.Parameter(0.1 * torch.randn(config.width))

    def forward(self, said):
        return self.gain_D * said

    def fold(self, model):
        module = module_at(model, self.config.at, "part")
        if not isinstance(module, nn.Linear):
            return False
        with torch.no_grad():
            module.weight *= (1 + self.alpha * self.gain_D)[:, None]
            if module.bias is not None:
                module.bias *= 1 + self.alpha * self.gain_D
        return True


PART = Gain
'''

NUDGE = '''"""A small net beside a module: y + alpha * V tanh(U y). A part for tests that does not fold."""

import torch
from pydantic import Field
from torch import nn

from palimpsest.models.parts.part import Part, PartConfig


class NudgeConfig(PartConfig):
    """Options."""

    width: int = Field(ge=1)
    """Channels."""
    inner: int = Field(default=4, ge=1)
    """Channels between."""


class Nudge(Part):
    """A bottleneck."""

    Config = NudgeConfig
    kind = "nudge"

    def __init__(self, config):
        super().__init__(config)
        self.down = nn.Linear(config.width, config.inner)
        self.up = nn.Linear(config.inner, config.width)

    def forward(self, said):
        return self.up(torch.tanh(self.down(said)))


PART = Nudge
'''

METHOD = '''"""Ascent on the forget set by parts after every feed-forward network. A method for tests."""

from palimpsest.contract import Config, Method, Term
from palimpsest.models import parts
from palimpsest.models.places import ffn_outputs


class NudgedConfig(Config):
    """Options."""

    part: str = "nudge"
    """Kind."""
    inside: str = ""
    """Name of a module in the network."""


class Nudged(Method):
    """Climbs."""

    Config = NudgedConfig
    needs = ("forget",)
    uses = ("retain",)
    reference_sets = frozenset({"forget"})
    defaults = {"learning_rate": 1e-2}
    adds_parts = True

    def parts(self, model, sets, seed):
        kind, width = parts.load(self.config.part), model.config.hidden_size
        places = [f"{place}{self.config.inside}" for place in ffn_outputs(model)]
        return [kind(kind.Config(at=place, width=width)) for place in places]

    def loss(self, model, batches, phase):
        said = batches["forget"].predict(model)
        before = self.recall(model, batches["forget"])
        return {
            "forget": Term(said.logp_S.sum(), of="forget"),
            "beside": Term((before.logp_S - before.logp_S).sum(), of="forget"),
        }


METHOD = Nudged
'''
