"""A teacher behind a server: its signals equal a local teacher's, it may fail and lie, and nothing is asked twice."""

from __future__ import annotations

import io
import json
import logging
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from flashstill.cli.learning import student_lines
from flashstill.distill.data.packing import Packed, pack
from flashstill.distill.data.text import load_documents
from flashstill.distill.losses import Sparse
from flashstill.distill.models import load_model, load_tokenizer
from flashstill.distill.signals import Signals, TopK, build, signal_key, store
from flashstill.distill.teachers.served import KEY_VARIABLE, Server, build_from_server, client, known_model
from flashstill.distill.training import take
from flashstill.errors import BadInput
from flashstill.progress import Silent
from flashstill.recipes import read_distillation
from flashstill.runs.distillation import build_signals, run_distillation
from tests.commands import Cli
from tests.distillations import shot_at_random
from tests.fake_server import Answer, FakeServer
from tests.marks import slow
from tests.recorded_progress import RecordedProgress

SILENT = Silent()
K = 12


@pytest.fixture(scope="module")
def teacher(tiny_teacher: Path) -> Any:
    """In float32, so that one window alone and four together have no near ties."""
    return load_model(tiny_teacher, torch.float32)


@pytest.fixture(scope="module")
def tokenizer(tiny_teacher: Path) -> Any:
    return load_tokenizer(tiny_teacher)


@pytest.fixture
def packed(tokenizer: Any, text_file: Path) -> Packed:
    return pack(load_documents(str(text_file)), tokenizer, 16, 12)


@pytest.fixture
def served(teacher: Any, tokenizer: Any) -> Iterator[FakeServer]:
    server = FakeServer(teacher, tokenizer)
    yield server
    server.close()


@pytest.fixture(autouse=True)
def small_and_impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "WINDOWS_PER_SHARD", 4)
    monkeypatch.setattr(client, "WAITS_S", (0.01, 0.01))
    monkeypatch.delenv(KEY_VARIABLE, raising=False)


def key_of(packed: Packed, k: int = K) -> dict[str, Any]:
    return signal_key(TopK(k=k), known_model("frontier"), "tokenizer", packed)


def asked(
    served: FakeServer,
    packed: Packed,
    tokenizer: Any,
    folder: Path,
    k: int = K,
    share: tuple[int, int] = (0, 1),
    **how: Any,
) -> Signals:
    server = Server(base=served.base, **{"name": "frontier", **how})
    key = key_of(packed, k)
    build_from_server(server, TopK(k=k), key, packed, tokenizer, folder, SILENT, "s", share)
    return Signals(folder, key)


def whole(signals: Signals, packed: Packed) -> Sparse:
    said = signals(take(packed, torch.arange(packed.windows).numpy()))
    assert isinstance(said, Sparse)
    return said


class TestSignals:
    @pytest.mark.slow
    @pytest.mark.parametrize("api", ["vllm", "echo", "sglang"])
    def test_they_equal_those_of_the_same_model_here(
        self, served: FakeServer, teacher: Any, packed: Packed, tokenizer: Any, tmp_path: Path, api: str
    ) -> None:
        key = key_of(packed)
        build(teacher, TopK(k=K), key, packed, tmp_path / "here", SILENT, "s")
        ours = whole(Signals(tmp_path / "here", key), packed)
        theirs = whole(asked(served, packed, tokenizer, tmp_path / "there", api=api), packed)
        assert torch.equal(ours.ids, theirs.ids)
        assert torch.allclose(ours.weights, theirs.weights, atol=1e-3)
        assert theirs.tail

    @pytest.mark.slow
    def test_the_target_is_left_out_where_it_is_not_among_the_likeliest(
        self, served: FakeServer, teacher: Any, packed: Packed, tokenizer: Any, tmp_path: Path
    ) -> None:
        """vLLM adds it as an entry more; kept in the place of a likelier one it would bend the bucket of the rest."""
        signals = asked(served, packed, tokenizer, tmp_path, k=3)
        tokens = torch.from_numpy(packed.tokens.astype("int64"))
        with torch.inference_mode():
            log_p = torch.log_softmax(teacher(input_ids=tokens[:, :-1]).logits, -1)
        own = log_p.gather(-1, tokens[:, 1:, None]).squeeze(-1)
        assert torch.allclose(signals.target_log_p(torch.arange(packed.windows).numpy()), own, atol=1e-4)
        said = whole(signals, packed)
        among = (said.ids == tokens[:, 1:].reshape(-1, 1)).any(-1)
        assert 0 < int(among.sum()) < len(among) / 2
        assert torch.allclose(said.weights.sum(-1), log_p.exp().topk(3).values.sum(-1).flatten(), atol=1e-3)

    @pytest.mark.slow
    def test_several_requests_at_a_time(
        self, served: FakeServer, packed: Packed, tokenizer: Any, tmp_path: Path
    ) -> None:
        served.together = 3
        asked(served, packed, tokenizer, tmp_path, in_flight=3)
        assert served.most_at_work == 3
        assert sorted(each["prompt"] for each in served.questions) == sorted(packed.tokens.tolist())

    @pytest.mark.slow
    def test_shares_make_one_whole(self, served: FakeServer, packed: Packed, tokenizer: Any, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match="build them first"):
            asked(served, packed, tokenizer, tmp_path / "b", share=(1, 2))
        assert len(served.questions) == 4
        theirs = asked(served, packed, tokenizer, tmp_path / "b", share=(0, 2))
        assert len(served.questions) == packed.windows
        ours = asked(served, packed, tokenizer, tmp_path / "a")
        assert torch.equal(whole(ours, packed).ids, whole(theirs, packed).ids)

    @pytest.mark.slow
    def test_a_build_that_was_stopped_asks_for_the_rest_only(
        self, served: FakeServer, packed: Packed, tokenizer: Any, tmp_path: Path
    ) -> None:
        served.faults = [None] * 5 + [400]
        with pytest.raises(BadInput, match="refuses to answer"):
            asked(served, packed, tokenizer, tmp_path, in_flight=1)
        served.questions.clear()
        asked(served, packed, tokenizer, tmp_path, in_flight=1)
        assert [each["prompt"] for each in served.questions] == packed.tokens[4:].tolist()
        served.close()
        build_from_server(
            Server(base=served.base, name="frontier"),
            TopK(k=K),
            key_of(packed),
            packed,
            tokenizer,
            tmp_path,
            SILENT,
            "s",
        )  # nothing is missing, so that nobody is asked

    @pytest.mark.slow
    def test_another_model_or_k_is_refused(
        self, served: FakeServer, packed: Packed, tokenizer: Any, tmp_path: Path
    ) -> None:
        asked(served, packed, tokenizer, tmp_path)
        with pytest.raises(BadInput, match="another k"):
            asked(served, packed, tokenizer, tmp_path, k=5)
        key = signal_key(TopK(k=K), known_model("other"), "tokenizer", packed)
        with pytest.raises(BadInput, match="another teacher"):
            Signals(tmp_path, key)


class TestFailures:
    @pytest.mark.slow
    @pytest.mark.parametrize("fault", [429, 500, 503, "reset"])
    def test_what_passes_is_tried_again(
        self, served: FakeServer, packed: Packed, tokenizer: Any, tmp_path: Path, fault: Any
    ) -> None:
        served.faults = [fault, fault, None, fault]
        asked(served, packed, tokenizer, tmp_path)
        assert len(served.questions) == packed.windows

    @pytest.mark.slow
    def test_a_time_limit(
        self, served: FakeServer, packed: Packed, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        served.faults = [600.0]
        with monkeypatch.context() as patch:
            patch.setattr(client, "WAITS_S", (0.01,) * 200)  # a busy machine may need more tries of a good answer
            asked(served, packed, tokenizer, tmp_path, time_limit_s=1.0)
        assert served.faults == []
        served.faults = [600.0] * 3
        with pytest.raises(BadInput, match=r"failed 3 times \(no answer in 0.5 s\)"):
            asked(served, packed, tokenizer, tmp_path / "b", time_limit_s=0.5)

    @pytest.mark.slow
    def test_the_server_says_when(self, served: FakeServer, packed: Packed, tokenizer: Any, tmp_path: Path) -> None:
        served.headers, served.faults = {"Retry-After": "1"}, [429]
        server, progress = Server(base=served.base, name="frontier"), RecordedProgress()
        build_from_server(server, TopK(k=K), key_of(packed), packed, tokenizer, tmp_path, progress, "s")
        assert "429 not now; again in 1 s" in progress.notes

    @pytest.mark.slow
    def test_one_that_stays_broken(self, served: FakeServer, packed: Packed, tokenizer: Any, tmp_path: Path) -> None:
        served.faults = [503] * 100
        with pytest.raises(
            BadInput, match=r"failed 3 times \(503 not now\); its finished shards are kept, run the same"
        ):
            asked(served, packed, tokenizer, tmp_path)

    def test_nobody_there(self, served: FakeServer, packed: Packed, tokenizer: Any, tmp_path: Path) -> None:
        served.close()
        with pytest.raises(BadInput, match="no server answers at http://127"):
            asked(served, packed, tokenizer, tmp_path)


class TestRefusals:
    def refused(self, served: FakeServer, packed: Packed, tokenizer: Any, folder: Path, **how: Any) -> str:
        served.questions.clear()
        with pytest.raises(BadInput) as stopped:
            asked(served, packed, tokenizer, folder, **how)
        sentence = str(stopped.value)
        assert "\n" not in sentence
        assert len(served.questions) <= 1
        return sentence

    @pytest.mark.slow
    def test_a_key(
        self,
        served: FakeServer,
        packed: Packed,
        tokenizer: Any,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """It is asked for, sent in a header, and left nowhere."""
        log, root = io.StringIO(), logging.getLogger()
        handler, level = logging.StreamHandler(log), root.level
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        served.key = "sk-secret"
        said = self.refused(served, packed, tokenizer, tmp_path / "a")
        assert "asks for a key (401); put one into FLASHSTILL_API_KEY" in said
        monkeypatch.setenv(KEY_VARIABLE, "sk-wrong")
        assert "put another into" in self.refused(served, packed, tokenizer, tmp_path / "a")
        monkeypatch.setenv(KEY_VARIABLE, "sk-secret")
        asked(served, packed, tokenizer, tmp_path / "a")
        assert set(served.keys) == {"Bearer sk-secret"}
        assert not any(b"sk-secret" in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
        root.removeHandler(handler)
        root.setLevel(level)
        assert "frontier" in log.getvalue() or "127.0.0.1" in log.getvalue()
        assert "sk-secret" not in log.getvalue()
        monkeypatch.setattr(
            served, "answer", lambda path, question: (400, {"error": {"message": "the key sk-secret is too old"}})
        )
        assert "the key *** is too old" in self.refused(served, packed, tokenizer, tmp_path / "c")
        monkeypatch.setenv(KEY_VARIABLE, "sk-\nsecret")
        assert "secret" not in self.refused(served, packed, tokenizer, tmp_path / "b")

    def test_another_model(self, served: FakeServer, packed: Packed, tokenizer: Any, tmp_path: Path) -> None:
        said = self.refused(served, packed, tokenizer, tmp_path, name="frontie")
        assert "serves no model 'frontie'; it serves frontier" in said

    def test_another_address(self, served: FakeServer, packed: Packed, tokenizer: Any, tmp_path: Path) -> None:
        server = Server(base=served.base.removesuffix("/v1"), name="frontier")
        with pytest.raises(BadInput, match=r"nothing to ask at .*404.*; give the address up to /v1"):
            build_from_server(server, TopK(k=K), key_of(packed), packed, tokenizer, tmp_path, SILENT, "s")

    def test_fewer_log_probabilities(self, served: FakeServer, packed: Packed, tokenizer: Any, tmp_path: Path) -> None:
        served.most = 5
        said = self.refused(served, packed, tokenizer, tmp_path)
        assert "start it with vllm serve ... --max-logprobs 12, or lower signals.k" in said

    @pytest.mark.slow
    def test_windows_too_long(self, served: FakeServer, packed: Packed, tokenizer: Any, tmp_path: Path) -> None:
        served.longest = 17
        said = self.refused(served, packed, tokenizer, tmp_path)
        assert "a window needs 18 tokens, but frontier" in said
        assert "lower text.window_tokens to 15" in said
        served.longest = 18
        asked(served, packed, tokenizer, tmp_path)

    @pytest.mark.slow
    def test_another_tokenizer(
        self, served: FakeServer, packed: Packed, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Other:
            def decode(self, ids: list[int]) -> str:
                return str(tokenizer.decode([ids[0] + 7]))

        served.tokenizer = Other()
        for api in ("vllm", "sglang"):
            assert "has another tokenizer" in self.refused(served, packed, tokenizer, tmp_path, api=api)

    def test_an_unknown_api(self, served: FakeServer, packed: Packed, tokenizer: Any, tmp_path: Path) -> None:
        assert "nearest known: vllm" in self.refused(served, packed, tokenizer, tmp_path, api="vlm")


def first(answer: Answer) -> dict[str, Any]:
    """The entry of token 3 in an answer of vLLM."""
    found: dict[str, Any] = answer["choices"][0]["prompt_logprobs"][3]
    return found


def bent(change: Any) -> Any:
    def bend(answer: Answer) -> Answer:
        change(answer)
        return answer

    return bend


def each(value: Any) -> Any:
    """Put a value in the place of a log-probability."""
    return bent(lambda answer: next(iter(first(answer).values())).update(logprob=value))


MALFORMED: dict[str, tuple[Any, str]] = {
    "not JSON": (lambda answer: b"<html>", "something else than JSON"),
    "deep": (lambda answer: b"[" * 100_000, "something else than JSON"),
    "a list": (lambda answer: json.dumps([1]).encode(), "no log-probabilities where they should be"),
    "no choices": (lambda answer: {"choices": []}, "no log-probabilities where they should be"),
    "no extension": (lambda answer: {"choices": [{"text": "x"}]}, "prompt_logprobs"),
    "short": (bent(lambda answer: answer["choices"][0]["prompt_logprobs"].pop()), "cannot be read"),
    "a hole": (
        bent(lambda answer: answer["choices"][0]["prompt_logprobs"].__setitem__(3, None)),
        "says nothing of token 3; start vLLM with --no-enable-prefix-caching",
    ),
    "words": (bent(lambda answer: first(answer).update(the={"logprob": -9.0})), "cannot be read"),
    "outside": (bent(lambda answer: first(answer).update({"1408": {"logprob": -9.0}})), "knows 384: another tokenizer"),
    "negative": (bent(lambda answer: first(answer).update({"-1": {"logprob": -9.0}})), "names token -1"),
    "twice": (bent(lambda answer: first(answer).update({f" {next(iter(first(answer)))}": {"logprob": -9.0}})), "twice"),
    "NaN": (each(float("nan")), "'nan' as a log-probability at token 3"),
    "infinite": (each(float("-inf")), "own token 3 a probability of 0"),
    "positive": (each(0.5), "'0.5' as a log-probability"),
    "text": (each("-1"), "'-1' as a log-probability"),
    "true": (each(True), "'True' as a log-probability"),
    "huge": (each(10**400), "as a log-probability"),
    "heavy": (bent(lambda answer: [row.update(logprob=-0.1) for row in first(answer).values()]), "sum to 1"),
    "few": (
        bent(lambda answer: [first(answer).pop(name) for name in list(first(answer))[-4:]]),
        "log-probabilities where 12 were asked for; lower signals.k",
    ),
    "much": (lambda answer: b" " * 10_000_000, "answers with more than"),
}


QUICK = ("not JSON", "outside", "NaN", "few")


@pytest.mark.parametrize("name", [*QUICK, *slow(*(name for name in MALFORMED if name not in QUICK))])
def test_answers_that_are_none(served: FakeServer, packed: Packed, tokenizer: Any, tmp_path: Path, name: str) -> None:
    served.bend, said = MALFORMED[name]
    with pytest.raises(BadInput) as stopped:
        asked(served, packed, tokenizer, tmp_path / "signals")
    assert said in str(stopped.value)
    assert "\n" not in str(stopped.value)
    assert not list((tmp_path / "signals").glob("windows-*"))


def test_texts_in_the_place_of_ids(served: FakeServer, packed: Packed, tokenizer: Any, tmp_path: Path) -> None:
    served.bend = lambda answer: json.dumps(answer).replace("token_id:", " the").encode()
    with pytest.raises(BadInput, match="names tokens by their text"):
        asked(served, packed, tokenizer, tmp_path, api="echo")


RECIPE = """
name = "flash"
seed = 1
data = "{data}"
out_of_domain = "strangers.txt"

[[teachers]]
model = "{base}"
name = "frontier"
tokenizer = "{tokenizer}"

[student]
{student}

[signals]
kind = "topk"
k = 20

[text]
window_tokens = 32
train_tokens = 2048
heldout_tokens = 256
out_of_domain_tokens = 256

[train]
tokens = 8192
windows_per_step = 4
learning_rate = 1e-2
"""


class TestDistillation:
    @pytest.fixture
    def write(self, tmp_path: Path, tiny_teacher: Path, text_file: Path, other_text: str, served: FakeServer) -> Any:
        (tmp_path / "strangers.txt").write_text(other_text)
        (tmp_path / "tokenizer").mkdir()
        for file in tiny_teacher.glob("tokenizer*"):
            (tmp_path / "tokenizer" / file.name).write_bytes(file.read_bytes())
        fields = json.loads((tiny_teacher / "config.json").read_text())
        fields.update(hidden_size=16, intermediate_size=32, num_hidden_layers=2, layer_types=None)
        (tmp_path / "small.json").write_text(json.dumps(fields))

        def written(student: str) -> Path:
            path = tmp_path / "distill.toml"
            path.write_text(RECIPE.format(data=text_file, base=served.base, tokenizer="tokenizer", student=student))
            return path

        return written

    @pytest.mark.slow
    def test_a_student_from_scratch_learns(self, write: Any, served: FakeServer, tmp_path: Path) -> None:
        """The teacher's weights are not here: only its tokenizer and its server."""
        recipe, out = read_distillation(write('kind = "scratch"\nconfig = "small.json"')), tmp_path / "out"
        found = run_distillation(recipe, out, SILENT)
        quality = {name: domains["heldout"] for name, domains in found["quality"].items()}
        assert quality["student"]["kl_to_teacher_at_least"][0] < 0.8 * quality["initial"]["kl_to_teacher_at_least"][0]
        assert "kl_to_teacher" not in quality["student"]
        rows = [json.loads(line) for line in (out / "training" / "metrics.jsonl").read_text().splitlines()]
        assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]
        assert "teacher" not in found["parameters"]
        assert any(">=" in line for line in student_lines(found))
        asked_before = len(served.questions)
        served.close()
        assert run_distillation(recipe, out, SILENT) == found, "a second run asks nobody"
        assert len(served.questions) == asked_before

    @pytest.mark.slow
    def test_what_is_known_of_the_teacher_is_right(
        self, write: Any, served: FakeServer, tiny_teacher: Path, tmp_path: Path
    ) -> None:
        """Its own surprise, and the KL of a model that is the teacher: nothing, as far as 20 ids know."""
        path = write(f'kind = "copy"\nmodel = "{tiny_teacher}"')
        path.write_text(path.read_text().replace("tokens = 8192", "tokens = 128").replace("1e-2", "1e-5"))
        recipe = read_distillation(path)
        quality = run_distillation(recipe, tmp_path / "out", SILENT)["quality"]
        for domain in ("heldout", "out-of-domain"):
            teacher, same = quality["teacher"][domain], quality["initial"][domain]
            assert same["perplexity"] == pytest.approx(teacher["perplexity"], rel=0.02)
            assert 0 <= same["kl_to_teacher_at_least"][0] < 0.01
            assert same["agreement"][0] > 0.9

    @pytest.mark.slow
    def test_with_its_signals_built_the_server_may_go(self, write: Any, served: FakeServer, tmp_path: Path) -> None:
        recipe = read_distillation(write('kind = "scratch"\nconfig = "small.json"'))
        (built,) = build_signals(recipe, tmp_path / "out", SILENT, (0, 1)).values()
        assert built["kind"] == "topk"
        assert 20 * 4 <= built["bytes_per_token"] < 20 * 4 + 20
        served.close()
        assert "student" in run_distillation(recipe, tmp_path / "out", SILENT)["quality"]

    @pytest.mark.slow
    def test_a_build_that_is_shot_asks_at_most_for_what_was_on_the_way(
        self, cli: Cli, write: Any, served: FakeServer, sample_text: str, text_file: Path, tmp_path: Path
    ) -> None:
        """Shot at random moments: the same bytes as of a build that was not, and no whole shard asked for twice."""
        text_file.write_text("\n\n".join(f"{part}\n{sample_text}" for part in range(20)))
        path = write('kind = "scratch"\nconfig = "small.json"')
        path.write_text(path.read_text().replace("train_tokens = 2048", "train_tokens = 65536"))
        ran = cli("distill", path, "--out", tmp_path / "straight", "--build-signals")
        assert ran.returncode == 0, ran.stderr
        documents = len(served.questions)
        assert documents > 500
        served.questions.clear()
        command = [sys.executable, "-m", "flashstill", "distill", path, "--out", tmp_path / "shot", "--build-signals"]
        kills, whole_runs = 4, 0

        def look() -> None:
            nonlocal whole_runs
            whole_runs += 1
            assert documents <= len(served.questions) <= documents + kills * 2 * (64 + 8)
            served.questions.clear()
            for file in (tmp_path / "straight" / "signals").rglob("windows-*"):
                assert file.read_bytes() == (tmp_path / "shot" / file.relative_to(tmp_path / "straight")).read_bytes()

        shot_at_random(list(map(str, command)), tmp_path / "shot", kills, "signals of", 1.0, 0, look)
        assert whole_runs
        manifests = (tmp_path / "straight" / "signals").rglob("signals.json")
        held = [json.loads(manifest.read_text())["windows"] for manifest in manifests]  # of the three texts
        texts = [Packed.load(path) for path in (tmp_path / "straight" / "data").glob("*.safetensors")]
        assert sorted(held) == sorted(text.windows for text in texts)
        parts = [text.documents_in(window) for text in texts for window in range(text.windows)]
        assert (len(held), sum(map(len, parts))) == (3, documents), "each document of a window is asked for by itself"
        assert max(map(len, parts)) == 2
        ours = sorted((tmp_path / "straight" / "signals").rglob("windows-*"))
        assert len(ours) == 2 * sum(math.ceil(count / 64) for count in held)

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ('kind = "topk"', 'kind = "hidden"', 'signals.kind must be "topk"'),
            ('name = "frontier"', "", "needs a name"),
            ('tokenizer = "tokenizer"', "", "and a tokenizer"),
            ('name = "frontier"', 'name = "frontier"\napi = "sglan"', "nearest known: sglang"),
            (
                'name = "frontier"',
                'name = "frontier"\nin_flight = 0',
                "teachers[0].in_flight is 0; it must be at least 1",
            ),
            ("http://", "http://me:secret@", "must not hold a password"),
            (
                'kind = "scratch"\nconfig = "small.json"',
                'kind = "depth"\nkeep_layers = 2',
                "name a model with student.model",
            ),
            ('kind = "scratch"', 'kind = "scratch"\nmodel = "tokenizer"', "choose kind copy"),
            ("[text]", '[regime]\nkind = "sequence"\n[text]', "regime.kind must be offline or on-policy, not sequence"),
            ("[text]", '[[losses]]\ndivergence = "reverse-kl"\n[text]', "the forward KL at temperature 1"),
            ("small.json", "large.json", "has a vocabulary of 100, the teacher 384 tokens"),
        ],
    )
    def test_recipes_that_cannot_be(
        self, write: Any, served: FakeServer, tmp_path: Path, old: str, new: str, said: str
    ) -> None:
        fields = json.loads((tmp_path / "small.json").read_text())
        (tmp_path / "large.json").write_text(json.dumps({**fields, "vocab_size": 100}))
        path = write('kind = "scratch"\nconfig = "small.json"')
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
        with pytest.raises(BadInput) as stopped:
            run_distillation(read_distillation(path), tmp_path / "out", SILENT)
        assert said in str(stopped.value)
        assert "secret" not in str(stopped.value)
        assert not served.questions

    def test_a_local_teacher_has_no_name(self, write: Any, tiny_teacher: Path, served: FakeServer) -> None:
        path = write('kind = "scratch"\nconfig = "small.json"')
        path.write_text(path.read_text().replace(served.base, str(tiny_teacher)))
        with pytest.raises(BadInput, match="go with an address"):
            read_distillation(path)

    @pytest.mark.slow
    def test_a_student_of_another_vocabulary(self, write: Any, tiny_teacher: Path, tmp_path: Path) -> None:
        import shutil

        other = tmp_path / "other"
        shutil.copytree(tiny_teacher, other)
        found = json.loads((other / "tokenizer.json").read_text())
        found["added_tokens"].append({**found["added_tokens"][0], "id": 384, "content": "<|more|>"})
        (other / "tokenizer.json").write_text(json.dumps(found))
        recipe = read_distillation(write('kind = "copy"\nmodel = "other"'))
        with pytest.raises(BadInput, match=r"other has another vocabulary than the teacher \(385 tokens, and 384"):
            run_distillation(recipe, tmp_path / "out", SILENT)
