"""Every hint names an option that there is, and none that is an option itself."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from palimpsest.audit.refine import Refinement
from palimpsest.engine import plan
from palimpsest.loop.aliases import OPTIONS, OTHER_SECTIONS

FIELDS = {name: getattr(plan.Plan.model_fields.get(name), "default", None) for name in plan.SECTIONS}
SCHEMAS = {name: set(type(value).model_fields) for name, value in FIELDS.items() if isinstance(value, BaseModel)}
SCHEMAS["refine"] = set(Refinement.model_fields)


@pytest.mark.parametrize("target", sorted(set(OPTIONS.values())))
def test_every_option_exists(target):
    section, _, option = target.partition(".")
    assert option in SCHEMAS[section]


def test_no_alias_is_the_name_of_an_option_in_its_own_section():
    assert not [name for name, target in OPTIONS.items() if name in SCHEMAS[target.partition(".")[0]]]


def test_every_section_exists():
    assert set(OTHER_SECTIONS.values()) <= set(plan.SECTIONS)
    assert not set(OTHER_SECTIONS) & set(plan.SECTIONS)
