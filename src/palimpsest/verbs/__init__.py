"""What a user does: learn, unlearn, both, calibrate, harden, measure, judge, clean, export; the CLI calls these."""

from palimpsest.verbs.calibrate import calibrate
from palimpsest.verbs.clean import clean
from palimpsest.verbs.export import export
from palimpsest.verbs.harden import harden
from palimpsest.verbs.judge import judge
from palimpsest.verbs.learn import learn
from palimpsest.verbs.listed_parts import parts
from palimpsest.verbs.measure import measure
from palimpsest.verbs.unlearn import unlearn
from palimpsest.verbs.update import update
from palimpsest.verbs.verify import verify

__all__ = [
    "calibrate",
    "clean",
    "export",
    "harden",
    "judge",
    "learn",
    "measure",
    "parts",
    "unlearn",
    "update",
    "verify",
]
