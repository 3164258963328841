#!/usr/bin/env bash
# bash dpo.sh NEMO_RL MODEL, where NEMO_RL is a checkout of NeMo-RL. Checked against the documentation of
# NeMo-RL 0.6.0 and the DPO config of its repository, and not run.
# What is not here is what examples/configs/dpo.yaml says; more overrides can follow MODEL.
set -euo pipefail
data=$(cd "$(dirname "$0")" && pwd)/data
cd "$1"
uv run examples/run_dpo.py \
    policy.model_name="$2" \
    policy.tokenizer.name="$2" \
{% if length %}
    policy.max_total_sequence_length={{ length }} \
{% endif %}
    ++data.train.dataset_name=PreferenceDataset \
    ++data.train.data_path="$data/train.jsonl" \
    ++data.train.split=train \
{% if test %}
    ++data.validation.dataset_name=PreferenceDataset \
    ++data.validation.data_path="$data/test.jsonl" \
    ++data.validation.split=train \
{% else %}
    data.validation=null \
    dpo.val_period=0 \
    dpo.val_at_start=false \
    checkpointing.metric_name=null \
{% endif %}
    "${@:3}"
