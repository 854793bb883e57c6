"""Kubernetes: a Deployment for servers of one host, StatefulSets for two pools of them, LeaderWorkerSets for servers of
several hosts; a Service for clients, and the router of two pools.

Servers of two pools have names of their own (POOL-0.POOL), by which the router finds them.  LeaderWorkerSet is a custom
resource (sigs.k8s.io/lws, v1) that starts a leader and its workers together and tells each the leader's address.

An update takes a pod away before it starts the one in its place, as chips are rarely spare.  A pod that is to stop goes
on for a moment, until no Service sends requests any more, then ends those that it has.  Pods see no variables of other
Services, as that of one named vllm would set VLLM_PORT.
"""

from __future__ import annotations

from typing import Any

from flashstill.plan.launch_layouts import POOL_SETTINGS, SIDE_CHANNEL_HOST
from flashstill.plan.manifests.pools import (
    BOOTSTRAP_PORT,
    DRAIN_S,
    GRACE_S,
    MODEL,
    NODE_0,
    ROUTER_PORT,
    SIDE_CHANNEL_PORT,
    Containers,
    Pool,
    router_image,
    router_words,
)
from flashstill.plan.manifests.yaml_text import yaml_text

APP, PART = "app.kubernetes.io/name", "app.kubernetes.io/component"
CACHE = "/root/.cache/huggingface"
LEADER, INDEX = "$(LWS_LEADER_ADDRESS)", "$(LWS_WORKER_INDEX)"
LOAD_S, SETTLE_S = 3600, 15
"""seconds in which a model may load; and in which Services hear that a pod is to stop"""
SHARED_MEMORY = "32Gi"
"""of the processes of a server"""
assert SETTLE_S + DRAIN_S < GRACE_S
ROUTER = "router"


def kubernetes(found: Containers) -> str:
    """The documents, a Service of clients first."""
    has_router = any(pool.role for pool in found.pools)
    front = ROUTER if has_router else found.pools[0].name
    port = ROUTER_PORT if has_router else found.port
    front_labels = _labels(found, front)
    if found.pools[0].nodes > 1 and not has_router:
        front_labels["role"] = "leader"
    documents = [_service(found.name, front_labels, {"http": (80, port)})]
    for pool in found.pools:
        documents += _pool(found, pool, has_router)
    if has_router:
        documents.append(_router(found))
    comments = list(found.comments)
    if any(pool.nodes > 1 for pool in found.pools):
        comments.append("# needs LeaderWorkerSet in the cluster, and a fast network that its pods may use")
    comments += [f"# the directory {name!a} must be on every host" for name in [found.directory] if name]
    if found.directory is None:
        comments.append(
            "# each pod downloads the model anew: a PersistentVolumeClaim in place of the emptyDir `models` keeps it"
        )
    comments.append("# cores and memory depend on the hosts: without requests for them these pods are evicted first")
    comments.append("# start it with: kubectl apply -f FILE")
    return "\n".join([*comments, "---\n".join(yaml_text(document) for document in documents)])


def _name(found: Containers, part: str) -> str:
    return f"{found.name}-{part}"


def _labels(found: Containers, part: str) -> dict[str, str]:
    return {APP: found.name, PART: part}


def _pool(found: Containers, pool: Pool, has_router: bool) -> list[dict[str, Any]]:
    name, labels = _name(found, pool.name), _labels(found, pool.name)
    meta = {"name": name, "labels": labels}
    if pool.nodes > 1:
        leader = {"metadata": {"labels": {**labels, "role": "leader"}}, "spec": _pod(found, pool, rank=LEADER)}
        worker = {"metadata": {"labels": labels}, "spec": _pod(found, pool, rank=INDEX)}
        template = {
            "size": pool.nodes, "restartPolicy": "RecreateGroupOnPodRestart", "leaderTemplate": leader,
            "workerTemplate": worker,
        }  # fmt: skip
        spec: dict[str, Any] = {"replicas": pool.count, "leaderWorkerTemplate": template}
        return [
            {"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "metadata": meta, "spec": spec}
        ]
    spec = {"replicas": pool.count, "selector": {"matchLabels": labels}}
    if not has_router:
        spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
        spec["progressDeadlineSeconds"] = LOAD_S + GRACE_S  # the default calls a model that loads slowly a failure
    spec["template"] = {"metadata": {"labels": labels}, "spec": _pod(found, pool)}
    if not has_router:
        return [{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}]
    spec |= {"serviceName": name, "podManagementPolicy": "Parallel"}
    pods = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": meta, "spec": spec}
    return [_service(name, labels, {"http": (found.port, found.port)}, is_headless=True), pods]


def _service(
    name: str, labels: dict[str, str], ports: dict[str, tuple[int, int]], is_headless: bool = False
) -> dict[str, Any]:
    spec: dict[str, Any] = {"selector": labels}
    spec["ports"] = [{"name": each, "port": ours, "targetPort": theirs} for each, (ours, theirs) in ports.items()]
    if is_headless:
        spec |= {"clusterIP": "None", "publishNotReadyAddresses": True}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "labels": labels}, "spec": spec}


def _pod(found: Containers, pool: Pool, rank: str = "") -> dict[str, Any]:
    """The pod of a server, or of one host of it. rank: "" for a server of one host, else of the leader or a worker."""
    words = [_escaped(word) for word in pool.words]
    if rank:
        words += ["--nnodes", str(pool.nodes), "--node-rank", "0" if rank == LEADER else INDEX]
        words += [word.replace(NODE_0, LEADER) for word in pool.address]
        words += pool.followers if rank == INDEX else []
    ports = [{"name": "http", "containerPort": found.port}]
    if found.engine == "sglang" and pool.role == "prefill":
        ports.append({"name": "bootstrap", "containerPort": BOOTSTRAP_PORT})
    container = {
        "name": found.engine,
        "image": found.image,
        "command": words,
        "ports": ports,
        "env": _environment(found, pool),
        "resources": {"limits": {found.resource: pool.chips}},
        "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}, _mount(found)],
    }
    if rank != INDEX:  # workers answer no requests
        container |= {
            "startupProbe": _probe(period=10, failures=LOAD_S // 10),
            "readinessProbe": _probe(period=5, failures=3),
            "livenessProbe": _probe(period=30, failures=4, timeout=30),  # SGLang's answers while a long prompt runs
        }
    volume: dict[str, Any] = {"name": "models", "emptyDir": {}}
    if found.directory is not None:
        volume = {"name": "models", "hostPath": {"path": found.directory, "type": "Directory"}}
    shared = {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": SHARED_MEMORY}}
    return {**_spec(container), "volumes": [shared, volume]}


def _spec(container: dict[str, Any]) -> dict[str, Any]:
    """What all pods have: time to end their requests, and no rights that they do not need."""
    own = {
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(SETTLE_S)]}}},
        "securityContext": {"allowPrivilegeEscalation": False},
    }
    return {
        "terminationGracePeriodSeconds": GRACE_S,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": [{**container, **own}],
    }


def _environment(found: Containers, pool: Pool) -> list[dict[str, Any]]:
    if found.directory is None:
        secret = {"secretKeyRef": {"name": "hf-token", "key": "token", "optional": True}}
        values: list[dict[str, Any]] = [{"name": "HF_TOKEN", "valueFrom": secret}]
    else:
        values = [{"name": "HF_HUB_OFFLINE", "value": "1"}]
    if found.engine == "vllm" and pool.role:
        address = {"fieldRef": {"fieldPath": "status.podIP"}}
        values.append({"name": SIDE_CHANNEL_HOST, "valueFrom": address})
        values.append({"name": "VLLM_NIXL_SIDE_CHANNEL_PORT", "value": str(SIDE_CHANNEL_PORT)})
        values += [{"name": name, "value": value} for name, value in POOL_SETTINGS[found.engine].items()]
    return values


def _mount(found: Containers) -> dict[str, Any]:
    if found.directory is None:
        return {"name": "models", "mountPath": CACHE}
    return {"name": "models", "mountPath": MODEL, "readOnly": True}


def _probe(period: int, failures: int, timeout: int = 10) -> dict[str, Any]:
    return {
        "httpGet": {"path": "/health", "port": "http"}, "periodSeconds": period, "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }  # fmt: skip


def _router(found: Containers) -> dict[str, Any]:
    def url(pool: Pool, number: int) -> str:
        name = _name(found, pool.name)
        return f"http://{name}-{number}.{name}:{found.port}"

    labels = _labels(found, ROUTER)
    container = {
        "name": ROUTER,
        "image": router_image(found),
        "command": [_escaped(word) for word in router_words(found, url)],
        "ports": [{"name": "http", "containerPort": ROUTER_PORT}],
        "readinessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 5},
    }
    spec = {
        "replicas": 1, "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": _spec(container)},
    }  # fmt: skip
    meta = {"name": _name(found, ROUTER), "labels": labels}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}


def _escaped(word: str) -> str:
    """A word in which Kubernetes sees no variable."""
    return word.replace("$", "$$")
