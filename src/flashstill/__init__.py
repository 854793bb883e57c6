"""flashstill: distil a frontier model into a flash model, and know what every token costs."""

__version__ = "0.1.0"
