"""The head of a classifier under LoRA is the layer below the adapter, and what enters it are the features."""

from __future__ import annotations

import torch
from tests.methods.small_classes import class_rows, small_classifier

from palimpsest.models.families import of_model
from palimpsest.models.head_inputs import head_in
from palimpsest.models.scope import Scope, apply_scope


def test_features_are_those_of_the_model_without_its_adapter():
    model, rows = small_classifier("images"), class_rows("images", (0, 1), each=2)
    family, batch = of_model(model), rows.batch(rows.ids)
    head, before = family.head(model), family.features(model, batch)
    wrapped = apply_scope(model, Scope(kind="lora", rank=2)).eval()
    assert of_model(wrapped).head(wrapped) is head
    assert torch.equal(of_model(wrapped).features(wrapped, batch), before)
    assert head_in(wrapped, "slca").name.endswith("classifier")
