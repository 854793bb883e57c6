"""A directory of shards: windows of a packing, each shard whole and checksummed or absent.

    signals.json                 what the signals are of: kind, teacher, tokenizer, packing; another's is refused
    windows-00000064.safetensors windows 64 to 127
    windows-00000064.json        its SHA-256, written after it

Each shard has a checksum file of its own, so that several processes can fill one directory without a lock.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from flashstill.errors import BadInput
from flashstill.files import make_directory, replacing, sha256, write_text

WINDOWS_PER_SHARD = 64
MANIFEST = "signals.json"


class Store:
    """The shards of one kind of signal on one packing. key: plain values that must all agree; what: it holds."""

    def __init__(
        self,
        directory: Path,
        key: Mapping[str, Any],
        windows: int,
        per_shard: int | None = None,
        what: str = "signals",
    ) -> None:
        self.directory, self.key, self.windows, self.what = directory, dict(key), windows, what
        self.per_shard = per_shard or WINDOWS_PER_SHARD
        self._open: dict[int, Any] = {}

    @property
    def starts(self) -> list[int]:
        """The first window of every shard."""
        return list(range(0, self.windows, self.per_shard))

    def range(self, start: int) -> range:
        """The windows of the shard that begins with `start`."""
        return range(start, min(start + self.per_shard, self.windows))

    def begin(self) -> None:
        """Write the manifest where there is none; BadInput where another's stands."""
        make_directory(self.directory)
        if not self.check():
            write_text(self.directory / MANIFEST, json.dumps(self.key, indent=1))

    def check(self) -> bool:
        """Whether there is a manifest; BadInput where it is another's or damaged."""
        path = self.directory / MANIFEST
        if not path.exists():
            return False
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(manifest, dict):
                raise ValueError("not an object")
        except (ValueError, OSError) as error:
            raise BadInput(
                f"{path} is not a manifest of {self.what}; delete {self.directory} and build again"
            ) from error
        differs = sorted(name for name in {**self.key, **manifest} if manifest.get(name) != self.key.get(name))
        if differs:
            raise BadInput(
                f"{self.what} in {self.directory} were made with another {' and '.join(differs)}; delete them or use a"
                " new place"
            )
        return True

    def has(self, name: str) -> bool:
        """Whether a file is there and is what was written."""
        path = self.directory / f"{name}.safetensors"
        try:
            digest = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["sha256"]
            return path.is_file() and bool(sha256(path) == digest)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def write(self, name: str, tensors: dict[str, Tensor]) -> None:
        """A file and then its checksum, each whole or absent."""
        path = self.directory / f"{name}.safetensors"
        with replacing(path) as temporary:
            save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, temporary)
        digest = {"sha256": sha256(path), "bytes": path.stat().st_size}
        write_text(path.with_suffix(".json"), json.dumps(digest))

    def shared(self, share: tuple[int, int]) -> list[int]:
        """The shards of one of n processes: every n-th of `starts`, from the i-th; share = (i, n)."""
        position, processes = share
        return self.starts[position::processes]

    def missing(self, share: tuple[int, int] = (0, 1)) -> list[int]:
        """Shards of a share that are absent or damaged, by their first window."""
        return [start for start in self.shared(share) if not self.has(shard(start))]

    def open(self, start: int) -> Any:
        """A shard, mapped into memory."""
        if start not in self._open:
            self._open[start] = self.file(shard(start))
        return self._open[start]

    def file(self, name: str) -> Any:
        """A file by name, mapped into memory."""
        path = self.directory / f"{name}.safetensors"
        try:
            return safe_open(path, framework="pt")
        except (SafetensorError, OSError) as error:
            raise BadInput(f"{path} is damaged; build the {self.what} again, the others are kept") from error

    @property
    def bytes(self) -> int:
        """Size of all files of the store."""
        return sum(file.stat().st_size for file in self.directory.glob("*.safetensors"))


def shard(start: int) -> str:
    """The name of the shard that begins with window `start`."""
    return f"windows-{start:08d}"


def shard_of(window: int) -> tuple[int, int]:
    """The first window of a window's shard, and its place in it."""
    place = window % WINDOWS_PER_SHARD
    return window - place, place
