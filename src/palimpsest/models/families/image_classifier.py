"""Image classifiers: of transformers, of timm, and small ResNets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from palimpsest.models.at_hand import CUSTOM
from palimpsest.models.black_box_file import BLACK_BOX
from palimpsest.models.families.family import Family, all_but_last
from palimpsest.models.families.yardsticks import BY_CLASSES
from palimpsest.models.images import check_timm, is_image_config
from palimpsest.records import Example, Image

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from palimpsest.data.encode.augment import Augmentation
    from palimpsest.method_card import MethodCard
    from palimpsest.models.loaded import How, Loaded

_PROBES = 3


class ImageClassifier(Family):
    """Images to classes."""

    name = "image_classifier"
    takes = "image"
    noun = "an image classifier"
    wants = "images with their classes (.npz, image folder, dataset)"
    metrics = ("accuracy", "prob")
    alone = ("accuracy", "prob")
    level = "classes"
    judging = BY_CLASSES
    method = "salun"
    alternatives: ClassVar[tuple[str, ...]] = ("salun", "ug_clu", "scrub")
    adapts_head = True
    step_rows = 64  # batch normalisation needs many, and an image costs little
    things = "image"

    def options_of(self, method: MethodCard) -> Mapping[str, Any]:
        """What is known by heart has hardly a gradient."""
        return method.options_for_images

    def recognises(self, config: Mapping[str, Any]) -> bool:
        """As ``models/images.py`` tells; modules of the caller's are a family of their own."""
        return config.get("model_type") not in (CUSTOM, BLACK_BOX) and is_image_config(config)

    def has_made(self, model: Any) -> bool:
        """It takes pixels, and is held here."""
        asked = getattr(getattr(model, "config", None), "model_type", None) == BLACK_BOX
        return getattr(model, "main_input_name", None) == "pixel_values" and not asked

    def check_config(self, config: Mapping[str, Any], source: str | Path) -> None:
        """Refuse a timm folder where timm is not installed."""
        check_timm(config, source)

    def load(self, place: str | Path, config: Mapping[str, Any], how: How) -> Loaded:
        """A classifier, and how its images are read."""
        import torch

        from palimpsest.models.images import read_preprocessor
        from palimpsest.models.pretrained import whole_model

        preprocessor = read_preprocessor(how.beside, how.revision, config)
        model = whole_model(place, how.revision, torch.float32, "AutoModelForImageClassification", self.noun)
        return self.loaded(model, how.source, preprocessor)

    def loaded(self, model: Any, source: str, preprocessor: Any = None) -> Loaded:
        """A model in memory with the format of its images."""
        from palimpsest.models.images import pixel_format
        from palimpsest.models.loaded import Loaded

        pixels = pixel_format(preprocessor, model.config.to_dict(), source)
        return Loaded(model.eval(), None, source, pixels, preprocessor, family=self)

    def fits(self, example: Example) -> bool:
        """Images alone."""
        return isinstance(example.content, Image)

    def encode(
        self, examples: Sequence[Example], loaded: Loaded, *, max_length: int | None, truncate: bool, separator: str
    ) -> Any:
        """Images in the model's format, not augmented."""
        from palimpsest.data.encode.image import encode_images

        if loaded.pixels is None:
            raise TypeError("an image classifier without the format of its images")
        return encode_images(examples, loaded.pixels, num_classes=loaded.num_outputs, class_names=loaded.class_names)

    def together(self, sets: Mapping[str, Any], loaded: Loaded, augment: Augmentation | None) -> dict[str, Any]:
        """Those that are trained on are augmented, and not all enter the statistics of a batch."""
        from palimpsest.data.sets.roles import role_of

        return {
            name: replace(
                images,
                augment=augment if role_of(name).trained_on else None,
                moves_statistics=role_of(name).enters_statistics,
            )
            for name, images in sets.items()
        }

    def head(self, model: Any) -> nn.Module | None:
        """The last linear layer with as many outputs as classes."""
        from palimpsest.models.families.heads import last_layer

        return last_layer(model, self.num_outputs(model))

    def bottlenecks(self, model: Any) -> tuple[str, ...]:
        """Blocks of a transformer, all but the last; none of a network of feature maps."""
        return all_but_last(super().bottlenecks(model))

    def probe(self, loaded: Loaded) -> dict[str, Tensor]:
        """Three images of noise."""
        import torch

        if loaded.pixels is None:
            raise TypeError("an image classifier without the format of its images")
        shape = (_PROBES, len(loaded.pixels.mean), loaded.pixels.height, loaded.pixels.width)
        return {"pixel_values": torch.randn(shape, generator=torch.Generator().manual_seed(0))}


FAMILIES = (ImageClassifier(),)
