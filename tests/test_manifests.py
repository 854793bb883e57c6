"""Manifests of what plan found: valid by the published schemas, the same commands, names that nobody can misuse."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flashstill.cli import main
from flashstill.errors import BadInput
from flashstill.facts import load
from flashstill.plan.launch import launch
from flashstill.plan.manifests import form_and_engine, manifest, written
from flashstill.plan.manifests.kubernetes import _escaped
from flashstill.plan.manifests.pools import plain_name
from flashstill.plan.manifests.yaml_text import yaml_text
from flashstill.plan.space import Configuration
from tests.commands import refuse
from tests.json_schema import mistakes, schema
from tests.marks import slow

FACTS = load()
ONE = Configuration(
    chip="h100-sxm", chips=4, tp=4, pp=1, ep=1, dp=1, batch=100, precision="fp8", kv_precision="fp8",
    weights_in="memory", kv_in="memory", speculated_tokens=0, draft="", engine="vllm", tpot_s=0.01, ttft_s=0.1,
    output_tokens_per_s=1e4, tokens_per_s_per_chip=1250.0, joules_per_output_token=0.5,
    usd_per_million_output_tokens=1.0, watts_per_chip=600.0,
)  # fmt: skip
POOLS = dataclasses.replace(
    ONE, chips=6, prefill_chips=1, prefill_tp=1, prefill_pp=1, prefill_ep=1, prefill_dp=1, prefill_instances=2
)
WIDE = dataclasses.replace(ONE, chips=16, tp=8, dp=2, ep=16)
WIDE_POOLS = dataclasses.replace(
    WIDE, chips=48, prefill_chips=16, prefill_tp=8, prefill_pp=1, prefill_ep=16, prefill_dp=2, prefill_instances=2
)
REPLICAS = dataclasses.replace(ONE, chips=16, tp=2, dp=8)
KINDS = {
    "Deployment": "io.k8s.api.apps.v1.Deployment", "StatefulSet": "io.k8s.api.apps.v1.StatefulSet",
    "Service": "io.k8s.api.core.v1.Service", "LeaderWorkerSet": "LeaderWorkerSet",
}  # fmt: skip
HOSTILE = (
    "some/model", "owner/${HOME}", "owner/$(rm -rf)", 'owner/a"b: c\n- d', "0/1.5", "owner/é\u2028\U0001f600", "no/yes",
)  # fmt: skip


def documents(form: str, engine: str, point: Configuration, model: str = "some/model", **more: Any) -> list[Any]:
    """The parsed documents, which are valid."""
    found = list(yaml.load_all(manifest(FACTS, form, engine, model, point, 1280, **more), yaml.CSafeLoader))
    for document in found:
        root = schema(form)
        part = root if form == "compose" else root["definitions"][KINDS[document["kind"]]]
        assert list(mistakes(root, part, document)) == []
    return found


def commands(document: Any) -> list[list[str]]:
    """Every command in a document, as its containers run it."""
    if isinstance(document, dict):
        own = [document[name] for name in ("command", "entrypoint") if name in document]
        return own + [words for name, value in document.items() if name != "lifecycle" for words in commands(value)]
    return [words for item in document for words in commands(item)] if isinstance(document, list) else []


def pools_of(services: dict[str, Any]) -> list[dict[str, Any]]:
    """The servers of a Compose file that hold a model."""
    return [service for service in services.values() if "deploy" in service]


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
@pytest.mark.parametrize("model", [*HOSTILE[1:4], *slow(HOSTILE[0], *HOSTILE[4:])])
@pytest.mark.parametrize("point", [ONE, POOLS], ids=["one", "pools"])
def test_compose(engine: str, model: str, point: Configuration) -> None:
    (document,) = documents("compose", engine, point, model)
    services = document["services"]
    assert sum("deploy" in service for service in services.values()) == (3 if point is POOLS else 1)
    given_chips = [
        chip
        for service in services.values()
        for device in service.get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices", [])
        for chip in device["device_ids"]
    ]
    assert given_chips == [str(number) for number in range(point.chips)]
    servers = [words for words in commands(document) if "router" not in " ".join(words)]
    assert all(model in [word.replace("$$", "$") for word in words] for words in servers)
    if point is POOLS:
        router = services["router"]
        urls = [word for word in router["entrypoint"] if word.startswith("http://")]
        port = {"vllm": 8000, "sglang": 30000}[engine]
        layouts = [server["environment"].get("VLLM_SSM_CONV_STATE_LAYOUT") for server in pools_of(services)]
        assert layouts == (["DS"] * 3 if engine == "vllm" else [None] * 3)
        assert urls == [f"http://{name}:{port}" for name in ("prefill-0", "prefill-1", "decode-0")]
        assert set(router["depends_on"]) == set(services) - {"router"}


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
@pytest.mark.parametrize("model", [*HOSTILE[1:4], *slow(HOSTILE[0], *HOSTILE[4:])])
@pytest.mark.parametrize("point", [ONE, POOLS, WIDE, WIDE_POOLS], ids=["one", "pools", "wide", "wide-pools"])
def test_kubernetes(engine: str, model: str, point: Configuration) -> None:
    found = documents("kubernetes", engine, point, model)
    kinds = [document["kind"] for document in found]
    front, router = ["Service"], ["Deployment"]
    assert (
        kinds
        == {
            ONE: [*front, "Deployment"],
            POOLS: [*front, "Service", "StatefulSet", "Service", "StatefulSet", *router],
            WIDE: [*front, "LeaderWorkerSet"],
            WIDE_POOLS: [*front, "LeaderWorkerSet", "LeaderWorkerSet", *router],
        }[point]
    )
    assert len({(document["kind"], document["metadata"]["name"]) for document in found}) == len(found)
    chips = 0
    for document in found:
        for template, copies in pods(document):
            assert front_selects(found[0], template) == (document is found[-1] and is_front(template))
            for container in template["spec"]["containers"]:
                chips += copies * container.get("resources", {}).get("limits", {}).get("nvidia.com/gpu", 0)
    assert chips == point.chips
    servers = [words for words in commands(found) if "router" not in " ".join(words)]
    assert all(model in [word.replace("$$", "$") for word in words] for words in servers)


def pods(document: Any) -> list[tuple[Any, int]]:
    """The pod templates of a document, and how many pods it has of each."""
    spec = document["spec"]
    if document["kind"] == "LeaderWorkerSet":
        group = spec["leaderWorkerTemplate"]
        workers = spec["replicas"] * (group["size"] - 1)
        return [(group["leaderTemplate"], spec["replicas"]), (group["workerTemplate"], workers)]
    return [(spec["template"], spec["replicas"])] if "template" in spec else []


def front_selects(service: Any, template: Any) -> bool:
    return bool(service["spec"]["selector"].items() <= template["metadata"]["labels"].items())


def is_front(template: Any) -> bool:
    """Whether clients are sent to these pods: a router, or servers that answer by themselves."""
    (container,) = template["spec"]["containers"]
    return "readinessProbe" in container


def test_several_hosts() -> None:
    (_, group) = documents("kubernetes", "vllm", WIDE)
    leader, worker = (words for words in commands(group))
    assert leader[-6:] == ["--nnodes", "2", "--node-rank", "0", "--master-addr", "$(LWS_LEADER_ADDRESS)"]
    assert worker[-7:] == [
        "--nnodes", "2", "--node-rank", "$(LWS_WORKER_INDEX)", "--master-addr", "$(LWS_LEADER_ADDRESS)", "--headless",
    ]  # fmt: skip
    (_, group) = documents("kubernetes", "sglang", WIDE)
    assert commands(group)[1][-2:] == ["--dist-init-addr", "$(LWS_LEADER_ADDRESS):25000"]
    found = documents("kubernetes", "sglang", REPLICAS, has_experts=False)  # each replica by itself
    assert found[1]["spec"]["replicas"] == 8
    assert found[1]["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": 2}


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
@pytest.mark.parametrize("point", [ONE, POOLS, WIDE_POOLS], ids=["one", "pools", "wide-pools"])
def test_a_pod_ends_its_requests_before_it_is_killed(engine: str, point: Configuration) -> None:
    """Services hear of it first, then the engine drains, and both fit into the time that Kubernetes gives; vLLM aborts
    requests at once unless it is told otherwise. Chips are rarely spare, so that no update waits for more of them."""
    for document in documents("kubernetes", engine, point):
        for template, _ in pods(document):
            spec = template["spec"]
            (container,) = spec["containers"]
            settles = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
            drains = [int(words[words.index("--shutdown-timeout") + 1]) for words in commands([container])
                      if "--shutdown-timeout" in words]  # fmt: skip
            assert len(drains) == (engine == "vllm" and container["name"] == "vllm")
            assert settles + max(drains, default=0) < spec["terminationGracePeriodSeconds"]
            assert container["securityContext"] == {"allowPrivilegeEscalation": False}
            assert not spec["automountServiceAccountToken"]
            assert not spec["enableServiceLinks"], "a Service named vllm would set VLLM_PORT"
            if "startupProbe" in container:
                probe = container["startupProbe"]
                loads = probe["periodSeconds"] * probe["failureThreshold"]
                assert document["spec"].get("progressDeadlineSeconds", loads + 1) > loads
        if document["kind"] == "Deployment" and "router" not in document["metadata"]["name"]:
            assert document["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_compose_waits_for_requests_as_well(engine: str) -> None:
    (document,) = documents("compose", engine, POOLS)
    assert {service["stop_grace_period"] for service in document["services"].values()} == {"150s"}


@pytest.mark.parametrize("point", [ONE, POOLS])
@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_options_are_those_of_the_commands(engine: str, point: Configuration) -> None:
    told = launch(engine, "some/model", point, 1280).replace("\\\n", " ")
    for words in commands(documents("compose", engine, point)):
        if "router" not in " ".join(words):
            bare = " ".join(words[: words.index("--host")]).replace("python3", "python")
            assert bare in " ".join(told.replace("'", "").split())


def test_makers() -> None:
    amd = dataclasses.replace(ONE, chip="mi300x")
    (document,) = documents("compose", "vllm", amd)
    server = document["services"]["server"]
    assert server["devices"] == ["/dev/kfd", "/dev/dri"]
    assert server["environment"]["ROCR_VISIBLE_DEVICES"] == "0,1,2,3"
    assert server["image"].startswith("vllm/vllm-openai-rocm:v")
    assert "mi30x" in documents("compose", "sglang", amd)[0]["services"]["server"]["image"]
    (_, deployment) = documents("kubernetes", "vllm", amd)
    assert "amd.com/gpu" in json.dumps(deployment)
    gaudi = dataclasses.replace(ONE, chip="gaudi3")
    with pytest.raises(BadInput, match="no image of vllm for gaudi3 is known; name one with --image"):
        documents("compose", "vllm", gaudi)
    (document,) = documents("compose", "vllm", gaudi, image="own/gaudi:1")
    assert document["services"]["server"]["runtime"] == "habana"
    ascend = dataclasses.replace(ONE, chip="ascend-910b")
    with pytest.raises(BadInput, match="how Docker gives a container ascend-910b"):
        documents("compose", "vllm", ascend, image="own/ascend:1")
    assert "huawei.com/Ascend910" in json.dumps(documents("kubernetes", "vllm", ascend, image="own/ascend:1"))
    with pytest.raises(BadInput, match="how a container gets tpu-v6e of Google"):
        documents("kubernetes", "vllm", dataclasses.replace(ONE, chip="tpu-v6e"))


def test_a_directory_is_mounted(tmp_path: Path) -> None:
    model = tmp_path / "a $tudent"
    model.mkdir()
    (document,) = documents("compose", "vllm", ONE, str(model))
    (volume,) = document["services"]["server"]["volumes"]
    assert volume == {"type": "bind", "source": str(model).replace("$", "$$"), "target": "/model", "read_only": True}
    assert "/model" in document["services"]["server"]["entrypoint"]
    (_, deployment) = documents("kubernetes", "vllm", ONE, str(model))
    assert {"name": "models", "hostPath": {"path": str(model), "type": "Directory"}} in deployment["spec"]["template"][
        "spec"
    ]["volumes"]


def test_what_is_refused() -> None:
    with pytest.raises(BadInput, match="Compose starts containers on one host, and 16 h100-sxm are more than the 8"):
        documents("compose", "vllm", WIDE)
    with pytest.raises(BadInput, match="written for vllm and sglang; --emit trtllm prints its commands"):
        manifest(FACTS, "kubernetes", "trtllm", "some/model", ONE, 2)
    with pytest.raises(BadInput, match="unknown engine 'compose:trtllm'; the nearest known: compose:vllm"):
        form_and_engine("compose:trtllm")
    assert written(FACTS, "compose", "vllm", [WIDE, ONE], True, None) == (ONE,)
    with pytest.raises(BadInput, match="for the 1 configurations found; the first: Compose starts"):
        written(FACTS, "compose", "vllm", [WIDE], True, None)


def test_plan_emits_manifests(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["plan", "--model", "qwen3-8b", "--chips-from", "h100-sxm", "--max-chips", "2", "--batch", "16"]
    main([*asked, "--emit", "kubernetes:vllm", "--image", "own/image:1"])
    service, deployment = yaml.safe_load_all(capsys.readouterr().out)
    assert service["metadata"]["name"] == "qwen3-8b"
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "own/image:1"
    main([*asked, "--emit", "compose:sglang", "--json"])
    told = json.loads(capsys.readouterr().out)["launch"]
    assert yaml.safe_load(told["manifest"])["name"] == "qwen3-8b"
    assert "sglang.launch_server" in told["command"]
    assert "--image is of a manifest" in refuse(capsys, *asked, "--image", "own/image:1")


@given(model=st.text(min_size=1))
def test_names_are_dns_labels(model: str) -> None:
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", plain_name(model))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(value=st.lists(VALUES, min_size=1) | st.dictionaries(st.text(), VALUES, min_size=1))
@pytest.mark.slow
def test_yaml_says_what_was_meant(value: Any) -> None:
    assert yaml.safe_load(yaml_text(value)) == value


def test_kubernetes_sees_no_variable_in_a_word() -> None:
    """`$$` is a dollar sign there, wherever it stands."""
    for word in ("$(HOME)", "$$(HOME)", "a$b"):
        read = re.sub(r"\$(\$|\([^)]*\))", lambda match: "$" if match[1] == "$" else "expanded", _escaped(word))
        assert read == word
