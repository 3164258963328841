#!/usr/bin/env bash
# bash dpo.sh MODEL, from this folder. Checked with OpenRLHF 0.11.2.
# What is not here is OpenRLHF's default; more options can follow MODEL.
set -euo pipefail
deepspeed --module openrlhf.cli.train_dpo \
    --model.model_name_or_path "$1" \
    --ckpt.output_dir model \
    --data.dataset data \
    --data.dataset_split train \
    --data.apply_chat_template \
    --data.prompt_key prompt \
    --data.chosen_key chosen \
    --data.rejected_key rejected \
{% if length %}
    --data.max_len {{ length }} \
{% endif %}
{% if test %}
    --eval.dataset data \
    --eval.split test \
{% endif %}
    "${@:2}"
