"""The servers of a configuration as containers: their command, ports, chips and files, whatever starts them.

    role       ""        prefill, decode
    name       server    prefill, decode
    count      equal servers: instances of the prefill pool, replicas of a dense model that are started one by one
    nodes      hosts of one server

The model is a Hugging Face id, downloaded into a cache, or a directory of the host, mounted read-only as /model.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flashstill.errors import BadInput
from flashstill.facts import Facts
from flashstill.plan.engines import container_of, router_of, version_of
from flashstill.plan.launch import heading, started
from flashstill.plan.space import Configuration

WRITTEN_FOR = ("vllm", "sglang")
PORTS = {"vllm": 8000, "sglang": 30000}
BOOTSTRAP_PORT, SIDE_CHANNEL_PORT, ROUTER_PORT = 8998, 5600, 8080
"""SGLang's prefill servers; vLLM's transfer of caches (NIXL); the router"""
DRAIN_S, GRACE_S = 120, 150
"""seconds in which a server that is to stop ends its requests, and after which it is killed"""
MODEL = "/model"
NODE_0 = "NODE_0_ADDRESS"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pool:
    """Equal servers. chips: of one host; address, followers: as in `launch.Started`."""

    role: str
    words: tuple[str, ...]
    count: int
    nodes: int
    chips: int
    address: tuple[str, ...]
    followers: tuple[str, ...]

    @property
    def name(self) -> str:
        """The role, or "server"."""
        return self.role or "server"


@dataclass(frozen=True, kw_only=True, slots=True)
class Containers:
    """All that a manifest needs. directory: of the host, mounted as the model; None for a Hugging Face id."""

    engine: str
    name: str
    image: str
    resource: str
    compose: str
    pools: tuple[Pool, ...]
    directory: str | None
    comments: tuple[str, ...]

    @property
    def port(self) -> int:
        """The port that the engine's servers listen on."""
        return PORTS[self.engine]


def containers_of(
    facts: Facts, engine: str, model: str, point: Configuration, tokens: int, has_experts: bool, image: str | None
) -> Containers:
    """The containers of a configuration. BadInput where no container of these chips or of this engine is known."""
    if engine not in WRITTEN_FOR:
        raise BadInput(f"manifests are written for {' and '.join(WRITTEN_FOR)}; --emit {engine} prints its commands")
    maker = facts.machine(point.chip).maker
    chips = container_of(maker)
    if chips is None:
        raise BadInput(
            f"no row of engines.toml says how a container gets {point.chip} of {maker}; --emit {engine} prints the"
            " commands"
        )
    known = chips.get("by_chip", {}).get(engine, {}).get(point.chip) or chips["images"].get(engine)
    if image is None and known is None:
        raise BadInput(f"no image of {engine} for {point.chip} is known; name one with --image")
    directory = str(Path(model).resolve()) if Path(model).is_dir() else None
    source = MODEL if directory else model
    pools = []
    for role, part, server in started(engine, source, point, tokens, has_experts):
        count = point.prefill_instances if role == "prefill" else server.copies
        pools.append(
            Pool(
                role=role,
                words=_served(engine, role, [str(word) for word in server.words]),
                count=count,
                nodes=server.nodes,
                chips=part.chips // server.copies // server.nodes,
                address=tuple(str(word) for word in server.address),
                followers=tuple(str(word) for word in server.followers),
            )
        )
    comments = heading(engine, model, point)
    if point.prefill_instances:
        comments.append(
            "# caches travel over the network of the containers: give them its RDMA devices, or first tokens come later"
            " than expected"
        )
    comments += ["# the image's tag follows the engine's version; see that it exists"] if image is None else []
    return Containers(
        engine=engine, name=plain_name(model), image=image or str(known).format(version=version_of(engine)),
        resource=chips["resource"], compose=chips["compose"], pools=tuple(pools), directory=directory,
        comments=tuple(comments),
    )  # fmt: skip


def _served(engine: str, role: str, words: list[str]) -> tuple[str, ...]:
    """The command inside a container: the image's Python, all addresses, a port, and time to end requests, which vLLM
    aborts at once otherwise; SGLang waits for them."""
    own = ["python3" if word == "python" and not number else word for number, word in enumerate(words)]
    own += ["--host", "0.0.0.0", "--port", str(PORTS[engine])]
    own += ["--shutdown-timeout", str(DRAIN_S)] if engine == "vllm" else []
    if engine == "sglang" and role == "prefill":
        own += ["--disaggregation-bootstrap-port", str(BOOTSTRAP_PORT)]
    return tuple(own)


def router_words(found: Containers, url_of: Callable[[Pool, int], str]) -> tuple[str, ...]:
    """The router's command. url_of: address of the n-th server of a pool."""
    router = router_of(found.engine)
    words = list(router["words"])
    for pool in found.pools:
        for number in range(pool.count):
            words += [f"--{pool.role}", url_of(pool, number)]
            words += [str(BOOTSTRAP_PORT)] if found.engine == "sglang" and pool.role == "prefill" else []
    words += ["--host", "0.0.0.0", "--port", str(ROUTER_PORT)]
    if not router["package"]:
        return tuple(words)
    return ("sh", "-c", f'pip install --quiet {router["package"]} && exec "$0" "$@"', *words)


def router_image(found: Containers) -> str:
    """The image that the router runs in."""
    return str(router_of(found.engine)["image"] or found.image)


def plain_name(model: str) -> str:
    """A name that Compose and Kubernetes take (a DNS label of RFC 1035), from that of any model."""
    last = model.rstrip("/").rpartition("/")[2].lower()
    plain = re.sub(r"[^a-z0-9]+", "-", last).strip("-")
    return (plain if plain[:1].isalpha() else f"model-{plain}")[:40].strip("-")
