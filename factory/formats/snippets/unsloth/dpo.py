"""python dpo.py MODEL, from this folder. Checked against the code of Unsloth 2026.10.9, and not run."""

import sys

from unsloth import FastLanguageModel  # before trl, which it changes

from datasets import load_dataset
from trl import DPOConfig, DPOTrainer

MAX_LENGTH = {{ length or 2048 }}{% if length %}  # the longest pair has {{ longest }} tokens of the model that made it{% endif %}


pairs = load_dataset("data")
model, tokenizer = FastLanguageModel.from_pretrained(sys.argv[1], max_seq_length=MAX_LENGTH)
model = FastLanguageModel.get_peft_model(model)
trainer = DPOTrainer(
    model=model,
    ref_model=None,  # the model without its adapter
    args=DPOConfig(
        output_dir="model",
        max_length=MAX_LENGTH,
{% if test %}
        eval_strategy="epoch",
{% endif %}
    ),
    train_dataset=pairs["train"],
{% if test %}
    eval_dataset=pairs["test"],
{% endif %}
    processing_class=tokenizer,
)
trainer.train()
trainer.save_model("model")
