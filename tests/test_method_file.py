"""A card read from a file says what the class would; what cannot be read is asked of the class."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from palimpsest import methods, rules
from palimpsest.errors import PlanError
from palimpsest.method_file import read_card, read_names_of_rule_options

PLAIN = '''"""Plain: says all in literals.

Source: none.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from palimpsest.contract import Config, Method
from palimpsest.methods.icu import ICUConfig as Inherited
from palimpsest.rules.schedule import Annealing as Falls

SETS = ("retain", "forget")
Side = Literal["left", "right"]


class PlainConfig(Inherited):
    """Options."""

    side: Side = "left"
    """Which."""
    falls: Falls = "linear"
    """How."""
    pair: tuple[float, ...] | None = None
    weights: dict[str, float] = Field(default={}, description="Given here.")
    must: int = Field(ge=1)
    RETIRED = {"old": "leave it out"}


class First(Method):
    """A base in the same file."""

    needs = SETS
    kinds = ("update",)


class Plain(First):
    """Says little more."""

    Config = PlainConfig
    use_when = "it is plain. " "Not otherwise."
    defaults = {"learning_rate": -1e-5}


METHOD = Plain
'''

UNREADABLE = {
    "a value that is computed": ('    kinds = ("update",)\n', '    kinds = tuple(["update"])\n'),
    "a validator": (
        "    must: int = Field(ge=1)\n",
        "    must: int = Field(ge=1)\n\n    @field_validator('must')\n    @classmethod\n"
        "    def _even(cls, value):\n        return value * 2\n\n",
    ),
    "a factory": ("default={}, description", "default_factory=dict, description"),
    "a decorated class": ("class Plain(First):", "@dataclass\nclass Plain(First):"),
    "two bases": ("class Plain(First):", "class Plain(First, Generic[T]):"),
    "a branch in a class": ("    needs = SETS\n", "    if SETS:\n        needs = SETS\n"),
    "a name that is set twice": ("class First(", 'SETS = ("learn",)\n\n\nclass First('),
    "a class that is changed later": ("METHOD = Plain\n", 'Plain.kinds = ("learn",)\nMETHOD = Plain\n'),
    "a name of elsewhere": ("    needs = SETS\n", "    needs = tuple(sys.argv[:0])\n"),
    "a method that is a property": ("    needs = SETS\n", "    needs = property(lambda self: SETS)\n"),
}
IMPORTS = """from pydantic import Field, field_validator

import sys
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of methods, named by the environment; forgotten afterwards."""
    monkeypatch.setenv("PALIMPSEST_METHODS", str(tmp_path))
    yield tmp_path
    sys.modules.pop("palimpsest.methods.plain", None)


def write(folder: Path, content: str) -> Path:
    (folder / "plain.py").write_text(content)
    return folder / "plain.py"


def test_a_method_of_ones_own_has_the_card_of_its_class(own):
    path = write(own, PLAIN)
    card, kind = methods.card("plain"), methods.load("plain")
    assert read_card("plain", path) is not None
    assert card.about == sys.modules[kind.__module__].__doc__.strip()
    assert (card.needs, card.kinds, card.defaults) == (kind.needs, kind.kinds, kind.defaults)
    assert (card.use_when, card.uses, card.starts_from) == (kind.use_when, kind.uses, kind.starts_from)
    assert card.schema.model_json_schema() == kind.Config.model_json_schema()
    assert card.schema.RETIRED == kind.Config.RETIRED == {"old": "leave it out"}


@pytest.mark.parametrize(
    "options",
    [
        {"must": 0},
        {"must": 1, "side": "up"},
        {"must": 1, "falls": "up"},
        {"must": 1, "old": 1},
        {"must": 1, "alpha": -1},
        {"must": 1, "pair": ["x"]},
        {"must": 1, "weights": {"a": "x"}},
        {"must": 1, "betta": 1},
        {},
    ],
)
def test_options_are_refused_in_the_same_words(own, options):
    write(own, PLAIN)
    with pytest.raises(PlanError) as without_torch:
        methods.card("plain").configured(options)
    with pytest.raises(PlanError) as by_the_class:
        methods.configure("plain", options)
    assert str(without_torch.value) == str(by_the_class.value)


def test_options_that_fit_are_the_same(own):
    write(own, PLAIN)
    given = {"must": 2, "pair": [1, 2], "falls": "cosine"}
    assert methods.card("plain").configured(given).model_dump() == methods.configure("plain", given).model_dump()


@pytest.mark.parametrize("what", UNREADABLE)
def test_what_has_to_be_run_is_asked_of_the_class(own, what):
    old, new = UNREADABLE[what]
    assert old in PLAIN
    path = write(
        own, PLAIN.replace("from pydantic import Field\n", f"from pydantic import Field\n\n{IMPORTS}").replace(old, new)
    )
    assert read_card("plain", path) is None
    kind = methods.load("plain")
    assert methods.card("plain").kinds == kind.kinds
    assert methods.card("plain").schema is kind.Config


def test_the_imports_of_that_test_are_readable(own):
    """So what makes a file unreadable there is the change alone."""
    path = write(own, PLAIN.replace("from pydantic import Field\n", IMPORTS))
    assert read_card("plain", path) is not None


def test_a_file_that_changes_is_read_anew(own):
    import os

    path = write(own, PLAIN)
    assert methods.card("plain").kinds == ("update",)
    path.write_text(PLAIN.replace('kinds = ("update",)', 'kinds = ("learn",)'))
    os.utime(path, ns=(1, 1))
    assert methods.card("plain").kinds == ("learn",)


def test_a_file_that_is_no_python_is_one_line(own):
    write(own, "class :\n")
    with pytest.raises(PlanError, match=r"plain\.py cannot be imported"):
        methods.card("plain")


@pytest.mark.parametrize("name", rules.names())
def test_the_names_of_a_rules_options_are_those_of_its_class(name):
    assert read_names_of_rule_options(Path(rules.__path__[0]) / f"{name}.py") == tuple(
        rules.load(name).Config.model_fields
    )
