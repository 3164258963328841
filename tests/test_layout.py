"""The layout: packages import each other through their faces, and read-only commands stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import factory

ROOT = Path(factory.__file__).parent
TESTS = Path(__file__).parent
PACKAGES = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))


def names_of(package: str) -> list[str]:
    """The names in a package's `__all__`."""
    tree = ast.parse((ROOT / package / "__init__.py").read_text())
    (names,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    return names


def modules_of(package: str) -> set[str]:
    folder = ROOT / package
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "__main__"}
    return files | {path.parent.name for path in folder.glob("*/__init__.py")}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_face_has_a_docstring_and_lists_its_names_in_order(package):
    tree = ast.parse((ROOT / package / "__init__.py").read_text())
    assert ast.get_docstring(tree)
    names = names_of(package)
    assert names == sorted(
        names, key=lambda name: (not name.isupper(), not name[0].isupper(), name)
    )
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_name_of_a_face_is_the_name_of_a_module(package):
    assert set(names_of(package)) & modules_of(package) == set()


@pytest.mark.parametrize(
    "path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_packages_import_each_other_through_their_faces(path):
    own = path.relative_to(ROOT).parts[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("factory."):
            continue
        _, package, *inside = node.module.split(".")
        if package in PACKAGES and package != own:
            allowed = {*names_of(package), *modules_of(package)}
            assert not inside, f"{node.module}: import from factory.{package}"
            assert {alias.name for alias in node.names} <= allowed


def test_no_test_imports_from_a_test():
    for path in TESTS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            assert not any(name.split(".")[-1].startswith("test_") for name in names), path


OTHERS = ["plan", "sql", "trace", "diff", "verify"]
"""The other commands that only read."""


def test_tests_mirror_the_packages():
    folders = {path.parent.name for path in TESTS.glob("*/test_*.py")} - {"campaign"}
    assert folders <= set(PACKAGES)
    # What `recipe` to `cli` do is tested under their own names.
    assert set(PACKAGES) - folders == set()


@pytest.mark.parametrize(
    "verb",
    ["status", *(pytest.param(verb, marks=pytest.mark.slow) for verb in OTHERS)],
)
def test_commands_that_only_read_do_not_import_the_runner(toy, verb):
    toy.finish()
    (pair, *_) = toy.query("from pairs")
    lake = ["--lake", str(toy.lake)]
    arguments = {
        "sql": [str(toy.path), "from gaps", *lake],
        "trace": [pair["pair_id"], *lake],
        "diff": [str(toy.path), str(toy.path), *lake],
        "verify": lake,
    }
    command = ["factory", verb, *arguments.get(verb, [str(toy.path), *lake])]
    code = (
        f"import sys; sys.argv = {command!r}\n"
        "from factory.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "loaded = sorted(name for name in sys.modules if name.startswith('factory.run'))\n"
        "print('runner:', loaded, file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stderr.strip().endswith("runner: []"), ran.stderr


# the architecture page

PAGE = ROOT / "README.md"


def test_the_architecture_page_is_short_and_has_a_diagram():
    lines = PAGE.read_text().splitlines()
    assert len(lines) <= 120
    assert any(line.startswith("```mermaid") for line in lines)


def test_the_tree_on_the_page_is_the_folders():
    tree = PAGE.read_text().split("```text\n")[1].split("```")[0]
    listed, package = set(), ""
    for line in tree.splitlines()[1:]:
        indent, words = len(line) - len(line.lstrip()), line.split()
        if indent == 2:
            package = words[0] if words[0].endswith("/") else ""
            listed.add(package)
        listed |= {package + word for word in words if word.endswith(".py")}
    folders = {f"{package}/" for package in PACKAGES}
    files = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        if path.name not in ("__init__.py", "__main__.py")
    }
    assert listed - {""} == folders | files


# other people's files

PYTHON = sorted(ROOT.rglob("*.py"))


def calls(path):
    """Yield the name of each called function or method, and the call."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_transformers_never_runs_the_code_of_a_model_folder():
    for path in PYTHON:
        for name, call in calls(path):
            of_peft = any(word in name for word in ("Peft", "Lora"))
            if name.endswith((".from_pretrained", ".from_config")) and not of_peft:
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
                assert given.get("trust_remote_code") == "False", f"{path}:{call.lineno}"


def test_only_one_module_builds_the_sql_that_reads_files():
    """`read_parquet` in sql_text.py ignores what folder names seem to say."""
    reading = ("read_parquet(", "read_csv(", "read_json(", "parquet_scan(")
    places = {
        path.name
        for path in [*PYTHON, *ROOT.rglob("*.sql")]
        for line in path.read_text().splitlines()
        if any(f"from {word}" in line or f'"{word}' in line for word in reading)
    }
    assert places <= {"sql_text.py"}


def test_only_one_module_parses_yaml():
    """StrictLoader refuses keys that are given twice, and aliases that grow without end."""
    places = {path.name for path in PYTHON for name, _ in calls(path) if name == "yaml.load"}
    assert places == {"input_files.py"}
    lenient = {path.name for path in PYTHON for name, _ in calls(path) if "safe_load" in name}
    assert lenient <= {"card_metadata.py"}  # a published card may repeat a key


def test_recipes_rubrics_and_policies_are_read_by_input_files():
    """It refuses pipes, devices, and files without an end."""
    for package in ("recipe", "pairs", "stages"):
        for path in (ROOT / package).rglob("*.py"):
            for name, _ in calls(path):
                if name.endswith(".read_text"):  # files that ship with the factory
                    is_shipped = name.split(".")[0] in ("file", "shipped", "recipe")
                    assert is_shipped or path.name == "starters.py", f"{path}: {name}"


def test_only_one_module_opens_databases():
    places = {path.name for path in PYTHON for name, _ in calls(path) if name == "duckdb.connect"}
    assert places <= {"database.py"}
    assert "connect" in {name for name, _ in calls(ROOT / "lake" / "database.py")}


WRITING = {"hardlink_to", "rename", "symlink_to", "touch", "write_bytes", "write_text"}
"""Methods of paths that write."""

WRITING_OS = {"link", "mkdir", "open", "remove", "rename", "replace", "symlink", "truncate"}
"""Functions of the module os that write."""


def test_only_one_module_writes_files():
    """factory.files never follows a link, and never replaces or removes a user's file."""
    for path in PYTHON:
        for name, call in calls(path):
            of, _, last = name.rpartition(".")
            words = [word.value for word in call.args if isinstance(word, ast.Constant)]
            modes = [
                word for word in words if isinstance(word, str) and set(word) <= set("abrtwx+")
            ]
            writes = (
                (last in WRITING and of)
                or (last in WRITING_OS and of == "os")
                or (last == "open" and any(set(mode) & set("aw+") for mode in modes))
            )
            is_allowed = path.name == "files.py" or (path.name, name) == (
                "input_files.py",
                "os.open",
            )
            assert not writes or is_allowed, f"{path}:{call.lineno}: {name}"


def test_only_one_module_expands_a_user_s_paths():
    """factory.paths refuses paths that no file can have."""
    for path in PYTHON:
        for name, call in calls(path):
            is_expanding = name.endswith((".expanduser", "expandvars"))
            assert not is_expanding or path.name == "paths.py", f"{path}:{call.lineno}: {name}"


def test_every_request_to_the_hub_is_retried_and_its_errors_are_explained():
    """`_call` of Repository does both. The methods named here are only called through it."""
    through_call = {"_upload_some", "_send", "_ask_for_storage"}
    hub = ROOT / "publish" / "hub.py"
    assert {path for path in PYTHON for name, _ in calls(path) if name == "HfApi"} == {hub}

    def requests(node, is_wrapped):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Call) and not is_wrapped:
                name = ast.unparse(child.func)
                if name.startswith(("self._api.", "get_session")):
                    yield f"{name} in line {child.lineno}"
            is_inside = isinstance(child, ast.FunctionDef) and child.name in through_call
            is_nested = isinstance(node, ast.FunctionDef) and isinstance(child, ast.FunctionDef)
            wraps = is_inside or is_nested or isinstance(child, ast.Lambda)
            yield from requests(child, is_wrapped or wraps)

    assert list(requests(ast.parse(hub.read_text()), False)) == []


def test_only_one_module_reads_the_replies_of_servers():
    """Any field of a reply can be absent or of any type; `openai_replies.py` checks the types."""
    parsing = ("loads", "from_json", "json", "model_validate", "model_validate_json")
    paths = [*ROOT.glob("engines/openai*.py"), ROOT / "plan" / "server.py"]
    places = {
        path.name for path in paths for name, _ in calls(path) if name.split(".")[-1] in parsing
    }
    assert places == {"openai_replies.py"}
    sending = {
        path.name
        for path in PYTHON
        for line in path.read_text().splitlines()
        if line.strip() in ("import aiohttp", "import openai")
    }
    assert sending == {"openai.py", "openai_client.py"}


# texts that other people wrote


def test_rich_gets_texts_without_markup():
    """A str that rich prints may contain markup such as `[red]`, so it gets a Text."""
    places = {path for path in PYTHON if "from rich" in path.read_text()}
    assert {path.name for path in places} == {"progress.py", "tables.py"}
    for path in places:
        for name, call in calls(path):
            drawn = ast.unparse(call.args[0]) if call.args else ""
            options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            if name.endswith((".add_column", ".add_row", "console.print")):
                is_plain = options.get("markup") == "False"
                assert is_plain or drawn.startswith(("Text(", "*map(Text,")) or drawn == "drawn"


def test_only_checked_results_of_engines_become_rows():
    callers = {
        path.name
        for path in PYTHON
        for name, _ in calls(path)
        if name in ("engine.generate", "self._engine.generate", "opened.generate")
    }
    assert callers == {"results.py", "worker.py"}


def test_cards_are_rendered_by_the_renderer_that_escapes_values():
    for path in PYTHON:
        names = {name for name, _ in calls(path)}
        if '"card.md"' in path.read_text():
            assert "render_card_template" in names
            assert "render_template" not in names


def test_only_the_boundary_reads_text_files_of_the_user():
    """`decode_text` skips byte order marks, and names the line that is not UTF-8."""
    handlers = {
        path.relative_to(ROOT).as_posix()
        for path in PYTHON
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler)
        and node.type
        and "UnicodeDecodeError" in ast.unparse(node.type)
    }
    assert handlers == {"texts/reading.py", "stages/prompts/lines.py", "models/templates.py"}
