"""Small task files of lm-eval with local data."""

from __future__ import annotations

import json
from pathlib import Path

ITEMS = [
    {"question": "What holds the token?", "choices": ["the cache", "a spoon", "nothing"], "label": 0, "answer": "the"},
    {"question": "What reads weights?", "choices": ["a cloud", "a chip", "green"], "label": 1, "answer": "a chip"},
    {"question": "What is a word?", "choices": ["seven", "bread", "a token"], "label": 2, "answer": "a token"},
    {"question": "What has two ends?", "choices": ["a bus", "a line", "it"], "label": 1, "answer": "a line"},
]
COLOURS = """task: colours
dataset_path: json
dataset_kwargs: {data_files: {test: items.jsonl, train: items.jsonl}}
test_split: test
fewshot_split: train
num_fewshot: 1
output_type: multiple_choice
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_choice: choices
doc_to_target: label
metric_list: [{metric: acc}, {metric: acc_norm}]
"""
TEXTS = """task: texts
dataset_path: json
dataset_kwargs: {data_files: {test: items.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 12}
metric_list: [{metric: exact_match, ignore_case: true}]
filter_list:
  - {name: first-word, filter: [{function: regex, regex_pattern: "(\\\\w+)"}, {function: take_first}]}
"""
ROLLING = """task: rolling
dataset_path: json
dataset_kwargs: {data_files: {test: items.jsonl}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{question}}"
metric_list: [{metric: bits_per_byte}, {metric: word_perplexity}]
"""


def write_task(folder: Path, text: str, name: str = "task.yaml") -> Path:
    """A task file and its data in a folder."""
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in ITEMS), encoding="utf-8")
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name
