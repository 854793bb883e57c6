"""Measures the speed of models and of this machine -> MeasuredRecords and calibration rows."""

from flashstill.measure.machine import measure_machine
from flashstill.measure.sweep import measure_models

__all__ = ["measure_machine", "measure_models"]
