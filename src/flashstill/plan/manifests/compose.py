"""Docker Compose: the servers of one host, and the router of its pools (the Compose specification, compose-spec.io)."""

from __future__ import annotations

from typing import Any

from flashstill.errors import BadInput
from flashstill.plan.engines import chips_of_a_node
from flashstill.plan.launch_layouts import POOL_SETTINGS, SIDE_CHANNEL_HOST
from flashstill.plan.manifests.pools import (
    GRACE_S,
    MODEL,
    ROUTER_PORT,
    SIDE_CHANNEL_PORT,
    Containers,
    Pool,
    router_image,
    router_words,
)
from flashstill.plan.manifests.yaml_text import yaml_text
from flashstill.plan.space import Configuration

CACHE = "/root/.cache/huggingface"
START, SHARED_MEMORY = "60m", "32gb"
"""time in which a model may load; memory shared by the processes of a server"""


def compose(found: Containers, point: Configuration) -> str:
    """The file. BadInput if the configuration needs more than one host, or Docker knows no such chips."""
    host = chips_of_a_node(point.chip)
    needed = sum(pool.chips * pool.nodes * pool.count for pool in found.pools)
    if needed > host:
        raise BadInput(
            f"Compose starts containers on one host, and {needed} {point.chip} are more than the {host} of one; take"
            f" kubernetes:{found.engine}, or --max-chips {host}"
        )
    if not found.compose:
        raise BadInput(f"no row of engines.toml says how Docker gives a container {point.chip}; take kubernetes:")
    services: dict[str, Any] = {}
    first = 0
    for pool in found.pools:
        for number in range(pool.count):
            services[_service(pool, number)] = _server(found, pool, _service(pool, number), first)
            first += pool.chips
    has_router = any(pool.role for pool in found.pools)
    if has_router:
        services["router"] = {
            "image": router_image(found),
            "entrypoint": _escaped(router_words(found, lambda pool, n: f"http://{_service(pool, n)}:{found.port}")),
            "ports": [f"{ROUTER_PORT}:{ROUTER_PORT}"],
            "depends_on": {name: {"condition": "service_healthy"} for name in services},
            "stop_grace_period": f"{GRACE_S}s",
            "restart": "unless-stopped",
        }
    else:
        services["server"]["ports"] = [f"{found.port}:{found.port}"]
    document: dict[str, Any] = {"name": found.name, "services": services}
    if found.directory is None:
        document["volumes"] = {"models": {}}
    return "\n".join([*found.comments, "# start it with: docker compose up", yaml_text(document)])


def _service(pool: Pool, number: int) -> str:
    return f"{pool.name}-{number}" if pool.role or pool.count > 1 else pool.name


def _server(found: Containers, pool: Pool, name: str, first: int) -> dict[str, Any]:
    chips = [str(number) for number in range(first, first + pool.chips)]
    environment = {"HF_TOKEN": "${HF_TOKEN:-}"} if found.directory is None else {"HF_HUB_OFFLINE": "1"}
    if found.engine == "vllm" and pool.role:
        environment |= {SIDE_CHANNEL_HOST: name, "VLLM_NIXL_SIDE_CHANNEL_PORT": str(SIDE_CHANNEL_PORT)}
        environment |= POOL_SETTINGS[found.engine]
    ask = f"import urllib.request as u; u.urlopen('http://127.0.0.1:{found.port}/health', timeout=10)"
    server = {
        "image": found.image,
        "entrypoint": _escaped(pool.words),
        "environment": environment,
        "shm_size": SHARED_MEMORY,
        "volumes": [_volume(found)],
        "healthcheck": {
            "test": ["CMD", "python3", "-c", ask], "interval": "10s", "timeout": "15s", "retries": 6,
            "start_period": START,
        },
        "stop_grace_period": f"{GRACE_S}s",
        "restart": "unless-stopped",
    }  # fmt: skip
    return _with_chips(server, found.compose, chips)


def _with_chips(server: dict[str, Any], kind: str, chips: list[str]) -> dict[str, Any]:
    if kind == "nvidia":
        devices = [{"driver": "nvidia", "device_ids": chips, "capabilities": ["gpu"]}]
        return {**server, "deploy": {"resources": {"reservations": {"devices": devices}}}}
    own = {"rocm": "ROCR_VISIBLE_DEVICES", "habana": "HABANA_VISIBLE_DEVICES"}[kind]
    server = {**server, "environment": {**server["environment"], own: ",".join(chips)}}
    if kind == "habana":
        return {**server, "runtime": "habana", "cap_add": ["SYS_NICE"]}
    return {
        **server, "devices": ["/dev/kfd", "/dev/dri"], "group_add": ["video"], "cap_add": ["SYS_PTRACE"],
        "security_opt": ["seccomp=unconfined"],
    }  # fmt: skip


def _volume(found: Containers) -> dict[str, Any]:
    if found.directory is None:
        return {"type": "volume", "source": "models", "target": CACHE}
    return {"type": "bind", "source": found.directory.replace("$", "$$"), "target": MODEL, "read_only": True}


def _escaped(words: tuple[str, ...]) -> list[str]:
    """Words in which Compose sees no variables."""
    return [word.replace("$", "$$") for word in words]
