"""Predictions against measurements: anchor files in, error tables out. The calibration uses the same code."""
