"""What a user does: learn, unlearn, both, measure, judge, clean, export. The command line calls the same functions."""

from palimpsest.verbs.clean import clean
from palimpsest.verbs.export import export
from palimpsest.verbs.judge import judge
from palimpsest.verbs.learn import learn
from palimpsest.verbs.listed_parts import parts
from palimpsest.verbs.measure import measure
from palimpsest.verbs.unlearn import unlearn
from palimpsest.verbs.update import update
from palimpsest.verbs.verify import verify

__all__ = ["clean", "export", "judge", "learn", "measure", "parts", "unlearn", "update", "verify"]
