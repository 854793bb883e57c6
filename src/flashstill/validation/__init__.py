"""Predictions against measurements: anchor files in, error tables out; the fits of the calibration rows use the same code."""
