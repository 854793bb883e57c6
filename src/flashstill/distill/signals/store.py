"""A directory of shards, each with the data of consecutive windows of a packing, written atomically with a checksum.

    signals.json                 manifest: kind, teacher, tokenizer and packing; a store with another key is refused
    windows-00000064.safetensors windows 64 to 127
    windows-00000064.json        SHA-256 of that shard, written after it

Each shard has its own checksum file, so that several processes can fill one directory without a lock.
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
    """The shards of one kind of signal for one packing.

    key: JSON values that must all equal the manifest's; windows: their number; what: a word for the contents, used in
    error messages.
    """

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
        """The windows of the shard whose first window is `start`."""
        return range(start, min(start + self.per_shard, self.windows))

    def begin(self) -> None:
        """Create the directory and manifest if missing; BadInput if there is a manifest with another key."""
        make_directory(self.directory)
        if not self.check():
            write_text(self.directory / MANIFEST, json.dumps(self.key, indent=1))

    def check(self) -> bool:
        """Whether a manifest exists; BadInput if it is damaged or has another key."""
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
        """Whether a file exists and matches its checksum."""
        path = self.directory / f"{name}.safetensors"
        try:
            digest = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["sha256"]
            return path.is_file() and bool(sha256(path) == digest)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def write(self, name: str, tensors: dict[str, Tensor]) -> None:
        """Write a safetensors file and then its checksum file, each atomically."""
        path = self.directory / f"{name}.safetensors"
        with replacing(path) as temporary:
            save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, temporary)
        digest = {"sha256": sha256(path), "bytes": path.stat().st_size}
        write_text(path.with_suffix(".json"), json.dumps(digest))

    def shared(self, share: tuple[int, int]) -> list[int]:
        """The first windows of the shards that process i of n builds: every n-th, from the i-th; share = (i, n)."""
        position, processes = share
        return self.starts[position::processes]

    def missing(self, share: tuple[int, int] = (0, 1)) -> list[int]:
        """The first windows of a share's shards that are absent or damaged."""
        return [start for start in self.shared(share) if not self.has(shard(start))]

    def open(self, start: int) -> Any:
        """Open the shard with first window `start`, memory-mapped; it is kept open."""
        if start not in self._open:
            self._open[start] = self.file(shard(start))
        return self._open[start]

    def file(self, name: str) -> Any:
        """Open a safetensors file of the store by name, memory-mapped; BadInput if it is damaged."""
        path = self.directory / f"{name}.safetensors"
        try:
            return safe_open(path, framework="pt")
        except (SafetensorError, OSError) as error:
            raise BadInput(f"{path} is damaged; build the {self.what} again, the others are kept") from error

    @property
    def bytes(self) -> int:
        """Total size of the safetensors files in bytes."""
        return sum(file.stat().st_size for file in self.directory.glob("*.safetensors"))


def shard(start: int) -> str:
    """The file name, without suffix, of the shard whose first window is `start`."""
    return f"windows-{start:08d}"


def shard_of(window: int) -> tuple[int, int]:
    """The first window of the shard that holds `window`, and the row of `window` in it (default shard size)."""
    place = window % WINDOWS_PER_SHARD
    return window - place, place
