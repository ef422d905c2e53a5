"""What a model is for, as its config says: a model of one of the families, or something else.

Classifiers of pictures are those that transformers lists for image classification, whatever their heads are called
(``DeiTForImageClassificationWithTeacher``); which class is loaded is decided by its own mapping.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palimpsest.errors import ModelError

_IMAGES = re.compile(r"(?<!ZeroShot)ForImageClassification")
_FOR = re.compile(r"For([A-Z][A-Za-z0-9]*)$")
_OTHERS = {
    "AudioClassification": "a classifier of sounds",
    "AudioFrameClassification": "a classifier of sounds",
    "AudioXVector": "an encoder of voices",
    "CTC": "a recogniser of speech",
    "DepthEstimation": "an estimator of depth",
    "ImageSegmentation": "a segmenter of pictures",
    "ImageToImage": "a model from picture to picture",
    "InstanceSegmentation": "a segmenter of pictures",
    "KeypointDetection": "a detector of key points",
    "MaskedImageModeling": "a picture model without classes",
    "MultipleChoice": "a chooser among answers",
    "NextSentencePrediction": "a classifier of pairs of sentences",
    "ObjectDetection": "a detector of objects",
    "QuestionAnswering": "a finder of answers in a text",
    "SemanticSegmentation": "a segmenter of pictures",
    "SpeechSeq2Seq": "a recogniser of speech",
    "TokenClassification": "a tagger of texts",
    "UniversalSegmentation": "a segmenter of pictures",
    "VideoClassification": "a classifier of videos",
    "ZeroShotImageClassification": "a matcher of pictures and texts",
    "ZeroShotObjectDetection": "a detector of objects",
}
_CAUSAL = ("ForCausalLM", "LMHeadModel")
_TAKEN = (
    "accepted: causal language models (...ForCausalLM), sequence-to-sequence models (...ForConditionalGeneration), "
    "classifiers of texts (...ForSequenceClassification) and image classifiers (...ForImageClassification)"
)


def architectures_in(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the classes that a config says its weights are of."""
    given = config.get("architectures")
    return tuple(map(str, given)) if isinstance(given, list | tuple) else ()


def classifies_images(config: Mapping[str, Any]) -> bool:
    """Are a config's weights those of an image classifier of transformers?

    >>> classifies_images({"architectures": ["DeiTForImageClassificationWithTeacher"]})
    True
    """
    return any(_IMAGES.search(name) for name in architectures_in(config))


def check_purpose(config: Mapping[str, Any], source: str | Path) -> None:
    """Refuse weights that are for something else, by their name.

    Raises:
        ModelError: says what they are for.
    """
    if classifies_images(config):
        return
    for name in architectures_in(config):
        found = _FOR.search(name)
        if found and found[1] in _OTHERS:
            raise ModelError(
                f"model {source}: {name} is {_OTHERS[found[1]]}; {_TAKEN}; give one of these, such as the one that it "
                "was made from"
            )


def check_head(config: Mapping[str, Any], source: str | Path) -> None:
    """Refuse an image model without the head of a classifier, before it is tried as a causal LM.

    Imports transformers, unless the config names a class of causal LMs.

    Raises:
        ModelError: says so.
    """
    if any(name.endswith(_CAUSAL) for name in architectures_in(config)):
        return
    from transformers.models.auto import modeling_auto as auto

    kind = config.get("model_type")
    if not isinstance(kind, str) or kind in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return
    if kind in auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES:
        name = next(iter(architectures_in(config)), "without architectures")
        raise ModelError(
            f"model {source}: an image model ({kind}, {name}) that is no classifier of images; {_TAKEN}; give one "
            "whose config.json names such a class under architectures"
        )


def check_reads_texts(config: Mapping[str, Any], source: str | Path) -> None:
    """Refuse a classifier of sequences that are no texts, as of sounds. Imports transformers.

    Raises:
        ModelError: says so.
    """
    from transformers.models.auto import modeling_auto as auto

    kind = config.get("model_type")
    if kind in auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        return
    name = next(iter(architectures_in(config)), "without architectures")
    sounds = kind in auto.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES
    what = "a classifier of sounds" if sounds else "no classifier of texts that transformers knows"
    raise ModelError(f"model {source}: {name} is {what}; {_TAKEN}")
