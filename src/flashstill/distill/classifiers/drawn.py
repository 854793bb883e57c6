"""Digits drawn by a pen that trembles: images of the kind of MNIST, made here, that no recipe was chosen on.

Each digit has one or two ways to be written, as a line through points.  A picture moves each point at random, turns,
stretches, slants and shifts the whole, and draws a smooth line through the points with a pen of some width.  Images
are 28 x 28 bytes, white on black; everything follows from the seed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Points = list[tuple[float, float]]
Line = npt.NDArray[np.float64]
Pictures = npt.NDArray[np.uint8]
Labelled = tuple[Pictures, Pictures]
SIDE = 28
TRAIN, TEST, SEED = 10_000, 10_000, 0
"""of the data set `drawn-digits`; few enough to train on that what a teacher knows beyond labels shows"""
WAYS: dict[int, list[Points]] = {
    0: [[(0.5, 0.1), (0.25, 0.3), (0.25, 0.7), (0.5, 0.9), (0.75, 0.7), (0.75, 0.3), (0.5, 0.1)]],
    1: [[(0.5, 0.1), (0.5, 0.5), (0.5, 0.9)], [(0.35, 0.28), (0.52, 0.1), (0.52, 0.5), (0.52, 0.9)]],
    2: [[(0.28, 0.3), (0.5, 0.1), (0.72, 0.3), (0.5, 0.6), (0.27, 0.88), (0.5, 0.88), (0.75, 0.88)],
        [(0.28, 0.28), (0.5, 0.1), (0.7, 0.3), (0.35, 0.8), (0.28, 0.75), (0.45, 0.8), (0.75, 0.9)]],
    3: [[(0.28, 0.18), (0.55, 0.1), (0.7, 0.28), (0.48, 0.47), (0.72, 0.68), (0.52, 0.9), (0.27, 0.8)],
        [(0.28, 0.12), (0.7, 0.12), (0.47, 0.42), (0.72, 0.65), (0.5, 0.9), (0.28, 0.82)]],
    4: [[(0.4, 0.1), (0.28, 0.55), (0.5, 0.57), (0.75, 0.55), (0.65, 0.5), (0.64, 0.2), (0.62, 0.9)],
        [(0.62, 0.9), (0.62, 0.1), (0.25, 0.62), (0.5, 0.62), (0.78, 0.62)]],
    5: [[(0.7, 0.12), (0.35, 0.12), (0.32, 0.45), (0.55, 0.42), (0.72, 0.65), (0.5, 0.9), (0.27, 0.8)]],
    6: [[(0.65, 0.12), (0.4, 0.35), (0.28, 0.68), (0.48, 0.9), (0.7, 0.7), (0.5, 0.53), (0.3, 0.68)]],
    7: [[(0.27, 0.13), (0.5, 0.13), (0.74, 0.13), (0.55, 0.5), (0.43, 0.9)],
        [(0.27, 0.2), (0.3, 0.12), (0.72, 0.14), (0.5, 0.5), (0.68, 0.48), (0.5, 0.5), (0.4, 0.9)]],
    8: [[(0.5, 0.5), (0.3, 0.3), (0.5, 0.1), (0.7, 0.3), (0.5, 0.5), (0.28, 0.7), (0.5, 0.9), (0.72, 0.7), (0.5, 0.5)]],
    9: [[(0.7, 0.32), (0.5, 0.48), (0.3, 0.3), (0.5, 0.1), (0.7, 0.28), (0.66, 0.6), (0.58, 0.9)],
        [(0.7, 0.3), (0.48, 0.47), (0.3, 0.28), (0.5, 0.1), (0.7, 0.3), (0.68, 0.7), (0.4, 0.9)]],
}  # fmt: skip
"""(across, down) of the points of each way to write a digit, in a square of edge 1"""


def drawn(digit: int, pen: np.random.Generator) -> Pictures:
    """One picture [28, 28] of a digit."""
    ways = WAYS[digit]
    points = np.array(ways[pen.integers(len(ways))]) - 0.5
    points += pen.normal(0.0, 0.05, points.shape)
    angle, slant = np.deg2rad(pen.normal(0.0, 8.0)), pen.normal(0.0, 0.2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    stretch = np.array([[pen.normal(0.85, 0.1), slant], [0.0, pen.normal(0.95, 0.07)]])
    line = smooth(points @ (turn @ stretch).T + 0.5 + pen.normal(0.0, 0.05, 2)) * SIDE
    pixels = np.arange(SIDE) + 0.5
    distance = np.sqrt(
        ((pixels[None, :, None] - line[:, 0]) ** 2 + (pixels[:, None, None] - line[:, 1]) ** 2).min(axis=-1)
    )
    width, soft = pen.uniform(0.7, 1.7), pen.uniform(0.25, 0.6)
    ink = pen.uniform(0.75, 1.0) / (1.0 + np.exp((distance - width) / soft))
    picture: Pictures = np.clip(255.0 * (ink + pen.normal(0.0, 0.02, ink.shape)), 0.0, 255.0).astype(np.uint8)
    return picture


def smooth(points: Line, steps: int = 10) -> Line:
    """A line through the points without corners (Catmull and Rom 1974), `steps` places from one to the next."""
    ends = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    a, b, c, d = (ends[k : len(ends) - 3 + k, None] for k in range(4))
    t = np.linspace(0.0, 1.0, steps)[None, :, None]
    line: Line = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return line.reshape(-1, 2)


def drawn_digits(train: int = TRAIN, test: int = TEST, seed: int = SEED) -> tuple[Labelled, Labelled]:
    """Images [N, 28, 28] and labels [N] to train on, and to test on, in bytes."""
    pen = np.random.default_rng(seed)
    return _set(train, pen), _set(test, pen)


def _set(count: int, pen: np.random.Generator) -> Labelled:
    labels = pen.integers(10, size=count).astype(np.uint8)
    return np.stack([drawn(int(label), pen) for label in labels]), labels
