"""A server of a tiny model that answers as vLLM and SGLang do, and misbehaves where a test asks it to."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from flashstill.distill.generate import Sampling, sample

Answer = dict[str, Any]


class FakeServer:
    """Runs on a free port of 127.0.0.1 until it is closed.

    faults: what happens to the next questions before any is answered: a status, "reset", or seconds to sleep.
    bend: changes an answer before it is sent. together: after the first question, which is asked
    alone, none is answered before so many have come at a time, for half a minute.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.name, self.most, self.longest, self.key = "frontier", 100, 256, ""
        self.faults: list[Any] = []
        self.headers: dict[str, str] = {}
        self.bend: Callable[[Answer], Answer | bytes] = lambda answer: answer
        self.questions: list[Answer] = []
        self.keys: list[str] = []
        self.together = 1
        self.loads_weights = True
        """whether it is in vLLM's development mode, in which weights can be loaded"""
        self.loaded: list[str] = []
        self.at_work = self.most_at_work = 0
        self._counting, self._met = threading.Lock(), threading.Event()
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @contextmanager
    def working(self, question: Answer) -> Iterator[None]:
        """Counts the questions that are being answered."""
        with self._counting:
            is_first = not self.questions
            self.questions.append(question)
            self.at_work += 1
            self.most_at_work = max(self.most_at_work, self.at_work)
            if self.at_work >= self.together:
                self._met.set()
        if not is_first:
            assert self._met.wait(120.0), f"there were never {self.together} at a time"
        try:
            yield
        finally:
            with self._counting:
                self.at_work -= 1

    def models(self) -> Answer:
        return {"object": "list", "data": [{"id": self.name, "object": "model", "max_model_len": self.longest}]}

    def answer(self, path: str, question: Answer) -> tuple[int, Answer]:
        """Status and body."""
        if path in ("/collective_rpc", "/reset_prefix_cache"):
            return self._operated(path, question)
        tokens: list[int] = question["prompt"] if "prompt" in question else question["input_ids"]
        if "n" in question:
            return 200, {"choices": self._written(tokens, question)}
        wanted = ("prompt_logprobs", "logprobs", "top_logprobs_num")
        k = next(question[name] for name in wanted if question.get(name))
        if path == "/v1/completions" and question["model"] != self.name:
            return 404, {"error": {"message": f"The model `{question['model']}` does not exist.", "code": 404}}
        if k > self.most:
            field = "prompt_logprobs" if "prompt_logprobs" in question else "logprobs"
            kind = "prompt" if field == "prompt_logprobs" else "sample"
            sentence = f"Requested {kind} logprobs of {k}, which is greater than max allowed: {self.most}"
            sentence += f" (parameter={field}, value={k})"
            return 400, {"error": {"message": sentence, "type": "BadRequestError", "param": field, "code": 400}}
        if not all(0 <= token < self.model.config.vocab_size for token in tokens):
            sentence = f"Token id {max(tokens)} is out of vocabulary"
            return 400, {"error": {"message": sentence, "type": "BadRequestError", "param": None, "code": 400}}
        with self._lock, torch.inference_mode():
            logits = self.model(input_ids=torch.tensor([tokens], device=self.model.device)).logits[0].float().cpu()
        log_p = torch.log_softmax(logits, -1)
        entries = [self._entry(log_p[place - 1], token, k) for place, token in enumerate(tokens) if place]
        if path == "/generate":
            return 200, self._sglang(tokens, entries, k)
        if "prompt_logprobs" in question:
            keyed = [None, *({str(id_): self._vllm(id_, row) for id_, row in entry.items()} for entry in entries)]
            return 200, {"choices": [{"text": "x", "prompt_logprobs": keyed, "logprobs": None}]}
        named = [None, *({f"token_id:{id_}": row[0] for id_, row in entry.items()} for entry in entries)]
        own = [None, *(entry[token][0] for entry, token in zip(entries, tokens[1:], strict=True))]
        made_up = {"token_id:5": -0.5}
        return 200, {"choices": [{"logprobs": {"top_logprobs": [*named, made_up], "token_logprobs": [*own, -0.5]}}]}

    def _written(self, tokens: list[int], question: Answer) -> list[Answer]:
        """n texts, as vLLM returns them: the id that ends a text has a log-probability and is not in the text."""
        stop, count = int(self.model.config.eos_token_id), int(question["n"])
        settings = Sampling(
            new_tokens=question["max_tokens"], temperature=question["temperature"], stop=(stop,), seed=question["seed"]
        )
        with self._lock:
            found = sample(self.model, [tokens] * count, settings)
        rows = [row[row >= 0].tolist() for row in found.tokens]
        return [
            {
                "index": index,
                "text": self.tokenizer.decode(row, skip_special_tokens=True),
                "finish_reason": "stop" if row[-1] == stop else "length",
                "logprobs": {
                    "tokens": [f"token_id:{each}" for each in row],
                    "token_logprobs": found.log_p[index, : len(row)].tolist(),
                },
            }
            for index, row in enumerate(rows)
        ][::-1]  # in no order

    def _operated(self, path: str, question: Answer) -> tuple[int, Answer]:
        """vLLM's routes of its development mode: new weights, which are read into the same model."""
        if not self.loads_weights:
            return 404, {"detail": "Not Found"}
        if path == "/reset_prefix_cache":
            return 200, {"success": True}
        assert question["method"] == "reload_weights"
        place = question["kwargs"]["weights_path"]
        with self._lock:
            for file in Path(place).glob("*.safetensors"):
                self.model.load_state_dict(load_file(file), strict=False)
        self.loaded.append(place)
        return 200, {"results": [None]}

    def _entry(self, row: torch.Tensor, token: int, k: int) -> dict[int, tuple[float, int]]:
        """The token of the text first, as vLLM writes it, then the k likeliest: id -> log-probability, rank."""
        best = row.topk(k)
        found = {token: (float(row[token]), int((row >= row[token]).sum()))}
        ranked = enumerate(zip(best.indices.tolist(), best.values.tolist(), strict=True), 1)
        return {**found, **{id_: (value, rank) for rank, (id_, value) in ranked}}

    def _vllm(self, id_: int, row: tuple[float, int]) -> Answer:
        return {"logprob": row[0], "rank": row[1], "decoded_token": self.tokenizer.decode([id_])}

    def _sglang(self, tokens: list[int], entries: list[dict[int, tuple[float, int]]], k: int) -> Answer:
        top = [[[row[0], id_, None] for id_, row in entry.items() if row[1] <= k] for entry in entries]
        own = [
            [entry[token][0], token, self.tokenizer.decode([token])]
            for entry, token in zip(entries, tokens[1:], strict=True)
        ]
        first = [None, tokens[0], "x"]
        return {"text": "", "meta_info": {"input_top_logprobs": [None, *top], "input_token_logprobs": [first, *own]}}


def _handler(server: FakeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            if self.path != "/v1/models":
                self._send(404, {"detail": "Not Found"})
            elif server.key and self.headers.get("Authorization") != f"Bearer {server.key}":
                self._send(401, {"error": "Unauthorized"})
            else:
                self._send(200, server.models())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            question = json.loads(body) if body else {}
            server.keys.append(self.headers.get("Authorization", ""))
            fault = server.faults.pop(0) if server.faults else None
            if fault == "reset":
                linger = struct.pack("ii", 1, 0)  # closed with a reset, not in peace
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.close_connection = True
                self.connection.close()
                return
            if isinstance(fault, float):
                time.sleep(fault)
            if isinstance(fault, int):
                self._send(fault, {"error": {"message": "not now"}})
                return
            if "prompt" not in question and "input_ids" not in question:
                self._send(*server.answer(self.path, question))
                return
            with server.working(question):
                status, answer = server.answer(self.path, question)
            self._send(status, server.bend(answer) if status == 200 else answer)

        def _send(self, status: int, answer: Answer | bytes) -> None:
            body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            for name, value in server.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            try:
                self.wfile.write(body)
            except OSError:  # the other side has had enough
                self.close_connection = True

    return Handler
