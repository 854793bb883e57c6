"""Signals: a teacher's outputs on disk (exact, sampled or top-k), built in checksummed shards and read by window."""

from flashstill.distill.signals.kinds import KINDS, Hidden, Kind, Sampled, TopK, kind
from flashstill.distill.signals.making import build, hidden_states, signal_key
from flashstill.distill.signals.reading import Signals

__all__ = ["KINDS", "Hidden", "Kind", "Sampled", "Signals", "TopK", "build", "hidden_states", "kind", "signal_key"]
