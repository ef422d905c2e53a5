"""What a user does: learn, unlearn, both at once, calibrate, measure, judge, clean; the command line calls these."""

from palimpsest.verbs.calibrate import calibrate
from palimpsest.verbs.clean import clean
from palimpsest.verbs.judge import judge
from palimpsest.verbs.learn import learn
from palimpsest.verbs.measure import measure
from palimpsest.verbs.unlearn import unlearn
from palimpsest.verbs.update import update
from palimpsest.verbs.verify import verify

__all__ = ["calibrate", "clean", "judge", "learn", "measure", "unlearn", "update", "verify"]
