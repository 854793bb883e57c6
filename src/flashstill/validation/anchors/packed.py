"""The measurements that come with the repository: anchors/*.csv.gz, unpacked while they are read."""

from __future__ import annotations

import gzip
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flashstill.bounded import check_regular
from flashstill.errors import BadInput
from flashstill.validation.anchors.tables import MOST_BYTES

SHIPPED = Path(__file__).resolve().parents[4] / "anchors"
"""in a checkout of the repository; an installed package comes without them"""
PACKED = ".csv.gz"
MOST_FILES = 10_000
OWN_FOLDER = "own"
"""this project's own measurements (own_gpu.py), which are unpacked as well"""


@contextmanager
def unpacked(directory: Path) -> Iterator[Path]:
    """A directory with all CSV files of `directory`: itself, or a temporary one if it has compressed files.

    What is no directory is given back as it is, for the reader to refuse.

    Raises BadInput for a file that is no gzip, or that unpacks to more than is read of an anchor file.
    """
    packed = [*sorted(directory.glob(f"*{PACKED}")), *sorted(directory.glob(f"{OWN_FOLDER}/*{PACKED}"))]
    if not packed:
        yield directory
        return
    if len(packed) > MOST_FILES:
        raise BadInput(
            f"{directory} holds {len(packed):,} compressed files, more than the {MOST_FILES:,} that are read"
        )
    with tempfile.TemporaryDirectory(prefix="flashstill-anchors-") as folder:
        (Path(folder) / OWN_FOLDER).mkdir()
        for path in (*sorted(directory.glob("*.csv")), *sorted(directory.glob(f"{OWN_FOLDER}/*.csv"))):
            (Path(folder) / path.relative_to(directory)).symlink_to(path.resolve())
        for path in packed:
            (Path(folder) / path.relative_to(directory)).with_suffix("").write_bytes(_content(path))
        yield Path(folder)


def _content(path: Path) -> bytes:
    check_regular(path, MOST_BYTES)
    try:
        with gzip.open(path) as stream:
            content = stream.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path} cannot be unpacked: {error}") from error
    if len(content) > MOST_BYTES:
        raise BadInput(f"{path} unpacks to more than {MOST_BYTES // 2**20} MiB, the most that is read of such a file")
    return content
