"""Which tokens TRL learns of a conversation: `python benchmarks/peers/trl_masks.py > tests/trl_masks.json`.

Runs in an environment of its own, with `pip install trl` (and this repository on PYTHONPATH).  For the chat formats of
tests/chat_formats.py TRL's SFTTrainer prepares the conversation twice, with its own template of the family where it has
one: as messages with assistant_only_loss, and as a prompt with its completion.  The tokenizer has one token a byte, so
that text and mask (one digit a token) say everything.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import trl
from datasets import Dataset
from tests.chat_formats import FORMATS, Format, conversation
from tests.chatting import byte_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM


def prepared(form: Format, row: dict[str, Any], **settings: Any) -> tuple[list[int], str]:
    """Token ids, and the mask of what is learned, of the only row of a data set as SFTTrainer prepares it."""
    tokenizer = byte_tokenizer(form.specials, template_of(form), form.bos)
    tokenizer.pad_token = form.specials[0]
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        asked = trl.SFTConfig(output_dir=folder, report_to="none", use_cpu=True, bf16=False, **settings)
        trainer = trl.SFTTrainer(
            LlamaForCausalLM(config), args=asked, train_dataset=Dataset.from_list([row]), processing_class=tokenizer
        )
        batch = next(iter(trainer.get_train_dataloader()))
    ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
    return ids, "".join("0" if label == -100 else "1" for label in labels)


def template_of(form: Format) -> str:
    """TRL's own copy of the family's template, if it has one."""
    if not form.trl:
        return form.template
    return (Path(trl.__file__).parent / "chat_templates" / f"{form.trl}.jinja").read_text(encoding="utf-8")


def main() -> None:
    """Print the masks of all formats as JSON."""
    found: dict[str, Any] = {}
    for name, form in FORMATS.items():
        messages = conversation(form)
        ids, completion = prepared(form, {"prompt": messages[:-1], "completion": messages[-1:]})
        assistant = ""
        if form.trl:
            own, assistant = prepared(form, {"messages": messages}, assistant_only_loss=True)
            assert own == ids, name
        text = byte_tokenizer(form.specials, form.template, form.bos).decode(ids)
        found[name] = {"text": text, "completion": completion, "assistant": assistant}
    names = ("trl", "transformers", "datasets")
    print(json.dumps({"versions": {name: version(name) for name in names}, "formats": found}, indent=1))


if __name__ == "__main__":
    main()
