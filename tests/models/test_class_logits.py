"""The reference of runs on images is the model as it was, bit by bit, and forgets what it is told to."""

from __future__ import annotations

import pytest
import torch
from tests.data.test_image import some
from tests.models.test_resnet import tiny

from palimpsest.data.encode.augment import Augmentation
from palimpsest.models.class_logits import LOGITS_FILE, CachedLogits, class_logits
from palimpsest.models.reference import AdapterOff, FrozenCopy, build_reference
from palimpsest.models.scope import Scope, apply_scope


def drift(model) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)


def test_all_images_in_parts_as_in_one_pass_and_nothing_moves():
    model, examples = tiny().train(), some(7)
    model.bn1.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = class_logits(model, examples, batch_size=3)
    assert (model.training, model.bn1.training) == (True, False)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    expected = model.eval()(pixel_values=examples.batch(examples.ids).images_BCHW).logits
    assert torch.allclose(found, expected, atol=1e-5)


def test_augmentation_is_left_out():
    assert torch.equal(class_logits(tiny(), some(augment=Augmentation())), class_logits(tiny(), some()))


def test_the_cache_says_what_the_model_said(tmp_path):
    model, examples = tiny(), some(5)
    expected = class_logits(model, examples, batch_size=2)
    shared = {"forget": examples.subset(["i0", "i1"]), "retain": examples}
    reference = build_reference(model, shared, tmp_path, batch_size=2)
    assert isinstance(reference, CachedLogits)
    drift(model)
    predictions = reference.predict(model, examples.batch(["i4", "i0", "i4"]))
    assert torch.allclose(predictions.logits_SV, expected[[4, 0, 4]], atol=1e-5)
    assert predictions.target_S.tolist() == [0, 0, 0]


def test_a_whole_cache_is_used_again_and_another_is_not(tmp_path):
    model, examples = tiny(), some(3)
    build_reference(model, {"retain": examples}, tmp_path)
    drift(model)
    again = build_reference(model, {"retain": examples}, tmp_path).predict(model, examples.batch(["i1"]))
    assert torch.allclose(again.logits_SV, class_logits(tiny(), examples)[[1]], atol=1e-5)
    more = some(4)
    other = build_reference(model, {"retain": more}, tmp_path).predict(model, more.batch(["i1"]))
    assert torch.allclose(other.logits_SV, class_logits(model, more)[[1]], atol=1e-5)


def test_forgotten_logits_are_gone_from_the_disk_too(tmp_path):
    examples = some(3)
    reference = build_reference(tiny(), {"retain": examples}, tmp_path)
    size = (tmp_path / LOGITS_FILE).stat().st_size
    reference.forget(["i1", "unknown"])
    assert (tmp_path / LOGITS_FILE).stat().st_size < size
    for at_hand in (reference, CachedLogits(tmp_path)):
        expected = class_logits(tiny(), examples)[[2, 0]]
        assert torch.allclose(at_hand.predict(None, examples.batch(["i2", "i0"])).logits_SV, expected, atol=1e-5)
        with pytest.raises(KeyError):
            at_hand.predict(None, examples.batch(["i1"]))


def test_augmented_images_are_shown_to_a_copy(tmp_path):
    model, examples = tiny(), some(augment=Augmentation())
    reference = build_reference(model, {"retain": examples}, tmp_path)
    assert isinstance(reference, FrozenCopy)
    batch = examples.batch(["i0", "i1"])
    drift(model)
    assert torch.equal(reference.predict(model, batch).logits_SV, batch.predict(tiny()).logits_SV)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_with_an_adapter_it_is_switched_off_and_the_statistics_are_as_before(tmp_path):
    model, examples = apply_scope(tiny(), Scope(kind="lora", rank=2)), some(4)
    reference = build_reference(model, {"retain": examples}, tmp_path)
    assert isinstance(reference, AdapterOff)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
    batch = examples.batch(examples.ids)
    changed = batch.predict(model.train()).logits_SV
    assert torch.allclose(reference.predict(model, batch).logits_SV, batch.predict(tiny()).logits_SV, atol=1e-5)
    assert not torch.allclose(changed, batch.predict(tiny()).logits_SV, atol=1e-2)
