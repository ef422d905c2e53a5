"""The version of this code, which every run's digest holds: a run of another version is not taken for this one's."""

VERSION = "0.1.0"
