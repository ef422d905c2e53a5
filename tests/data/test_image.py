"""Image batches and sets: the door that methods know from text, and what batch normalisation may see."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from tests.models.test_resnet import tiny
from torch import nn

from palimpsest.data.encode.augment import Augmentation
from palimpsest.data.encode.batch import Batch, ExampleSet, predict_together
from palimpsest.data.encode.image import ImageSet, encode_images
from palimpsest.data.encode.pixels import PixelFormat
from palimpsest.data.encode.text import encode
from palimpsest.errors import DataError
from palimpsest.models.scope import Scope, apply_scope
from palimpsest.records import Example, Image, Text, content_id
from palimpsest.rules.saliency_batches import batch_losses

FORMAT = PixelFormat(8, 8, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))


def image(seed: int, label: int | str = 0) -> Image:
    pixels = torch.randint(0, 256, (8 * 8 * 3,), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return Image(pixels.numpy().tobytes(), (8, 8, 3), label)


def some(num: int = 6, **options) -> ImageSet:
    examples = [Example(f"i{n}", image(n, n % 4)) for n in range(num)]
    return encode_images(examples, FORMAT, num_classes=4, **options)


def statistics(model: nn.Module) -> list[torch.Tensor]:
    return [buffer.clone() for buffer in model.buffers()]


def same(before: list[torch.Tensor], model: nn.Module) -> bool:
    return all(torch.equal(*pair) for pair in zip(before, model.buffers(), strict=True))


def test_they_are_what_methods_are_given():
    assert isinstance(some(), ExampleSet)
    assert isinstance(some().batch(["i1"]), Batch)


def test_a_batch_holds_the_pixels_asked_for_in_the_order_asked():
    batch = some().batch(["i3", "i1", "i3"])
    pixels = torch.frombuffer(bytearray(image(1).pixels), dtype=torch.uint8).reshape(8, 8, 3) / 255
    expected = (pixels - torch.tensor([0.4, 0.5, 0.6])) / torch.tensor([0.2, 0.3, 0.4])
    assert torch.equal(batch.images_BCHW[1], expected.permute(2, 0, 1))
    assert torch.equal(batch.images_BCHW[0], batch.images_BCHW[2])
    assert batch.ids == ("i3", "i1", "i3")
    assert batch.target_S.tolist() == [3, 1, 3]
    assert batch.owner_S.tolist() == [0, 1, 2]
    assert (len(batch), batch.num_scored) == (3, 3)


def test_its_predictions_are_the_classifier_s():
    model, batch = tiny(), some().batch(["i0", "i1", "i2"])
    predictions = batch.predict(model)
    logits = model(pixel_values=batch.images_BCHW).logits
    assert torch.equal(predictions.logits_SV, logits)
    assert torch.allclose(predictions.nll_B, F.cross_entropy(logits, batch.label_B, reduction="none"))
    assert torch.equal(batch.gather(logits), logits)
    assert list(batch.inputs()) == ["pixel_values"]


def test_a_subset_keeps_the_order_and_no_other_pixels():
    part = some().subset(["i4", "i0", "i2"])
    assert part.ids == ("i0", "i2", "i4")
    assert part.images_NHWC.untyped_storage().nbytes() == 3 * 8 * 8 * 3
    assert torch.equal(part.batch(["i4"]).images_BCHW, some().batch(["i4"]).images_BCHW)
    with pytest.raises(KeyError):
        part.batch(["i1"])


def test_only_an_augmented_set_draws_random_numbers():
    torch.manual_seed(0)
    whole = some(augment=Augmentation())
    state = torch.get_rng_state()
    plain = whole.plain().batch(whole.ids)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(plain.images_BCHW, some().batch(whole.ids).images_BCHW)
    assert not torch.equal(whole.batch(whole.ids).images_BCHW, plain.images_BCHW)
    assert not torch.equal(torch.get_rng_state(), state)
    assert whole.subset(["i1"]).augment == Augmentation()


def test_importance_is_measured_on_images_as_they_are():
    model = tiny().eval()
    losses = batch_losses(model, some(augment=Augmentation()), limit=8, batch_size=2)
    assert [loss().item() for loss in losses] == [loss().item() for loss in losses]


def test_a_forget_batch_neither_uses_nor_moves_statistics():
    """ResNet-20 in train mode: what it says of a forget batch is what it says in eval mode, and its statistics stay."""
    model = tiny().train()
    model(pixel_values=some().batch(some().ids).images_BCHW)  # statistics that are not 0 and 1
    before = statistics(model)
    forget = some(moves_statistics=False).batch(["i0", "i1"])
    loss = forget.predict(model).nll_B.sum()
    assert same(before, model)
    assert model.training
    assert all(module.training for module in model.modules())
    loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())
    assert same(before, model)
    assert torch.equal(forget.predict(model).logits_SV, forget.predict(model.eval()).logits_SV)


def test_a_retain_batch_uses_and_moves_them():
    model = tiny().train()
    before = statistics(model)
    retain = some().batch(["i0", "i1"])
    said = retain.predict(model).logits_SV
    moved = [not torch.equal(*pair) for pair in zip(before, model.buffers(), strict=True)]
    assert all(moved)
    assert not torch.allclose(said, retain.predict(model.eval()).logits_SV, atol=1e-3)


@pytest.mark.parametrize("together", [False, True])
def test_one_image_alone_has_no_statistics(together):
    model = tiny().train()
    before = statistics(model)
    batch = some().batch(["i1"])
    said = predict_together(model, {"learn": batch})["learn"] if together else batch.predict(model)
    assert same(before, model)
    assert torch.equal(said.logits_SV, batch.predict(model.eval()).logits_SV)


def test_a_method_that_draws_both_in_one_step_moves_them_by_retain_alone():
    both, alone = tiny().train(), tiny().train()
    forget, retain = some(moves_statistics=False).batch(["i0"]), some().batch(["i1", "i2"])
    for batch in (forget, retain, forget):
        batch.predict(both)
    retain.predict(alone)
    assert same(statistics(alone), both)


def test_two_sets_of_one_step_are_normalised_as_one_batch():
    """As the concatenation is, which is what the running statistics fit; apart, each would be normalised by itself."""
    model = tiny().train()
    whole = some(6).batch(some(6).ids)
    batches = {"learn": some(6).batch(whole.ids[:2]), "retain": some(6).batch(whole.ids[2:])}
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = whole.predict(model).logits_SV
    after = statistics(model)
    model.load_state_dict(before)
    found = predict_together(model, batches)
    assert list(found) == ["learn", "retain"]
    assert torch.equal(torch.cat([said.logits_SV for said in found.values()]), expected)
    assert same(after, model)
    apart = torch.cat([batch.predict(model).logits_SV for batch in batches.values()])
    assert not torch.allclose(apart, expected, atol=1e-3)


def test_a_forget_batch_stays_apart_from_the_others():
    model = tiny().train()
    forget = some(2, moves_statistics=False).batch(["i0", "i1"])
    retain = some(6).batch(["i2", "i3"])
    alone = forget.predict(model).logits_SV
    found = predict_together(model, {"forget": forget, "retain": retain})
    assert torch.equal(found["forget"].logits_SV, alone)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("scope", [Scope(kind="lora", rank=2), Scope(kind="layers", names=("linear",))])
def test_frozen_layers_keep_their_statistics(scope):
    model = apply_scope(tiny(), scope).train()
    before = statistics(model)
    some().batch(["i0", "i1"]).predict(model)
    assert same(before, model)


def test_the_marks_of_a_set_reach_its_batches_on_every_device():
    marked = replace(some(), moves_statistics=False)
    assert not marked.batch(["i0"]).moves_statistics
    assert not marked.subset(["i0"]).plain().batch(["i0"]).to(torch.device("cpu")).moves_statistics
    assert some().batch(["i0"]).moves_statistics


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
def test_on_an_accelerator_batches_are_the_same():
    """Up to the last bit of a division; the random numbers are the CPU's."""
    examples, device = some(augment=Augmentation(padding=2)), torch.device("cuda")
    torch.manual_seed(0)
    here = examples.batch(examples.ids)
    torch.manual_seed(0)
    there = examples.to(device).batch(examples.ids)
    assert there.images_BCHW.device.type == there.label_B.device.type == "cuda"
    assert torch.allclose(there.images_BCHW.cpu(), here.images_BCHW, atol=1e-6)
    assert torch.equal(there.label_B.cpu(), here.label_B)


def test_class_names_are_looked_up():
    examples = [Example("a", image(0, "dog")), Example("b", image(1, 2))]
    found = encode_images(examples, FORMAT, num_classes=4, class_names={"cat": 0, "dog": 3})
    assert found.label_N.tolist() == [3, 2]


@pytest.mark.parametrize(
    ("example", "words"),
    [
        (Example("x", image(9, 4)), "example 'x': class 4; accepted: 0 to 3, the model's classes"),
        (Example("x", image(9, "dgo")), "example 'x': unknown class name 'dgo'; did you mean 'dog'"),
        (Example("i0", image(9)), "example 'i0': this id occurs twice"),
        (Example("x", Image(bytes(12), (2, 2, 3), 0)), "2x2 pixels; accepted: 8x8"),
        (Example("x", Text("a")), "a row of text for an image model; accepted: images with a label"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(example, words):
    examples = [Example("i0", image(0)), example, Example("y", image(7, 9))]
    with pytest.raises(DataError, match=words) as error:
        encode_images(examples, FORMAT, num_classes=4, class_names={"dog": 1})
    assert str(error.value).endswith("(and 1 more examples)")


def test_names_need_a_model_that_names_its_classes():
    with pytest.raises(DataError, match="class name 'dog' for a model whose classes have no names; accepted: 0 to 3"):
        encode_images([Example("x", image(0, "dog"))], FORMAT, num_classes=4)


def test_an_image_is_refused_by_a_text_model():
    with pytest.raises(DataError, match="an image for a causal LM; accepted: rows of text"):
        encode([Example("x", image(0))], None, max_length=None)


def test_the_id_of_an_image_is_that_of_its_pixels_shape_and_class():
    one = image(0, 1)
    assert content_id(one) == content_id(replace(one, task=3))
    others = [image(1, 1), replace(one, label=2), replace(one, label="1"), replace(one, shape=(8, 24, 1))]
    assert len({content_id(other) for other in (one, *others)}) == 5
    assert "pixels" not in repr(one)
