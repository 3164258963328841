"""Benchmark of building pairs, compared with a plain query and with pandas.

    python tests/benchmarks/pairs.py [PROMPTS] [FOLDER] [METHOD …]

The script creates a synthetic lake with 60,000 prompts by default, 7 answers of about 800
characters from each of past, current, and future, and 3 judgments per answer. It keeps the lake in
FOLDER for the next time. Each method then writes the pairs of the temporal policy with their texts
to Parquet, in a separate process:

    scan      only scans the texts, as a lower bound
    query     one plain DuckDB query over the same shards, which reads the texts once
    factory   the factory's D2 pairs and the dataset made from them
    command   the entire command `factory pairs`
    glue      datasets, pandas, a loop, and Dataset.from_list

The script prints the wall time, the CPU time (less affected by other work on the machine), and the
peak memory. Set FACTORY_BENCH_MEMORY=400MB to set the recipe's query_memory.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DRAWS, JUDGMENTS = 7, 3

RECIPE = """
name: bench
model: m0
prompts: {files: [prompts.jsonl]}
loop: {iterations: 1}
sampling: {draws: 7}
judge: {draws: 3}
engine: {name: scripted}
train: {with: scripted}
"""

WORDS = "the of and to in is it that was for on are as with they be at one have this from or had by"

TEXT = f"""
    list_aggregate(
        list_transform(
            range((120 + hash(request_id, draw) % 80)::bigint),
            lambda n: ['{"', '".join((WORDS + " pair judge answer model prompt score").split())}'][
                (1 + hash(request_id, draw, n) % 30)::int
            ]
        ),
        'string_agg', ' '
    )
"""

SAMPLES = f"""
select
    left(sha256(request_id || draw), 24) as sample_id,
    request_id,
    subject_id as prompt_id,
    draw,
    '{{model}}' as model,
    '{{key}}' as sampling,
    {TEXT} as text,
    null::varchar as tool_calls,
    null::varchar as reasoning,
    40::int as n_prompt_tokens,
    null::int as n_cached_tokens,
    (120 + hash(request_id, draw) % 80)::int as n_tokens,
    'stop' as finish_reason,
    null::double as cumulative_logprob,
    'script' as engine, '1' as engine_version, 'float32' as dtype,
    null::varchar as error, null::varchar as error_kind
from wanted
"""

JUDGED = """
select
    left(sha256(request_id || draw), 24) as judgment_id,
    request_id,
    subject_id as sample_id,
    null::varchar as other_id,
    context,
    draw,
    '{key}' as judge,
    '{model}' as judge_model,
    'It answers the question, and is clear in most places, but leaves a part of it out.'
    || chr(10) || 'Score: ' || (hash(subject_id) % 4 + hash(request_id, draw) % 3) as text,
    null::double as value,
    null::struct(label varchar, logprob double)[] as score_logprobs,
    null::varchar as reasoning,
    200::int as n_prompt_tokens, null::int as n_cached_tokens, 20::int as n_tokens,
    'stop' as finish_reason, null::double as cumulative_logprob,
    'script' as engine, '1' as engine_version, 'float32' as dtype,
    null::varchar as error, null::varchar as error_kind
from wanted
"""

VERDICTS = """
select
    judgment_id, sample_id, draw, judge, '{key}' as parser,
    (regexp_extract(text, 'Score: (\\d)', 1))::double as score,
    null::double as expected_score, null::varchar as reason
from judgments semi join scope_placed using (sample_id)
"""

MAKE = {"samples": SAMPLES, "judgments": JUDGED, "verdicts": VERDICTS}


def make(folder: Path, n_prompts: int) -> None:
    """Create a recipe and its lake, with all steps before the D2 pairs."""
    from factory.lake import Lake
    from factory.plan import RecipeState, folder_of, inspect_step, open_recipe, steps
    from factory.progress import Lines
    from factory.recipe import load_recipe
    from factory.run.tabular import make_pairs, make_prompts
    from factory.train import train_model

    (folder / "m0").mkdir(parents=True)
    (folder / "m0" / "scripted.json").write_text("{}")
    lines = (
        json.dumps({"prompt": f"Question {n}: what is to be said of it?"}) for n in range(n_prompts)
    )
    (folder / "prompts.jsonl").write_text("\n".join(lines))
    (folder / "recipe.yaml").write_text(RECIPE)
    recipe, progress = load_recipe(folder / "recipe.yaml"), Lines()
    state = RecipeState.of(open_recipe(recipe, Lake(folder / "lake")))
    for step in steps(recipe):
        found = inspect_step(state, step)
        if (step.stage, step.phase) == ("pairs", "D2"):
            break
        if step.stage == "prompts":
            make_prompts(state, found, progress)
        elif step.stage == "pairs":
            make_pairs(state, found, progress)
        elif step.stage == "train":
            with folder_of(found).lock("bench", print) as lock:
                train_model(state, found, lock, progress)
        else:
            write(state, found)
            print(f"  {step.label}", flush=True)
        inspect_step(state, step)
    state.save_caches()


def write(state, found) -> None:
    """Write synthetic rows of a step that would generate text, in shards of 5,000 rows."""
    from factory.lake import TABLES
    from factory.plan import folder_of

    step, folder = found.step, folder_of(found)
    schema = TABLES[step.stage]
    folder.create(found.settings)
    model = state.models[step.judge or step.name].digest
    views = state.step_views(found, None)
    query = MAKE[step.stage].format(model=model, key=folder.key)
    for batch in views.con.sql(query).to_arrow_reader(5000):
        folder.append_batches(schema, iter([batch.select(schema.names).cast(schema)]))


# Methods


def by_factory(folder: Path) -> Iterator[int]:
    from factory.export import dataset_rows, write_dataset
    from factory.plan import Step, folder_of, inspect_step
    from factory.progress import Silent
    from factory.run.tabular import make_pairs

    step = Step("pairs", 0, phase="D2")
    state = inspected(folder)
    for shard in folder_of(state.steps[step]).shards():
        shard.unlink()
    found = inspect_step(state, step)
    yield 0
    make_pairs(state, found, Silent())
    inspect_step(state, step)
    dataset = write_dataset(state, "bench")
    rows = sum(dataset_rows(dataset).values())
    yield rows
    shutil.rmtree(dataset)


def inspected(folder: Path) -> Any:
    """Return the state of a run just before it builds the D2 pairs.

    Rebuild the D1 pairs if another version of the factory has built those in the lake.
    """
    from factory.lake import Lake
    from factory.plan import RecipeState, inspect_step, open_recipe, steps
    from factory.progress import Silent
    from factory.recipe import load_recipe
    from factory.run.tabular import make_pairs

    memory = os.environ.get("FACTORY_BENCH_MEMORY")
    limit = [] if memory is None else [f"query_memory={memory}"]
    recipe = load_recipe(folder / "recipe.yaml", limit)
    state = RecipeState.of(open_recipe(recipe, Lake(folder / "lake")))
    for step in steps(recipe):
        found = inspect_step(state, step)
        if step.phase == "D2":
            break
        if step.stage == "pairs" and not found.done:
            make_pairs(state, found, Silent())
            inspect_step(state, step)
    state.save_caches()
    return state


def by_command(folder: Path) -> Iterator[int]:
    """Run the command `factory pairs` in a separate process."""
    lake = folder / "lake"
    words = ["pairs", str(folder / "recipe.yaml"), "--lake", str(lake), "--name", "bench"]
    for old in lake.glob("datasets/*"):
        shutil.rmtree(old)
    yield 0
    new = f"pairs.min_margin={time.time() * 1e-12}"  # a new key each time, but the same pairs
    command = [sys.executable, "-m", "factory.cli", *words, "--set", new, "--json"]
    subprocess.run(command, check=True, capture_output=True)
    (dataset,) = lake.glob("datasets/*")
    import pyarrow.parquet as pq

    yield sum(pq.read_metadata(file).num_rows for file in dataset.glob("data/*.parquet"))


PLAIN = """
copy (
    with scores as (
        select sample_id, avg(score) as score
        from read_parquet('{lake}/verdicts/*/*.parquet') group by sample_id
    ),

    scored as (
        select prompt_id, sample_id, score,
            case
                when model = '{future}' then 'future' when draw >= 1024 then 'past' else 'current'
            end as role, draw
        from read_parquet('{lake}/samples/*/*.parquet') join scores using (sample_id)
    ),

    sides as (
        select prompt_id,
            min({{'o': -score, 'd': draw, 'id': sample_id}}) filter (role = 'current') as best_c,
            min({{'o': -score, 'd': draw, 'id': sample_id}}) filter (role = 'future') as best_f,
            min({{'o': score, 'd': draw, 'id': sample_id}}) filter (role = 'current') as worst_c,
            min({{'o': score, 'd': draw, 'id': sample_id}}) filter (role = 'past') as worst_p
        from scored group by prompt_id
    ),

    pairs as (
        select prompt_id, if(best_f.o < best_c.o, best_f, best_c) as best,
            if(worst_p.o < worst_c.o, worst_p, worst_c) as worst
        from sides
    ),

    texts as materialized (
        select sample_id, text from read_parquet('{lake}/samples/*/*.parquet')
        semi join (select unnest([best.id, worst.id]) as sample_id from pairs) using (sample_id)
    )

    select messages, chosen.text as chosen, rejected.text as rejected,
        -best.o as score_chosen, worst.o as score_rejected
    from pairs
    join read_parquet('{lake}/prompts/*/*.parquet') as prompts using (prompt_id)
    join texts as chosen on chosen.sample_id = best.id
    join texts as rejected on rejected.sample_id = worst.id
    where -best.o > worst.o and chosen.text != rejected.text
) to '{out}' (format parquet, compression zstd)
"""


def by_query(folder: Path) -> Iterator[int]:
    import duckdb

    out = folder / "plain.parquet"
    future = sampled_by(folder)
    yield 0
    duckdb.sql("set preserve_insertion_order = false")
    duckdb.sql(PLAIN.format(lake=folder / "lake", out=out, future=future))
    yield int(duckdb.sql(f"select count(*) from '{out}'").fetchall()[0][0])


def sampled_by(folder: Path) -> str:
    """Return the digest of the model in the role `future`, which has the fewest samples."""
    import duckdb

    files = folder / "lake" / "samples" / "*" / "*.parquet"
    (row,) = duckdb.sql(
        f"select model from '{files}' group by model order by count(*) limit 1"
    ).fetchall()
    return row[0]


def by_scan(folder: Path) -> Iterator[int]:
    import duckdb

    yield 0

    files = folder / "lake" / "samples" / "*" / "*.parquet"
    yield int(duckdb.sql(f"select sum(length(text)) from '{files}'").fetchall()[0][0])


def by_glue(folder: Path) -> Iterator[int]:
    import datasets
    import pandas as pd

    yield 0

    lake, future = folder / "lake", sampled_by(folder)

    def frame(table: str) -> pd.DataFrame:
        files = sorted(map(str, (lake / table).glob("*/*.parquet")))
        loaded = datasets.load_dataset(
            "parquet", data_files=files, split="train", cache_dir=str(folder / "cache")
        )
        return loaded.to_pandas()

    scores = frame("verdicts").groupby("sample_id")["score"].mean()
    samples = frame("samples")
    samples["score"] = samples["sample_id"].map(scores)
    prompts = frame("prompts").set_index("prompt_id")["messages"]
    rows = []
    for prompt, group in samples.groupby("prompt_id"):
        past = group[(group.model != future) & (group.draw >= 1024)]
        current = group[(group.model != future) & (group.draw < 1024)]
        coming = group[group.model == future]
        chosen, rejected = current.loc[current.score.idxmax()], current.loc[current.score.idxmin()]
        if coming.score.max() > chosen.score:
            chosen = coming.loc[coming.score.idxmax()]
        if past.score.min() < rejected.score:
            rejected = past.loc[past.score.idxmin()]
        if chosen.score > rejected.score and chosen.text != rejected.text:
            rows.append(
                {
                    "prompt": list(prompts[prompt]),
                    "chosen": [{"role": "assistant", "content": chosen.text}],
                    "rejected": [{"role": "assistant", "content": rejected.text}],
                    "score_chosen": chosen.score,
                    "score_rejected": rejected.score,
                }
            )
    datasets.Dataset.from_list(rows).to_parquet(str(folder / "glue.parquet"))
    yield len(rows)


WAYS = {
    "scan": by_scan,
    "query": by_query,
    "factory": by_factory,
    "command": by_command,
    "glue": by_glue,
}
"""Generators of the methods. Each first yields 0 when it is ready, and then its number of rows."""


CHILD = """
import resource, sys, time
from pathlib import Path
import pairs

way = pairs.WAYS[sys.argv[1]](Path(sys.argv[2]))
next(way)
who = resource.RUSAGE_CHILDREN if sys.argv[1] == "command" else resource.RUSAGE_SELF
before, began = resource.getrusage(who), time.perf_counter()
n = next(way)
seconds = time.perf_counter() - began
cores = before.ru_utime + before.ru_stime
used = resource.getrusage(who)
print(n, seconds, used.ru_utime + used.ru_stime - cores, used.ru_maxrss / 1024)
next(way, None)
"""


def measured(way: str, folder: Path) -> tuple[int, float, float, float]:
    """Run a method in a separate process.

    Return its number of rows, wall time and CPU time in seconds, and peak memory in MB.
    """
    done = subprocess.run(
        [sys.executable, "-c", CHILD, way, str(folder)],
        cwd=Path(__file__).parent,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    n, seconds, cores, peak = done.stdout.splitlines()[-1].split()
    return int(n), float(seconds), float(cores), float(peak)


def main() -> None:
    n_prompts = int(sys.argv[1]) if len(sys.argv) > 1 else 60_000
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[2] if len(sys.argv) > 2 else temporary).resolve()
        if not (folder / "recipe.yaml").exists():
            make(folder, n_prompts)
        print(f"{n_prompts:,} prompts, {n_prompts * 21:,} answers, {n_prompts * 63:,} judgments")
        for way in sys.argv[3:] or [*["scan", "query", "factory", "command"] * 3, "glue"]:
            n, seconds, cores, peak = measured(way, folder)
            said = f"{way:<8} {seconds:>7.2f} s {cores:>7.2f} CPU s {peak:>7,.0f} MB  {n:,}"
            print(said, flush=True)


if __name__ == "__main__":
    main()
