"""Images from files: kept bit by bit, ids as given, everything else refused by name."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as Pillow

from palimpsest.data.read.examples import read_examples, read_rows, set_digest
from palimpsest.data.read.layout import Layout
from palimpsest.errors import DataError
from palimpsest.records import Image, content_id

X = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), dtype=np.uint8)
Y = np.array([2, 0, 1], dtype=np.uint8)


def npz(path: Path, **arrays) -> Path:
    np.savez_compressed(path, **({"x": X, "y": Y} | arrays))
    return path


def png(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def test_an_npz_keeps_pixels_classes_and_order(tmp_path):
    examples = read_examples(npz(tmp_path / "a.npz"))
    assert [e.content for e in examples] == [Image(X[n].tobytes(), (4, 5, 3), int(Y[n])) for n in range(3)]
    assert [e.id for e in examples] == [content_id(e.content) for e in examples]
    assert all(e.subject is None for e in examples)


def test_an_npz_with_damaged_bytes_is_refused(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    path = npz(tmp_path / "a.npz", x=x)
    damaged = bytearray(path.read_bytes())
    damaged[2000:2600] = b"\xff" * 600
    path.write_bytes(damaged)
    with pytest.raises(DataError, match="a.npz: not a readable .npz file"):
        read_examples(path)


@pytest.mark.parametrize("column", ["id", "name"])
def test_an_npz_with_ids_subjects_and_tasks(tmp_path, column):
    arrays = {
        column: np.array(["c.png", "a.png", "b.png"]),
        "subject": np.array([7, 8, 7]),
        "task": np.array([0, 1, 0]),
    }
    examples = read_examples(npz(tmp_path / "a.npz", **arrays))
    assert [e.id for e in examples] == ["c.png", "a.png", "b.png"]
    assert [e.subject for e in examples] == ["7", "8", "7"]
    assert [e.content.task for e in examples] == [0, 1, 0]


def test_grey_images_and_numbers_as_ids(tmp_path):
    examples = read_examples(npz(tmp_path / "a.npz", x=X[..., 0], id=np.array([5, 6, 7])))
    assert examples[2].content == Image(X[2, :, :, 0].tobytes(), (4, 5, 1), 1)
    assert [e.id for e in examples] == ["5", "6", "7"]


def test_a_digest_names_a_set_of_images(tmp_path):
    one, other = read_examples(npz(tmp_path / "a.npz")), read_examples(npz(tmp_path / "b.npz", y=Y[::-1]))
    assert set_digest(one) != set_digest(one[::-1])
    assert set_digest(one) != set_digest(other)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": X / 255}, r"x is float64, 3 x 4 x 5 x 3; accepted: x \(uint8"),
        ({"x": X[0, 0]}, "x is uint8, 5 x 3"),
        ({"x": X[:0]}, "x is uint8, 0 x 4 x 5 x 3"),
        ({"x": X.transpose(0, 3, 1, 2)}, "x has 5 channels; accepted: 1 or 3, in the last place"),
        ({"y": Y[:2]}, "y is uint8, 2; accepted: 3 integers, one per image"),
        ({"y": Y / 2}, "y is float64, 3; accepted: 3 integers"),
        ({"y": Y.astype(int) - 1}, "row 2: class -1; accepted: 0 and up"),
        ({"name": np.array([1.0, 2.0, 3.0])}, "name is float64, 3; accepted: 3 strings or integers"),
        ({"name": np.array(["a", "", "b"])}, "row 2: name is empty"),
        ({"name": np.array(["a", "b", "a"])}, "row 3: id 'a' is already the id of row 1"),
        ({"x": X[[0, 1, 0]], "y": Y[[0, 1, 0]]}, "row 3: the same content as row 1; remove one, or give both an id"),
        ({"id": Y, "name": Y}, "holds both id and name; accepted: one of them"),
        ({"name": np.array(["a", "\ud800", "b"])}, "row 2: name holds half of a surrogate pair"),
        ({"name": np.array([{}, 1, 2], dtype=object)}, "not a readable .npz file .*allow_pickle=False"),
    ],
)
def test_an_npz_that_cannot_be_used_is_refused(tmp_path, arrays, words):
    with pytest.raises(DataError, match=words) as error:
        read_examples(npz(tmp_path / "a.npz", **arrays))
    assert str(tmp_path / "a.npz") in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("shape", ["(99999999999999,)", "(4, 8, 8, 3", "(" + "9" * 30 + ",)"])
def test_an_npz_with_a_forged_header_is_refused(tmp_path, shape):
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"12")
    with pytest.raises(DataError, match="not a readable .npz file"):
        read_examples(tmp_path / "a.npz")


def test_an_npz_without_classes_or_without_sense(tmp_path):
    np.savez(tmp_path / "a.npz", x=X)
    with pytest.raises(DataError, match="no array y"):
        read_examples(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(b"PK nothing")
    with pytest.raises(DataError, match="not a readable .npz file"):
        read_examples(tmp_path / "b.npz")
    with pytest.raises(DataError, match="no such file"):
        read_examples(tmp_path / "c.npz")
    with pytest.raises(DataError, match="split 'train' has nothing to choose from"):
        read_examples(npz(tmp_path / "d.npz"), split="train")


def test_other_arrays_are_left_out_with_a_note(tmp_path):
    """Unread, because they may be pickles."""
    path = npz(tmp_path / "a.npz", index=np.array(["1", "2", "3"], dtype=object))
    rows = read_rows(path)
    assert [e.where for e in rows.examples] == [f"{path}, row {n}" for n in (1, 2, 3)]
    assert rows.notes == (f"{path}: arrays left out: index",)
    assert read_rows(path, Layout(ignore=frozenset({"index"}))).notes == ()


def test_arrays_have_any_name(tmp_path):
    np.savez(tmp_path / "a.npz", pixels=X, y=[0, 0, 0], fine=Y, who=np.array(["ann", "bo", ""]))
    rows = read_rows(tmp_path / "a.npz", Layout({"image": "pixels", "label": "fine", "subject": "who", "text": "t"}))
    assert [(e.content.label, e.subject) for e in rows.examples] == [(2, "ann"), (0, "bo"), (1, None)]
    assert rows.mapped == {"image", "label", "subject"}
    assert rows.notes == (f"{tmp_path / 'a.npz'}: arrays left out: y",)
    with pytest.raises(DataError, match=r"no array x; it holds pixels, y, fine, who; .* --column image=ARRAY"):
        read_rows(tmp_path / "a.npz")


@pytest.fixture
def folder(tmp_path) -> Path:
    for name, pixels in (("cat/1.png", X[0]), ("cat/deep/2.png", X[1]), ("3/z.png", X[2, :, :, 0])):
        (tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pictures" / name).write_bytes(png(pixels))
    (tmp_path / "pictures" / "README.txt").write_text("about")
    return tmp_path / "pictures"


def test_an_image_folder_names_classes_by_its_sub_folders(folder):
    (folder / "cat" / "photo.JPG").write_bytes(png(X[2], "JPEG"))
    *examples, photo = read_examples(folder)
    assert [(e.id, e.content) for e in examples] == [
        ("3/z.png", Image(X[2, :, :, 0].tobytes(), (4, 5, 1), 3)),
        ("cat/1.png", Image(X[0].tobytes(), (4, 5, 3), "cat")),
        ("cat/deep/2.png", Image(X[1].tobytes(), (4, 5, 3), "cat")),
    ]
    assert (photo.id, photo.content.shape) == ("cat/photo.JPG", (4, 5, 3))


def test_pictures_of_other_kinds_become_grey_or_coloured(folder):
    colours = Pillow.fromarray(X[0])
    colours.convert("RGBA").save(folder / "cat" / "1.png")
    colours.convert("P", palette=Pillow.Palette.ADAPTIVE).save(folder / "cat" / "4.png")
    shapes = {e.id: e.content.shape for e in read_examples(folder)}
    assert shapes["cat/1.png"] == shapes["cat/4.png"] == (4, 5, 3)
    assert read_examples(folder)[1].content.pixels == X[0].tobytes()


def test_a_file_that_is_no_picture_is_named(folder):
    (folder / "3" / "a.png").write_bytes(b"no picture")
    (folder / "3" / "b.png").write_bytes(png(X[0])[:60])
    with pytest.raises(
        DataError, match=r"3/a.png: not a readable PNG, JPEG, WebP, BMP, GIF or TIFF picture .*\(and 1 more files\)"
    ):
        read_examples(folder)


def test_a_folder_without_pictures_is_no_image_folder(tmp_path):
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match="is a folder without rows; accepted: .jsonl/.json/"):
        read_examples(tmp_path)


@pytest.mark.parametrize("column", ["image", "img"])
def test_rows_with_the_bytes_of_a_picture(tmp_path, column):
    rows = [{column: {"bytes": png(X[n]), "path": None}, "label": int(Y[n]), "id": str(n)} for n in range(3)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    examples = read_examples(tmp_path / "a.parquet")
    assert [e.content for e in examples] == [Image(X[n].tobytes(), (4, 5, 3), int(Y[n])) for n in range(3)]
    assert [e.id for e in examples] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"image": "a.png", "label": 0}, "row 1: image is 'a.png'; accepted: a picture, or the bytes"),
        ({"image": b"nothing", "label": 0}, "row 1: not a readable PNG, JPEG, WebP, BMP, GIF or TIFF picture"),
        ({"image": png(X[0]), "label": -1}, "row 1: label is -1; accepted: the number of a class, or its name"),
        ({"image": png(X[0]), "label": 0.5}, "row 1: label is 0.5"),
    ],
)
def test_bad_rows_of_pictures_are_named(tmp_path, row, words):
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=words):
        read_examples(tmp_path / "a.parquet")


def test_a_split_of_pictures_is_read_as_a_folder_of_them(folder):
    """Classes by name, as the folder says, and not by their order, as ``datasets`` would number them."""
    whole = read_examples(folder)
    (folder / "train").mkdir()
    for name in ("3", "cat"):
        (folder / name).rename(folder / "train" / name)
    for examples in (read_examples(folder, split="train"), read_examples(f"{folder}:train")):
        assert examples == whole
        assert [e.content.label for e in examples] == [3, "cat", "cat"]
