"""Fits of coefficients to the anchors, and the fact rows that they become."""
