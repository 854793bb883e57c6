"""The chat formats of well-known families, written for these tests; each renders what the family's own template does.

`trl` names the template of TRL that it must agree with, character by character (tests/trl_masks.json).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.chatting import CHATML


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """template: Jinja; specials: the special tokens, of which the first ends a text; bos: one of them, or empty;
    system: whether it takes a system prompt; trl: the name of TRL's template, empty where it has none; wider: whether
    TRL also learns the last token of the header of an answer, which a prompt already holds."""

    template: str
    specials: tuple[str, ...]
    bos: str = ""
    system: bool = True
    trl: str = ""
    wider: bool = False


def turns(
    begin: str, end: str, bos: str = "", role: str = "m.role", prompt: str = "assistant", trim: bool = False
) -> str:
    """A template whose turns are alike: `begin`, in which ROLE stands, the content and `end`."""
    header = begin.replace("ROLE", "{{ " + role + " }}")
    content = "{{ m.content | trim }}" if trim else "{{ m.content }}"
    opened = begin.replace("ROLE", prompt)
    return (
        f"{bos}{{% for m in messages %}}{header}{content}{end}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{opened}{{% endif %}}"
    )


BOS = "{{ bos_token }}"
CHATBOT = "({'user': '<|USER_TOKEN|>', 'assistant': '<|CHATBOT_TOKEN|>', 'system': '<|SYSTEM_TOKEN|>'})[m.role]"
MISTRAL = (
    BOS + "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }}[/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content }}{{ eos_token }}"
    "{% else %}{{ raise_exception('no such role') }}{% endif %}{% endfor %}"
)
BAR = "\uff5c"
"""the wide vertical line of DeepSeek's special tokens"""
DEEPSEEK = (
    BOS + "{% for m in messages if m.role == 'system' %}{{ m.content }}{% endfor %}{% for m in messages %}"
    "{% if m.role == 'user' %}<¦User¦>{{ m.content }}{% elif m.role == 'assistant' %}<¦Assistant¦>{{ m.content }}"
    "<¦end▁of▁sentence¦>{% endif %}{% endfor %}{% if add_generation_prompt %}<¦Assistant¦>{% endif %}"
).replace("¦", BAR)
IM = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
FORMATS: dict[str, Format] = {
    "qwen2.5": Format(template=CHATML, specials=IM, trl="qwen2_5", wider=True),
    "qwen3-instruct": Format(template=CHATML, specials=IM, trl="qwen3_instruct_2507"),
    "smollm2": Format(template=CHATML, specials=("<|im_end|>", "<|im_start|>", "<|endoftext|>")),
    "llama3": Format(
        template=turns("<|start_header_id|>ROLE<|end_header_id|>\n\n", "<|eot_id|>", BOS, trim=True),
        specials=("<|end_of_text|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        bos="<|begin_of_text|>", trl="llama3",
    ),
    "gemma": Format(
        template=turns("<start_of_turn>ROLE\n", "<end_of_turn>\n", BOS,
                       "'model' if m.role == 'assistant' else m.role", "model", trim=True),
        specials=("<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"), bos="<bos>", system=False, trl="gemma",
    ),
    "phi3": Format(
        template=turns("<|ROLE|>\n", "<|end|>\n").replace("{% endif %}", "{% else %}{{ eos_token }}{% endif %}"),
        specials=("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"), trl="phi3",
    ),
    "deepseek-v3": Format(
        template=DEEPSEEK, bos=f"<{BAR}begin▁of▁sentence{BAR}>", trl="deepseekv3", wider=True,
        specials=tuple(f"<{BAR}{name}{BAR}>" for name in ("end▁of▁sentence", "begin▁of▁sentence", "User", "Assistant")),
    ),
    "cohere": Format(
        template=turns("<|START_OF_TURN_TOKEN|>ROLE", "<|END_OF_TURN_TOKEN|>", BOS, CHATBOT, "<|CHATBOT_TOKEN|>",
                       trim=True),
        specials=("<|END_OF_TURN_TOKEN|>", "<BOS_TOKEN>", "<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>",
                  "<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>"),
        bos="<BOS_TOKEN>", trl="cohere",
    ),
    "mistral": Format(template=MISTRAL, specials=("</s>", "<s>"), bos="<s>", system=False),
}  # fmt: skip
TURNS: list[dict[str, Any]] = [
    {"role": "system", "content": "Answer in a word."},
    {"role": "user", "content": "Which memory is near?"},
    {"role": "assistant", "content": "SRAM, naïvely  said."},
    {"role": "user", "content": "And far?\n\nTell me."},
    {"role": "assistant", "content": "HBM."},
]


def conversation(form: Format) -> list[dict[str, Any]]:
    """The turns that a format takes."""
    return TURNS if form.system else TURNS[1:]
