"""What a model answers to the requests of tasks: log-likelihoods of continuations, and greedy or sampled texts.

Requests with the same input run once: the answers A, B, C and D after one question are one pass.  Rows are sorted by
length and padded on the right, which a causal model cannot see; logits are made of the predicted tokens alone, in
float32.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from flashstill.distill.data.layouts import Chat
from flashstill.distill.data.rows import Unusable
from flashstill.distill.data.templates import Renderer
from flashstill.distill.generate import Sampling, sample
from flashstill.distill.models import Model
from flashstill.errors import BadInput
from flashstill.evaluate.readers import reader_of
from flashstill.evaluate.tasks.drawing import behind, settings_of, thought_of
from flashstill.evaluate.tasks.encoding import Encoder, Scored, cut
from flashstill.evaluate.token_scores import MOST_LOGITS, MOST_TOKENS
from flashstill.progress import Advance

TOKENS_A_PASS = 4096
FIRST_NEW_TOKENS = 32
"""new tokens that are drawn before stop strings are looked for, then twice as many"""


class Answers:
    """A loaded model that answers requests; `tokens` counts what was predicted or drawn, `unended` the texts that end
    within a thought, of which nothing is judged."""

    def __init__(self, model: Model, tokenizer: Any, seed: int = 0, renderer: Renderer | None = None) -> None:
        self.model, self.encoder, self.seed, self.tokens = model, Encoder(model, tokenizer), seed, 0
        self._renderer, self.unended = renderer, 0
        probe = torch.tensor([[self.encoder.prefix]])
        self._reader = reader_of(model, probe)
        self.rows: int = model.get_input_embeddings().weight.shape[0]

    def answer(self, kind: str, arguments: Sequence[Sequence[Any]], advance: Advance) -> list[Any]:
        """The answers to requests of one kind: loglikelihood, loglikelihood_rolling, generate_until or chat."""
        if kind == "chat":
            return [self._conversation(messages, bool(begins)) for messages, begins in arguments]
        if kind == "loglikelihood":
            return [list(each) for each in self.loglikelihood([(a, b) for a, b in arguments], advance)]
        if kind == "loglikelihood_rolling":
            return self.rolling([text for (text,) in arguments], advance)
        return self.generate([(text, how) for text, how in arguments], advance)

    def _conversation(self, messages: Sequence[Mapping[str, str]], begins: bool) -> str:
        """A conversation as a prompt for the next answer. begins: False for one whose last message is to go on."""
        if not begins:
            raise BadInput(
                "a task with gen_prefix goes on with an answer, which chat templates do not: leave --chat out"
            )
        assert self._renderer is not None, "chat is asked for only of models with a template"
        answered = (*map(dict, messages), {"role": "assistant", "content": ""})
        try:
            return self._renderer.prompt(Chat(messages=answered, answers=(len(messages),)))
        except Unusable as error:
            raise BadInput(f"the chat template refuses a prompt of a task: {error}") from error

    def chats(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of each prompt as a conversation; none without a renderer."""
        if self._renderer is None:
            return []
        texts = [self._conversation([{"role": "user", "content": prompt}], True) for prompt in prompts]
        ids: list[list[int]] = self.encoder.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return ids

    def loglikelihood(self, pairs: Sequence[tuple[str, str]], advance: Advance) -> list[tuple[float, bool]]:
        """(sum of log-probabilities in nats, whether each token is the likeliest) of (context, continuation)."""
        return self._scores([self.encoder.pair(*pair) for pair in pairs], advance)

    def rolling(self, texts: Sequence[str], advance: Advance) -> list[float]:
        """Log-likelihood of whole texts."""
        windows = [(place, each) for place, text in enumerate(texts) for each in self.encoder.rolling(text)]
        total = [0.0] * len(texts)
        scores = self._scores([each for _, each in windows], lambda amount, note="": None)
        for (place, _), (value, _) in zip(windows, scores, strict=True):
            total[place] += value
        advance(len(texts))
        return total

    def _scores(self, requests: Sequence[Scored], advance: Advance) -> list[tuple[float, bool]]:
        alike: dict[tuple[int, ...], list[int]] = {}
        for place, each in enumerate(requests):
            alike.setdefault(each.ids[:-1], []).append(place)
        inputs = sorted(alike, key=lambda ids: (-len(ids), ids))
        found: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        first = 0
        with torch.inference_mode():
            while first < len(inputs):
                rows = inputs[first : first + max(1, TOKENS_A_PASS // len(inputs[first]))]
                self._pass(rows, [[(place, requests[place]) for place in alike[ids]] for ids in rows], found)
                advance(sum(len(alike[ids]) for ids in rows))
                first += len(rows)
        return found

    def _pass(
        self,
        rows: Sequence[tuple[int, ...]],
        asked: Sequence[Sequence[tuple[int, Scored]]],
        found: list[tuple[float, bool]],
    ) -> None:
        """One forward pass. rows: ids that are read; asked: places and requests of each, which end one id later."""
        longest = len(rows[0])
        padded = torch.zeros((len(rows), longest), dtype=torch.int64)
        for row, ids in enumerate(rows):
            padded[row, : len(ids)] = torch.tensor(ids)
            self._check(ids)
        states = self._reader.rows(padded)
        for row, ids in enumerate(rows):
            most = max(each.predicted for _, each in asked[row])
            kept = states[row, len(ids) - most : len(ids)]
            log_p = self._log_p(kept)
            for place, each in asked[row]:
                own = log_p[-each.predicted :]
                targets = torch.tensor(each.ids[-each.predicted :], device=own.device)
                self._check(each.ids[-1:])
                value = float(own.gather(-1, targets[:, None]).sum())
                found[place] = (value, bool((own.argmax(-1) == targets).all()))
                self.tokens += each.predicted

    def _log_p(self, states: torch.Tensor) -> torch.Tensor:
        parts = [torch.log_softmax(self._reader.logits(part), -1) for part in torch.split(states, self._group)]
        return torch.cat(parts)

    @property
    def _group(self) -> int:
        return max(1, min(MOST_TOKENS, MOST_LOGITS // self.rows))

    def _check(self, ids: Sequence[int]) -> None:
        if max(ids) >= self.rows:
            raise BadInput(f"the tokenizer gave token {max(ids):,}, but the model knows {self.rows:,}")

    def generate(self, requests: Sequence[tuple[str, Mapping[str, Any]]], advance: Advance) -> list[str]:
        """Texts after the contexts, up to a stop string or the end token; requests alike in their settings together."""
        alike: dict[str, list[int]] = {}
        for place, (_, how) in enumerate(requests):
            alike.setdefault(json.dumps(how, sort_keys=True), []).append(place)
        texts = [""] * len(requests)
        for places in alike.values():
            own = self._generate([requests[place][0] for place in places], requests[places[0]][1], advance)
            for place, text in zip(places, own, strict=True):
                texts[place] = text
        return texts

    def _generate(self, contexts: Sequence[str], how: Mapping[str, Any], advance: Advance) -> list[str]:
        (settings, stops), mark = settings_of(how, self.ends, self.seed), thought_of(how)
        most = settings.new_tokens
        prompts = [self.encoder.prompt(text, most) for text in contexts]
        for ids in prompts:
            self._check(ids)
        drawn: list[list[int]] = [[] for _ in contexts]
        left, step, rounds = list(range(len(contexts))), FIRST_NEW_TOKENS if stops else most, 0
        while left:
            size = min(step, most - len(drawn[left[0]]))
            part = _part(settings, size, rounds)
            result = sample(self.model, [[*prompts[place], *drawn[place]] for place in left], part, left)
            going = []
            for place, ids, length in zip(left, result.tokens, result.lengths, strict=True):
                drawn[place] += ids[:length].tolist()
                text = self._text(drawn[place], mark)
                ended = drawn[place][-1] in settings.stop or len(drawn[place]) >= most or cut(text, stops) != text
                going += [] if ended else [place]
            advance(len(left) - len(going))
            left, step, rounds = going, step * 2, rounds + 1
        self.tokens += sum(map(len, drawn))
        self.unended += sum(mark not in str(self.encoder.tokenizer.decode(ids)) for ids in drawn)
        return [cut(self._text(ids, mark), stops) for ids in drawn]

    def _text(self, ids: Sequence[int], mark: str) -> str:
        """The text of drawn ids behind a thought that ends in `mark`, which may be a special token; else of all."""
        if not mark:
            return str(self.encoder.tokenizer.decode(ids, skip_special_tokens=True))
        text = behind(str(self.encoder.tokenizer.decode(ids)), mark)
        for special in self.encoder.tokenizer.all_special_tokens:
            text = text.replace(special, "")
        return text

    @property
    def ends(self) -> tuple[int, ...]:
        """Ids that end a text: the tokenizer's end token and those of the model's generation_config."""
        config = getattr(self.model, "generation_config", None)
        stated = getattr(config, "eos_token_id", None)
        ids = [self.encoder.end, *(stated if isinstance(stated, list) else [stated])]
        return tuple(sorted({each for each in ids if each is not None and each < self.rows}))


def _part(settings: Sampling, new_tokens: int, rounds: int) -> Sampling:
    """The settings of one round of drawing; each has a random stream of its own."""
    return Sampling(
        new_tokens=new_tokens, temperature=settings.temperature, top_p=settings.top_p, top_k=settings.top_k,
        stop=settings.stop, seed=(settings.seed + rounds * 2**40) % 2**64,
    )  # fmt: skip
