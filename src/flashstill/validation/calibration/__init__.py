"""Fits of coefficients to the anchors, and their conversion to fact rows."""
