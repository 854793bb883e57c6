"""Train a student with TRL's GKD trainer, fully off-policy with the forward KL; one JSON line of what each step took.

TRL's own settings wherever they do not change the task: given windows in a given order, batch, rate, AdamW.
"""

import json
import sys
import tempfile
import time

import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl.experimental.gkd import GKDConfig, GKDTrainer
from turns import report, wait

asked = json.loads(sys.argv[1])
on_gpu = asked.get("device") == "cuda"
torch.set_num_threads(asked["threads"])
rows = load_file(asked["windows"])["tokens"].tolist()
held = {"bf16": torch.bfloat16, "mixed": torch.float32, "fp32": torch.float32}[asked["weights"]]  # of the student
student = AutoModelForCausalLM.from_pretrained(asked["student"], dtype=held)
taught_in = torch.float32 if asked["weights"] == "fp32" else torch.bfloat16
teacher = AutoModelForCausalLM.from_pretrained(asked["teacher"], dtype=taught_in)
tokenizer = AutoTokenizer.from_pretrained(asked["teacher"])
tokenizer.pad_token = tokenizer.eos_token


def collate(entries):
    tokens = torch.tensor([entry["input_ids"] for entry in entries])
    labels = tokens.clone()
    labels[:, 0] = -100  # every other token is a target
    first = tokens[:, :1]
    mask = torch.ones_like(tokens)
    return {
        "input_ids": tokens, "attention_mask": mask, "labels": labels,
        "prompts": first, "prompt_attention_mask": torch.ones_like(first),
    }  # fmt: skip


def finished():
    """A GPU computes what it was asked for while Python goes on; a step ends when it is done."""
    if on_gpu:
        torch.cuda.synchronize()


class Clock(TrainerCallback):
    def __init__(self):
        self.seconds, self.processor, self.losses = [], [], []

    def on_step_begin(self, *_, **__):
        wait()
        finished()
        self.started, self.begun = time.perf_counter(), time.process_time()

    def on_step_end(self, *_, **__):
        finished()
        self.seconds.append(time.perf_counter() - self.started)
        self.processor.append(time.process_time() - self.begun)

    def on_log(self, args, state, control, logs=None, **__):
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))


class InOrder(GKDTrainer):
    def _get_train_sampler(self, *_):
        return torch.utils.data.SequentialSampler(self.train_dataset)

    def create_scheduler(self, num_training_steps, optimizer=None):  # a warm-up that begins at its first step, as ours
        warmup = asked["warmup"]
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer or self.optimizer, lambda step: min(1.0, (step + 1) / warmup)
        )
        return self.lr_scheduler


clock = Clock()
with tempfile.TemporaryDirectory() as folder:
    config = GKDConfig(
        output_dir=folder, use_cpu=not on_gpu, bf16=asked["weights"] == "mixed",
        per_device_train_batch_size=asked["batch"],
        max_steps=asked["steps"], learning_rate=asked["rate"], lr_scheduler_type="constant", warmup_steps=0,
        weight_decay=0.0, adam_beta1=0.9, adam_beta2=0.95, max_grad_norm=1.0, optim="adamw_torch_fused",
        lmbda=0.0, beta=0.0, temperature=1.0, logging_steps=1, save_strategy="no", report_to=[], seed=0,
        gradient_checkpointing=False, dataloader_pin_memory=False, max_length=None, disable_tqdm=True,
    )  # fmt: skip
    trainer = InOrder(
        model=student, teacher_model=teacher, args=config, processing_class=tokenizer, callbacks=[clock],
        data_collator=collate, train_dataset=Dataset.from_dict({"input_ids": rows}),
    )  # fmt: skip
    trainer.train()
memory = {"peak_bytes": torch.cuda.max_memory_allocated()} if on_gpu else {}
report(step_s=clock.seconds, processor_s=clock.processor, loss=clock.losses, **memory)
