"""Pictures as others have them: names of classes, steps of a preprocessor, kinds of files, one rule of pixels."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import transformers as T
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from tests.models.test_images import VIT, put_vit, vit

from palimpsest.data.encode.image import encode_images
from palimpsest.data.encode.pixels import PixelFormat
from palimpsest.data.read.classes import given_names
from palimpsest.data.read.examples import read_examples, read_rows
from palimpsest.data.read.picture_modes import decode, pixels_of
from palimpsest.data.read.selection import Selection, select
from palimpsest.data.sets.same_names import told_apart
from palimpsest.data.sets.splits import check_disjoint
from palimpsest.errors import DataError, ModelError, PalimpsestError
from palimpsest.models.images import Preprocessor, pixel_format
from palimpsest.models.load import load
from palimpsest.models.sources import check_source, class_names_in
from palimpsest.records import Example, Image

BOUNDED = settings(
    max_examples=int(os.environ.get("PALIMPSEST_FUZZ", "40")),
    derandomize="PALIMPSEST_FUZZ" not in os.environ,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)


def noise(height: int = 8, width: int = 8, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def filed(picture: Any, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    (Pillow.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(buffer, kind, **options)
    return buffer.getvalue()


def put(folder: Path, name: str, data: bytes | None = None) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(filed(noise(seed=len(name))) if data is None else data)
    return file


def value_or_line(make: Callable[[], Any]) -> Any:
    """What is made, or the one line that refuses it."""
    try:
        return make()
    except PalimpsestError as problem:
        return str(problem) if "\n" not in str(problem) else problem


def named_model(folder: Path, **names: Any) -> Path:
    """A ViT whose config.json has these values."""
    put_vit(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **names}))
    return folder


# --- classes: names before numbers


def of_classes(num: int, folder: Path, **names: Any) -> Path:
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = T.ViTForImageClassification(T.ViTConfig(**shape, image_size=8, patch_size=4, num_labels=num))
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(VIT))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **names}))
    return folder


def numbers_of(model: Path, examples: list[Example]) -> list[int]:
    loaded = load(model)
    encoded = encode_images(examples, loaded.pixels, num_classes=loaded.num_outputs, class_names=loaded.class_names)
    return encoded.label_N.tolist()


SORTED_AS_TEXT = {name: number for number, name in enumerate(sorted(map(str, range(1, 13))))}


def test_a_folder_named_by_a_number_is_the_class_of_that_name(tmp_path):
    """Case 08: '10' is the second of the names when they are sorted as text."""
    names = {"label2id": SORTED_AS_TEXT, "id2label": {str(n): name for name, n in SORTED_AS_TEXT.items()}}
    model = of_classes(12, tmp_path / "model", **names)
    for name in ("1", "2", "10", "11", "012"):
        put(tmp_path / "data", f"{name}/0.png", filed(noise(seed=int(name))))
    beyond, *examples = read_examples(tmp_path / "data")
    folders = [example.id.partition("/")[0] for example in examples]
    assert dict(zip(folders, numbers_of(model, examples), strict=True)) == {"1": 0, "2": 4, "10": 1, "11": 2}
    with pytest.raises(DataError, match=r"class 12 \('012'\); accepted: 0 to 11"):
        numbers_of(model, [beyond])
    forget, _ = select(examples, Selection(classes=("10",)), class_names_in(model))
    assert [e.id for e in forget] == ["10/0.png"]
    cells = read_examples([{"image": noise(seed=n), "label": label} for n, label in enumerate(("10", 10, "2"))])
    assert numbers_of(model, cells) == [1, 10, 4]


def test_without_such_a_name_a_number_is_a_number(tmp_path):
    model = of_classes(12, tmp_path / "model")
    for name in ("3", "11", "007"):
        put(tmp_path / "data", f"{name}/0.png", filed(noise(seed=int(name))))
    assert sorted(numbers_of(model, read_examples(tmp_path / "data"))) == [3, 7, 11]


@pytest.mark.parametrize(
    ("config", "names", "shared"),
    [
        ({"label2id": {"cat": "0", "dog": "1", "cow": "2"}}, {"cat": 0, "dog": 1, "cow": 2}, {}),
        ({"label2id": {"cat": 0.0, "dog": True, "cow": None}, "id2label": {}}, {"cat": 0}, {}),
        ({"label2id": {}, "id2label": {"0": "cat", "1": "dog", "2": "cow"}}, {"cat": 0, "dog": 1, "cow": 2}, {}),
        ({"label2id": {"a": 2}, "id2label": {"0": "a", "1": "cat", "2": "a"}}, {"cat": 1}, {"a": [0, 2]}),
        ({"id2label": {"0": "LABEL_0", "1": "cat", "2": "LABEL_2"}}, {"cat": 1}, {}),
        ({"label2id": {"0": 2, "1": "1", "2": 0}}, {"0": 2, "1": 1, "2": 0}, {}),
    ],
)  # fmt: skip
def test_names_of_classes_however_a_config_writes_them(tmp_path, config, names, shared):
    """Case 09: values as text; of names that two classes have, none is chosen."""
    found = given_names(config.get("label2id"), config.get("id2label"))
    assert (found, found.shared) == (names, shared)
    if "LABEL_0" not in str(config) and config.get("id2label", True):
        loaded = load(named_model(tmp_path, **config))
        assert {**loaded.class_names} == {**class_names_in(tmp_path)} == names


def test_a_name_of_two_classes_is_refused_and_a_hole_too(tmp_path):
    twins = of_classes(3, tmp_path / "a", id2label={"0": "crane", "1": "cat", "2": "crane"}, label2id={"crane": 2})
    rows = [{"image": noise(), "label": "crane"}]
    with pytest.raises(DataError, match="class name 'crane' is that of the model's classes 0 and 2; accepted: one of"):
        numbers_of(twins, read_examples(rows))
    hole = of_classes(2, tmp_path / "b", id2label={"0": "cat", "2": "dog"}, label2id={"cat": 0, "dog": 2})
    with pytest.raises(DataError, match=r"class 2 \('dog'\); accepted: 0 to 1"):
        numbers_of(hole, read_examples([{"image": noise(), "label": "dog"}]))


def test_the_numbers_of_a_dataset_are_read_by_the_names_that_it_gives_them(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["dog", "cat"])})
    rows = {"image": [Pillow.fromarray(noise(seed=n)) for n in range(2)], "label": [0, 1]}
    found = datasets.Dataset.from_dict(rows, features=features)
    found.to_parquet(tmp_path / "rows.parquet")
    found.save_to_disk(tmp_path / "saved")
    model = of_classes(3, tmp_path / "model", id2label={"0": "cat", "1": "dog", "2": "cow"})
    nameless = of_classes(3, tmp_path / "nameless")
    for source in (found, tmp_path / "rows.parquet", tmp_path / "saved"):
        examples = read_examples(source)
        assert numbers_of(model, examples) == [1, 0]
        assert numbers_of(nameless, examples) == [0, 1]
        assert [e.content.label for e in select(examples, Selection(classes=("cat",)))[0]] == [1]


@given(st.dictionaries(st.text(max_size=4), st.none() | st.integers() | st.text(max_size=25) | st.floats(), max_size=5),
       st.dictionaries(st.text(max_size=25) | st.integers(), st.text(max_size=4) | st.none(), max_size=5))  # fmt: skip
@BOUNDED
def test_any_names_of_classes_are_numbers_or_nothing(label2id, id2label):
    found = given_names(label2id, id2label)
    assert all(isinstance(number, int) and number >= 0 for number in found.values())


# --- one rule of pixels, through every door


def grey16() -> np.ndarray:
    return np.linspace(0, 65535, 256).reshape(16, 16).astype(np.uint16)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_keep_their_upper_eight(kind):
    """Case 10: 256 levels, one channel, and not one white picture."""
    found = decode(filed(grey16(), kind))
    assert found.shape == (16, 16, 1)
    assert np.array_equal(found[:, :, 0], grey16() >> 8)
    assert len(np.unique(found)) == 256


COLOURS = noise(4, 5)
GREY = COLOURS[:, :, 0]


def with_alpha(mode: str) -> Pillow.Image:
    picture = Pillow.fromarray(COLOURS if mode == "RGBA" else GREY).convert(mode)
    picture.putalpha(Pillow.fromarray(noise(4, 5, 1, seed=3)[:, :, 0]))
    return picture


def palette(**options: Any) -> bytes:
    return filed(Pillow.fromarray(COLOURS).convert("P", palette=Pillow.Palette.ADAPTIVE, colors=64), **options)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (filed(with_alpha("RGBA")), COLOURS),
        (filed(with_alpha("LA")), GREY[:, :, None]),
        (filed(with_alpha("RGBA"), "WEBP", lossless=True, exact=True), COLOURS),
        (filed(Pillow.fromarray(GREY > 99)), ((GREY > 99) * 255)[:, :, None]),
        (palette(), COLOURS),
        (palette(transparency=bytes(range(20))), COLOURS),
        (palette(transparency=0), COLOURS),
        (filed(COLOURS, "BMP"), COLOURS),
        (filed(COLOURS, "TIFF"), COLOURS),
        (filed(GREY, "GIF"), GREY[:, :, None].repeat(3, axis=2)),  # a palette, of greys
        (filed(Pillow.fromarray(COLOURS).convert("CMYK"), "TIFF"), COLOURS),
    ],
)
def test_modes_of_pictures(data, expected):
    assert np.array_equal(decode(data), expected)
    in_memory = Pillow.open(io.BytesIO(data))
    in_memory.load()
    assert np.array_equal(pixels_of(in_memory), expected)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (filed(Pillow.fromarray(GREY.astype(np.int32)), "TIFF"), "^32 bits per channel; accepted: 8"),
        (filed(Pillow.fromarray(GREY.astype(np.float32)), "TIFF"), "32 bits per channel, with fractions"),
        (filed(GREY.astype(np.uint16)), "uses those of 0 to 2.. alone"),
        (filed(COLOURS, "GIF", save_all=True, append_images=[Pillow.fromarray(COLOURS[::-1])]), "2 pictures in one"),
        (filed(COLOURS, "TIFF", save_all=True, append_images=[Pillow.fromarray(COLOURS[::-1])]), "2 pictures in one"),
        (filed(COLOURS, "PPM"), "not a readable PNG, JPEG, WebP, BMP, GIF or TIFF picture$"),
        (filed(COLOURS)[:70], "not a readable .* picture"),
        (b"", "not a readable .* picture"),
    ],
)  # fmt: skip
def test_pictures_that_are_refused(data, words):
    with pytest.raises(DataError, match=words):
        decode(data)


def turned_photo() -> bytes:
    mark = Pillow.Exif()
    mark[274] = 6
    return filed(noise(16, 8), "JPEG", exif=mark)


def test_a_photo_is_turned_through_every_door(tmp_path):
    """Case 11: (8, 16, 3) and one id, whatever it came in."""
    datasets = pytest.importorskip("datasets")
    data = turned_photo()
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    found = datasets.Dataset.from_dict({"image": [{"bytes": data, "path": None}], "label": [0]}, features=features)
    (tmp_path / "ds").mkdir()
    found.to_parquet(tmp_path / "ds" / "train.parquet")
    found.save_to_disk(tmp_path / "saved")
    pq.write_table(pa.Table.from_pylist([{"image": data, "label": 0}]), tmp_path / "bytes.parquet")
    expected = np.rot90(np.asarray(Pillow.open(io.BytesIO(data))), -1)
    np.savez(tmp_path / "a.npz", x=expected[None], y=[0])
    doors = [tmp_path / "ds" / "train.parquet", tmp_path / "saved", tmp_path / "bytes.parquet", tmp_path / "a.npz",
             found, [{"image": data, "label": 0}], [{"image": Pillow.open(io.BytesIO(data)), "label": 0}],
             [{"image": expected, "label": 0}], [{"image": {"bytes": data}, "label": 0}]]  # fmt: skip
    examples = [*(read_examples(door)[0] for door in doors), read_examples(tmp_path / "ds", split="train")[0]]
    assert {example.content for example in examples} == {Image(expected.tobytes(), (8, 16, 3), 0)}
    assert len({example.id for example in examples}) == 1
    for where in ("folder", "split/train"):
        put(tmp_path, f"{where}/0/a.jpg", data)
    for folder in (read_examples(tmp_path / "folder"), read_examples(tmp_path / "split", split="train")):
        assert [(e.id, e.content) for e in folder] == [("0/a.jpg", examples[0].content)]


@pytest.mark.parametrize("array", [grey16(), COLOURS / 255, with_alpha("RGBA"), noise(4, 5, 2), COLOURS[:0]])
def test_arrays_in_memory_are_bytes_of_one_or_three_channels(array):
    array = np.asarray(array)
    with pytest.raises(DataError, match=rf"image is an array of {array.dtype}, .*; accepted: uint8, H x W"):
        read_examples([{"image": array, "label": 0}])


FILES = {kind: filed(COLOURS, kind) for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")}


@pytest.mark.parametrize("kind", FILES)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8), st.floats(0.2, 1))
@BOUNDED
def test_whatever_is_in_a_file_it_is_pixels_or_refused(kind, changes, kept):
    data = bytearray(FILES[kind])
    for place, value in changes:
        data[int(place * (len(data) - 1))] = value
    found = value_or_line(lambda: decode(bytes(data[: int(kept * len(data))])))
    assert isinstance(found, str) or (found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] in {1, 3})


# --- folders: all or nothing


def test_every_kind_of_file_in_a_folder_is_read(tmp_path):
    """Case 12: with endings in any case, and with none at all."""
    endings = {"webp": "WEBP", "BMP": "BMP", "tif": "TIFF", "TIFF": "TIFF", "gif": "GIF", "jfif": "JPEG", "JPG": "JPEG"}
    for number, (ending, kind) in enumerate(endings.items()):
        put(tmp_path, f"0/{number}.{ending}", filed(noise(seed=number), kind))
    put(tmp_path, "0/deep/er/photo")
    for passed in ("0/.hidden.png", "0/Thumbs.db", "0/.DS_Store", ".git/x.png", "__MACOSX/0/._0.png"):
        put(tmp_path, passed, b"nothing")
    assert [e.id for e in read_examples(tmp_path)] == sorted(
        [*(f"0/{n}.{ending}" for n, ending in enumerate(endings)), "0/deep/er/photo"]
    )


@pytest.mark.parametrize("name", ["0/person.heic", "0/notes.txt", "0/deep/person.svg", "1/person.png"])
def test_a_file_of_a_class_that_is_no_picture_is_named(tmp_path, name):
    put(tmp_path, "0/a.png")
    put(tmp_path, name, b"not a picture")
    with pytest.raises(DataError, match=f"{name}: not a readable PNG"):
        read_examples(tmp_path)


def test_what_lies_beside_the_classes_is_said(tmp_path):
    put(tmp_path, "0/a.png")
    put(tmp_path, "README.md", b"about")
    (tmp_path / "1").mkdir()
    assert read_rows(tmp_path).notes == (
        f"{tmp_path}: folders without pictures: 1",
        f"{tmp_path}: files beside the classes left out: README.md",
    )
    put(tmp_path, "person.JPG")
    with pytest.raises(DataError, match=r"person.JPG: a picture without a class; put it into a folder"):
        read_rows(tmp_path)


def test_links_are_followed_and_never_in_circles(tmp_path):
    put(tmp_path / "elsewhere", "one.png")
    put(tmp_path / "data", "0/a.png")
    (tmp_path / "data" / "0" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "0" / "b.png").symlink_to(tmp_path / "elsewhere" / "one.png")
    (tmp_path / "data" / "1").symlink_to(tmp_path / "elsewhere")
    ids = [e.id for e in read_examples(tmp_path / "data")]
    assert ids == ["0/a.png", "0/b.png", "0/linked/one.png", "1/one.png"]
    (tmp_path / "data" / "0" / "circle").symlink_to(tmp_path / "data" / "0")
    with pytest.raises(DataError, match="circle: a link to a folder that it lies in"):
        read_examples(tmp_path / "data")
    (tmp_path / "data" / "0" / "circle").unlink()
    (tmp_path / "data" / "0" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(DataError, match="gone.png: no file that can be read"):
        read_examples(tmp_path / "data")


# --- preprocessors: as transformers does it, or refused

HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
STEPS: dict[str, dict[str, Any]] = {
    "norescale": {**VIT, "do_rescale": False, "do_resize": False, "image_mean": [127.5] * 3, "image_std": [127.5] * 3},
    "factor": {**VIT, "rescale_factor": 1 / 127.5},
    "no normalisation": {**VIT, "do_normalize": False},
    "lanczos": {**VIT, "resample": 1},
    "crop": {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 12}, "crop_size": 8},
    "crop_pct": {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 8}, "crop_pct": 0.7,
                 **HALF},
    "old name": {"feature_extractor_type": "ConvNextFeatureExtractor", "size": 8, "crop_pct": 0.875},
    "fast": {"image_processor_type": "DeiTImageProcessorFast", "size": {"height": 12, "width": 12}, "crop_size": 8},
    "offset": {"image_processor_type": "EfficientNetImageProcessor", "size": 8, "rescale_factor": 1 / 127.5,
               "rescale_offset": True, "include_top": True, "do_center_crop": False},
    "flip": {"image_processor_type": "MobileViTImageProcessor", "size": {"shortest_edge": 9}, "crop_size": 8,
             "do_flip_channel_order": True},
    "levit": {"image_processor_type": "LevitImageProcessor", "size": {"shortest_edge": 8}, "crop_size": 8},
    "rectangle": {**VIT, "size": {"height": 6, "width": 10}},
    "crop outside": {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 6}, "crop_size": 9},
    "only its class": {"image_processor_type": "PvtImageProcessor", "size": {"height": 8, "width": 8}},
}  # fmt: skip


def by_transformers(values: dict[str, Any], pixels_HWC: np.ndarray) -> np.ndarray:
    named = values.get("image_processor_type", values.get("feature_extractor_type", "ViTImageProcessor"))
    kind = named.removesuffix("Fast").replace("FeatureExtractor", "ImageProcessor")
    made = getattr(T, f"{kind}Pil").from_dict(values)(Pillow.fromarray(pixels_HWC), return_tensors="pt")
    return made["pixel_values"].numpy()


def by_us(pixels: PixelFormat, pixels_HWC: np.ndarray) -> np.ndarray:
    prepared = pixels.pixels_of(Image(pixels_HWC.tobytes(), pixels_HWC.shape, 0))
    return pixels.normalise(torch.from_numpy(prepared.copy())[None]).numpy()


@pytest.mark.parametrize("name", STEPS)
def test_every_step_gives_the_values_of_transformers(name):
    """Case 13 and its kin."""
    values = STEPS[name]
    pixels = pixel_format(Preprocessor(values), {"model_type": "vit", "image_size": 8}, "m")
    for shape in ((8, 8), (13, 13), (30, 21), (9, 40)):
        if values.get("do_resize", True) or shape == (8, 8):
            picture = noise(*shape)
            assert np.allclose(by_us(pixels, picture), by_transformers(values, picture), atol=1e-6)


def test_a_model_is_measured_on_the_pixels_of_its_processor(tmp_path):
    """From the folder of a model to its probabilities, and again after it was saved."""
    put_vit(tmp_path / "a", **{**STEPS["flip"], "do_normalize": None})
    loaded = load(tmp_path / "a")
    loaded.model.save_pretrained(tmp_path / "b")
    loaded.companion.save_pretrained(tmp_path / "b")
    again = load(tmp_path / "b")
    assert again.pixels == loaded.pixels
    values = json.loads((tmp_path / "b" / "preprocessor_config.json").read_text())
    example = read_examples([{"image": noise(20, 14), "label": 0}])
    with torch.no_grad():
        right = vit()(pixel_values=torch.from_numpy(by_transformers(values, noise(20, 14)))).logits
        batch = encode_images(example, again.pixels, num_classes=3).batch([example[0].id])
        assert torch.allclose(batch.predict(again.model).logits_SV, right, atol=1e-6)


def test_grey_pictures_become_colours_where_the_processor_says_so():
    grey = noise(9, 9, 1)
    converts = {**STEPS["crop"], "do_convert_rgb": True}
    pixels = pixel_format(Preprocessor(converts), {}, "m")
    assert np.allclose(by_us(pixels, grey), by_transformers(converts, grey[:, :, 0]), atol=1e-6)
    with pytest.raises(DataError, match="1 channel; accepted: 3"):
        by_us(pixel_format(Preprocessor(VIT), {"model_type": "vit"}, "m"), grey)


def test_a_picture_of_another_size_after_its_steps_is_refused():
    values = {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 8}, "do_center_crop": False}
    pixels = pixel_format(Preprocessor(values), {}, "m")
    assert by_us(pixels, noise(20, 20)).shape == (1, 3, 8, 8)
    with pytest.raises(DataError, match="1 by 501 pixels; accepted: at most 500 times as long as wide"):
        by_us(pixels, noise(1, 501))
    with pytest.raises(DataError, match="12x8x3 after the model's preprocessor; accepted: 8x8x3, so that all are of"):
        by_us(pixels, noise(30, 20))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({**VIT, "do_invert_colours": True}, "asks for do_invert_colours, which transformers' ViTImageProcessor"),
        (
            {**VIT, "image_processor_type": "MyImageProcessor"},
            "is a MyImageProcessor, which transformers",
        ),
        ({**VIT, "image_processor_type": "pipeline"}, "is a pipeline, which transformers does not have"),
        ({**VIT, "do_pad": True, "pad_size": {"height": 99, "width": 99}}, "does do_pad, which is not done here"),
        ({"image_processor_type": "Siglip2ImageProcessor"}, "makes pixel_values, pixel_attention_mask, spatial_shapes"),
        ({**VIT, "size": {"height": 10**9, "width": 8}}, "has size 1000000000; accepted: at most 8192"),
        ({**STEPS["crop_pct"], "crop_pct": 1e-6}, "has crop_pct 1e-06; accepted: 0.1 and up"),
        ({**VIT, "image_std": [0.0, 0.2, 0.2]}, "model m: its preprocessor"),
        ({**VIT, "resample": "bicubic"}, "model m: its preprocessor cannot be used"),
        ({**VIT, "size": {"longest_edge": 9}}, "model m: its preprocessor cannot be used"),
        ({"image_processor_type": "ImageGPTImageProcessor"}, "model m: its preprocessor cannot be used"),
    ],
)
def test_steps_that_cannot_be_done_are_refused_by_name(values, words):
    with pytest.raises(ModelError, match=words) as error:
        pixel_format(Preprocessor(values), {"model_type": "vit", "image_size": 8}, "m")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "changes",
    [{"do_rescale": False}, {"rescale_factor": 0.5}, {"rescale_offset": True}, {"do_pad": True}, {"crop_pct": 0.9},
     {"do_flip_channel_order": True}, {"include_top": True}],
)  # fmt: skip
def test_without_a_processor_of_transformers_only_plain_steps_are_taken(changes):
    with pytest.raises(ModelError, match=next(iter(changes)) + "|rescales by 0.5"):
        pixel_format(Preprocessor({**VIT, **changes}), {}, "m")


SIDES = st.one_of(st.integers(-1, 12), st.fixed_dictionaries({"shortest_edge": st.integers(0, 12)}),
                  st.fixed_dictionaries({"height": st.integers(0, 12), "width": st.integers(0, 12)}))  # fmt: skip
FLAGS = st.sampled_from([True, False, None, "yes"])


@given(st.sampled_from(["ViT", "CLIP", "ConvNext", "EfficientNet", "MobileViT", "Levit", "Bit", "Perceiver"]),
       st.fixed_dictionaries({}, optional={
           "size": SIDES, "crop_size": SIDES, "do_resize": FLAGS, "do_center_crop": FLAGS, "do_rescale": FLAGS,
           "do_normalize": FLAGS, "do_pad": FLAGS, "do_convert_rgb": FLAGS, "do_flip_channel_order": FLAGS,
           "rescale_offset": FLAGS, "resample": st.integers(-1, 6), "crop_pct": st.floats(0, 1),
           "rescale_factor": st.floats(-2, 2), "image_mean": st.lists(st.floats(0, 1), max_size=4),
       }))  # fmt: skip
@BOUNDED
def test_any_preprocessor_is_that_of_transformers_or_refused(kind, values):
    values = {"image_processor_type": f"{kind}ImageProcessor", "size": {"height": 6, "width": 8}, **values}
    picture = noise(21, 17)
    ours = value_or_line(lambda: by_us(pixel_format(Preprocessor(values), {"image_size": 8}, "m"), picture))
    if not isinstance(ours, str):
        assert np.allclose(ours, by_transformers(values, picture), atol=1e-5, rtol=1e-5, equal_nan=True)


# --- which class is loaded

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def test_a_distillation_head_is_an_image_classifier(tmp_path):
    """Case 14: the logits are the mean of both heads, before and after it was saved."""
    torch.manual_seed(0)
    config = T.DeiTConfig(**TINY, image_size=8, patch_size=4, num_labels=3)
    model = T.DeiTForImageClassificationWithTeacher(config).eval()
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(VIT))
    check_source(tmp_path)
    loaded = load(tmp_path)
    picture = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        right, found = model(pixel_values=picture), loaded.model(pixel_values=picture)
    assert loaded.family.takes == "image"
    assert type(loaded.model) is type(model)
    assert torch.equal(found.logits, right.logits)
    assert torch.allclose(found.logits, (right.cls_logits + right.distillation_logits) / 2)


@pytest.mark.parametrize(
    ("kind", "architecture", "words"),
    [
        ("bert", "BertForTokenClassification", "is a tagger of texts; accepted: causal"),
        ("detr", "DetrForObjectDetection", "is a detector of objects"),
        ("segformer", "SegformerForSemanticSegmentation", "is a segmenter of pictures"),
        ("vit", "ViTForMaskedImageModeling", "is a picture model without classes"),
        ("wav2vec2", "Wav2Vec2ForSequenceClassification", "is a classifier of sounds; accepted: causal"),
        ("vit", "ViTModel", r"an image model \(vit, ViTModel\) that is no classifier of images; accepted: causal"),
        ("vit", None, r"an image model \(vit, without architectures\)"),
    ],
)
def test_models_for_something_else_are_named(tmp_path, kind, architecture, words):
    folder = named_model(tmp_path, model_type=kind, architectures=architecture and [architecture])
    with pytest.raises(ModelError, match=words) as error:
        load(folder)
    assert "causal LM: Unrecognized" not in str(error.value)


# --- ids of folders


def test_two_pictures_of_one_name_may_stand_in_two_sets(tmp_path):
    """Case 18: exports number the files of every class from 0."""
    for number, name in enumerate(("forget/0/0.png", "forget/0/1.png", "retain/0/0.png", "retain/1/0.png")):
        put(tmp_path, name, filed(noise(seed=number)))
    sets = {name: read_examples(tmp_path / name) for name in ("retain", "forget")}
    found, notes = told_apart(sets)
    assert [e.id for e in found["forget"]] == ["0/0.png", "0/1.png"]
    assert [e.id for e in found["retain"]] == ["retain/0/0.png", "1/0.png"]
    assert list(found) == ["retain", "forget"]
    assert notes == (
        "retain: 1 picture has the name of other pictures, and another id here (first: 0/0.png is retain/0/0.png)",
    )
    check_disjoint(found)


@pytest.mark.parametrize("name", ["0/0.png", "1/0.png", "0/zzz.png"])
def test_the_same_picture_is_never_forgotten_and_kept(tmp_path, name):
    put(tmp_path, "forget/0/0.png", filed(noise()))
    put(tmp_path, f"retain/{name}", filed(noise(), "BMP"))
    sets, notes = told_apart({role: read_examples(tmp_path / role) for role in ("forget", "retain")})
    assert notes == ()
    with pytest.raises(DataError, match="forget and retain"):
        check_disjoint(sets)


def test_ids_that_a_user_gave_are_the_same_row():
    one, other = (Example("7", Image(bytes([n]) * 3, (1, 1, 3), 0)) for n in range(2))
    sets, _ = told_apart({"forget": [one], "retain": [other]})
    with pytest.raises(DataError, match="share 1 ids"):
        check_disjoint(sets)
