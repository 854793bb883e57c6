"""Renders prompts with a model's chat template in an isolated process: a template is untrusted code and may not end.

Input: a line of JSON {"template": ..., "tokens": ...}, then one prompt per line.  Output: one line per prompt, its
text or {"refused": why}.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from flashstill.distill.isolated import Flooded, start
from flashstill.errors import BadInput, first_line

START_S, LONGEST_S = 60.0, 10.0
"""time limits: to import the renderer on a busy machine, and to render one prompt, which normally takes 1 ms"""
MOST_TEMPLATE_BYTES = 2**20


def as_chats(prompts: Sequence[str], template: str, tokens: Mapping[str, Any]) -> list[str]:
    """Each prompt as a user message followed by the start of an assistant message. tokens: special tokens by name.

    Raises BadInput for a template that fails, or exceeds the limits of time or memory.
    """
    job = json.dumps({"template": template, "tokens": dict(tokens)})
    if len(job) > MOST_TEMPLATE_BYTES:
        raise BadInput(f"the teacher's chat template has more than {MOST_TEMPLATE_BYTES // 1024} KiB, the limit")
    process = start(__name__)
    try:
        process.ask(job.encode(), START_S)
        return [_text(process.ask(json.dumps(prompt).encode(), LONGEST_S)) for prompt in prompts]
    except (TimeoutError, Flooded, EOFError) as error:
        raise BadInput(
            f"the teacher's chat template does not end within {LONGEST_S:g} s, or takes more memory or makes more text"
            " than a prompt is worth; it may loop"
        ) from error
    finally:
        process.end()


def _text(answer: bytes) -> str:
    reply = json.loads(answer)
    if isinstance(reply, dict):
        raise BadInput(f"the teacher's chat template cannot be used: {reply['refused']}")
    return str(reply)


def main() -> None:
    """Main loop of the isolated process: one output line per input line."""
    from transformers.utils.chat_template_utils import render_jinja_template

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    job = json.loads(sys.stdin.readline())
    print("true", file=answers, flush=True)
    for line in sys.stdin:
        chat = [[{"role": "user", "content": json.loads(line)}]]
        try:
            made = render_jinja_template(
                conversations=chat, chat_template=job["template"], add_generation_prompt=True, **job["tokens"]
            )
            reply: Any = (made[0] if isinstance(made, tuple) else made)[0]
        except Exception as error:  # a template can raise anything
            reply = {"refused": first_line(error)}
        print(json.dumps(reply), file=answers, flush=True)


if __name__ == "__main__":
    main()
