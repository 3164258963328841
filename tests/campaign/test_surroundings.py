"""Odd paths, functions, servers' replies, and environments."""

import json
import os
import shutil
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from campaign.case import Case, Kind, change_json, json_hostile, mangle, show
from campaign.forks import UNSET

# paths

NAMES = (
    "reference=birch",
    "license=GPL",
    "prompt_id=1",
    "a=b",
    "run[1]",
    "run{1,2}",
    "run*",
    "run?",
    "**",
    "it's",
    'say "hi"',
    "a b",
    " a",
    "a ",
    "-x",
    "--lake",
    "$HOME",
    "$(touch pwned)",
    "`x`",
    "a;b",
    "a&b",
    "a|b",
    "a#b",
    "a%20b",
    "a:b",
    "a,b",
    "é",
    "e\u0301",
    "日本語",
    "\u202eabc",
    "a\nb",
    "a\tb",
    "\x1b[31m",
    "~",
    "~x",
    "%s",
    "{x}",
    "\\",
    "a\\b",
    ".hidden",
    "..x",
    "con",
    "x" * 200,
    "deep/" * 60 + "x",
    "null",
    "s3:x",
    "hf:x",
    "https:x",
    "a.parquet",
    "file.yaml",
    "\udcff",
)


def _good_name(case: Case) -> None:
    """A valid folder with an odd name: every path below must mean this folder."""
    name = case.pick(NAMES)
    case.note("name:", show(name))
    match case.rng.randrange(4):
        case 0:
            case.lake = case.base / "lakes" / name
            case.outs = [case.base / "lakes"]
        case 1:
            folder = case.base / "odd" / name
            folder.parent.mkdir()
            shutil.copytree(case.toy.folder, folder)
            case.toy.folder, case.toy.path = folder, folder / "recipe.yaml"
            case.lake = folder / "lake"
            case.cwd = folder
        case 2:
            path = case.toy.folder / f"{name}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            case.toy.prompts.rename(path)
            case.toy.fields["prompts"]["files"] = [f"{name}.jsonl"]
            case.write_recipe()
        case _:
            shutil.copytree(case.toy.folder / "m0", case.toy.folder / "models" / name)
            case.toy.fields["model"] = f"models/{name}"
            case.write_recipe()


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path) -> None:
    (path / "x").mkdir(parents=True)


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _dangling(path: Path) -> None:
    path.symlink_to("missing")


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _empty(path: Path) -> None:
    path.touch()


def _self(path: Path) -> None:
    path.symlink_to(".")


def _nothing(path: Path) -> None:
    pass


MAKERS = (_fifo, _folder, _loop, _dangling, _device, _empty, _self, _nothing)


def _bad_file(case: Case) -> None:
    """Something else in the place of one of the recipe's files."""
    name = case.pick(
        (
            "recipe.yaml",
            "prompts.jsonl",
            "m0",
            "m0/scripted.json",
            "gold.py",
            "own.md",
            "own.sql",
            "lake",
        )
    )
    case.write("own.md", "---\nscale: [0, 5]\nparser: '(\\d)'\n---\n{prompt} {answer}\n")
    case.write("own.sql", "-- Roles: current\nselect 1\n")
    match name:
        case "own.md":
            case.toy.write(judge={"rubric": name})
        case "gold.py":
            case.toy.fields["judge"] = {"function": "gold.py:grade"}
        case "own.sql":
            case.toy.write(loop={"policy": name})
    case.write_recipe()
    path = case.toy.folder / name
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()
    make = case.pick(MAKERS if name != "lake" else [make for make in MAKERS if make != _self])
    make(path)
    case.note(name, "is", make.__name__.strip("_"))
    if name == "lake":
        case.outs = [path]


PATHS = (
    "",
    " ",
    ".",
    "..",
    "/",
    "/dev/null",
    "/dev/null/x",
    "/dev/zero",
    "/dev/stdin",
    "/proc/self/mem",
    "/etc/shadow/x",
    "~",
    "~nobody/x",
    "~no_such_user/x",
    "x" * 300,
    "x/" * 3000,
    "prompts.jsonl/x",
    "recipe.yaml",
    "missing",
    "missing/x",
    "file:///tmp/x",
    "https://example.com/x",
    "s3://bucket/x",
    "*.jsonl",
    "prompts.jsonl\x00",
    "\udcff",
)


def _bad_path(case: Case) -> None:
    """A path that leads nowhere, in a field or as an option."""
    path = case.pick(PATHS)
    place = case.pick(
        ("prompts", "probe", "model", "adapter", "rubric", "policy", "lake", "recipe")
    )
    case.note(place, "=", show(path))
    fields = case.toy.fields
    match place:
        case "prompts":
            fields["prompts"]["files"] = [path]
        case "probe":
            fields["probe"] = {"files": [path], "function": "gold.py:grade"}
        case "model":
            fields["model"] = path
        case "adapter":
            fields["model"] = {"path": "m0", "adapter": path}
        case "rubric":
            fields["judge"]["rubric"] = path
        case "policy":
            fields["loop"]["policy"] = path
    case.write_recipe()
    if "\x00" in path:
        return
    recipe, lake = str(case.toy.path), str(case.toy.lake)
    if place == "lake":
        case.commands = [[case.pick(("plan", "status")), recipe, "--lake", path]]
    if place == "recipe":
        case.commands = [[case.pick(("plan", "run", "status")), path, "--lake", lake]]


def paths(case: Case) -> None:
    case.pick((_good_name, _good_name, _bad_file, _bad_path))(case)
    case.may_stop = True
    case.answers_are_words = False


# judge functions, and scripts of the scripted engine

FUNCTIONS = (
    "def grade(rows):\n    return {value}\n",
    "def grade(rows):\n    return [{value} for row in rows]\n",
    "def grade(rows):\n    return [1.0] * (len(rows) + 1)\n",
    "def grade(rows):\n    return []\n",
    "def grade(rows):\n    yield 1.0\n",
    "def grade(rows):\n    yield from (1.0 for row in rows)\n",
    "def grade(rows):\n    raise ValueError('\\ud800 no')\n",
    "def grade(rows):\n    raise SystemExit(3)\n",
    "def grade(rows):\n    raise KeyboardInterrupt\n",
    "def grade(rows):\n    raise MemoryError\n",
    "def grade(rows):\n    raise RecursionError('deep')\n",
    "def grade(rows):\n    return grade(rows)\n",
    "import os\ndef grade(rows):\n    os._exit(0)\n",
    "import os\ndef grade(rows):\n    os.kill(os.getpid(), 9)\n",
    "import os\ndef grade(rows):\n    os.abort()\n",
    "import time\ndef grade(rows):\n    time.sleep(1000)\n",
    "import time\ntime.sleep(1)\ndef grade(rows):\n    return [1.0 for row in rows]\n",
    "def grade(rows):\n    print('x' * 1000000)\n    return [1.0 for row in rows]\n",
    "import os\ndef grade(rows):\n    os.write(1, b'noise')\n    return [1.0 for row in rows]\n",
    "import os\ndef grade(rows):\n    os.closerange(0, 64)\n    return [1.0 for row in rows]\n",
    "import sys\nsys.stdout.close()\ndef grade(rows):\n    return [1.0 for row in rows]\n",
    (
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(1000,)).start()\n"
        "def grade(rows):\n    return [1.0 for row in rows]\n"
    ),
    (
        "import atexit, time\natexit.register(time.sleep, 1000)\n"
        "def grade(rows):\n    return [1.0 for row in rows]\n"
    ),
    (
        "import subprocess\nsubprocess.Popen(['sleep', '1000'])\n"
        "def grade(rows):\n    return [1.0 for row in rows]\n"
    ),
    "import no_such_module\ndef grade(rows):\n    return [1.0 for row in rows]\n",
    "raise RuntimeError('on import')\ndef grade(rows):\n    return [1.0 for row in rows]\n",
    "import sys\nsys.exit(0)\ndef grade(rows):\n    return [1.0 for row in rows]\n",
    "def grade():\n    return 1\n",
    "def grade(rows, more):\n    return 1\n",
    "def grade(rows, *, more):\n    return 1\n",
    "async def grade(rows):\n    return [1.0]\n",
    "grade = 3\n",
    "class grade:\n    pass\n",
    "grade = lambda rows: [1.0 for row in rows]\n",
    "def grade(rows:\n",
    "def grade(rows):\n\treturn [1.0 for row in rows]\n        # spaces\n",
    "def other(rows):\n    return [1.0]\n",
    "",
    "\x00",
    "# -*- coding: latin-1 -*-\ndef grade(rows):\n    return [1.0 for row in rows]\n",
    "# -*- coding: unknown -*-\n",
    "def grade(rows):\n    return [float(len(row['answer'])) for row in rows]\n",
    "def grade(rows):\n    return [row['unknown'] for row in rows]\n",
    "def grade(rows):\n    rows.clear()\n    return []\n",
    "def grade(rows):\n    return {{row['answer']: 1.0 for row in rows}}\n",
)
VALUES = (
    *("1", "1.0", "True", "None", "'3'", "b'3'", "float('nan')", "float('inf')", "10**400"),
    *("1e308", "-0.0", "[1.0]", "{}", "object()", "1j", "__import__('decimal').Decimal('1.5')"),
    *("__import__('fractions').Fraction(1, 3)", "__import__('numpy').float32(1)", "lambda: 1"),
    *("__import__('numpy').ones(1)", "2**53 + 1", "'nan'", "(1.0,)", "{'score': 1.0}", "2**64"),
)
SCRIPTS = (
    "def answer(messages, seed):\n    return {value}\n",
    "def answer(messages, seed):\n    return '\\ud800' + str(seed)\n",
    "def answer(messages, seed):\n    return '\\x00\\x1b[31m' + str(seed)\n",
    "def answer(messages, seed):\n    return ''\n",
    "def answer(messages, seed):\n    return 'same'\n",
    "def answer(messages, seed):\n    return 'x' * 3000000 + str(seed)\n",
    "def answer(messages, seed):\n    return 'Score: 3\\u2028' + str(seed)\n",
    "def answer(messages, seed):\n    raise ValueError('\\ud800')\n",
    "def answer(messages, seed):\n    raise ConnectionError('x' * 100000)\n",
    "def answer(messages, seed):\n    return str(seed) + '\\nScore: ' + '9' * 400\n",
    "def answer(messages, seed):\n    return str(seed) + '\\nScore: nan'\n",
    "def answer(messages, seed):\n    return str(seed) + 'a' * 30000 + '\\nScore: ٣'\n",
    "def answer(messages):\n    return 'x'\n",
    "answer = 3\n",
    "def answer(messages, seed:\n",
)


def functions(case: Case) -> None:
    case.may_stop = True
    case.runs = 1.0
    if case.rng.random() < 0.25:
        source = case.pick(SCRIPTS).replace("{value}", case.pick(VALUES))
        case.note("script:", show(source))
        # An exception of another type is a bug of the script, and keeps its traceback.
        if "return {value}" not in source:
            case.write("script.py", source)
            case.toy.write(engine={"script": "script.py:answer"})
        case.answers_are_words = False
        return
    source = case.pick(FUNCTIONS)
    source = source.replace("{value}", case.pick(VALUES)).replace("{{", "{").replace("}}", "}")
    case.note("function:", show(source))
    case.write("judge.py", source)
    name = "judge.py:grade"
    if case.rng.random() < 0.2:
        name = case.pick(
            (
                *(
                    "judge.py",
                    "judge.py:",
                    ":grade",
                    "judge:grade",
                    "judge.py:grade:x",
                    "os:getcwd",
                ),
                *("judge.py:a b", "os.path:join", "..:x", ".judge:grade", "a" * 300 + ":x", "é:x"),
                *("json:loads", "sys:exit", "no.such.module:x", "judge.py:__name__", "math:nan"),
            )
        )
        case.note("name:", show(name))
    case.toy.fields["judge"] = {"function": name, "timeout": 1}
    if case.rng.random() < 0.2:
        case.toy.fields["judge"] = {"draws": 1}
        case.toy.write(judges={"other": {"function": name, "timeout": 1}}, pairs={"score": "other"})
    case.write_recipe()


# replies of a server

ANSWER = "An answer.\nScore: 3"
REPLY = {
    "id": "r1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": ANSWER},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
}
MODELS = {"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "x"}]}
BODIES = (
    b"",
    b"null",
    b"[]",
    b'"text"',
    b"<html>502</html>",
    b'{"error": {"message": "no", "code": 500}}',
    b'{"error": "no"}',
    b'{"detail": [{"msg": "no"}]}',
    b'{"choices": []}',
    b'{"choices": null}',
    b"\xff\xfe",
    b'{"choices": [{"message": {"content": "\\ud800"}}]}',
)


class _Server:
    """A server whose replies the environment variable CAMPAIGN_REPLIES describes."""

    def __init__(self, plan: dict) -> None:
        self.plan = plan

    def handler(self):
        plan = self.plan

        class Handler(BaseHTTPRequestHandler):
            def _send(self, status: int, body: bytes) -> None:
                self.send_response(status)
                for name, value in plan["headers"].items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                body = plan["models"] if self.path.endswith("/models") else '{"version": "1"}'
                self._send(plan["models_status"], body.encode("latin-1"))

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                body = plan["body"].encode("latin-1")
                if plan["is_varied"]:
                    body = self._vary(json.loads(body), asked.get("n") or 1)
                self._send(plan["status"], body)

            def _vary(self, reply: dict, n: int) -> bytes:
                """Repeat the first choice, with another answer each time."""
                choices = []
                for at in range(n):
                    choice = json.loads(json.dumps({**reply["choices"][0], "index": at}))
                    if choice["message"].get("content") == ANSWER:
                        plan["answers"] = plan.get("answers", 0) + 1
                        choice["message"]["content"] = f"{plan['answers']}. {ANSWER}"[:-1]
                        choice["message"]["content"] += str(plan["answers"] % 6)
                    choices.append(choice)
                return json.dumps({**reply, "choices": choices}).encode()

            def log_message(self, *_: object) -> None:
                pass

        return Handler


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Ignore clients that hang up."""


@contextmanager
def serve():
    """Answer requests in this process, and point the recipe to the port."""
    server = _Quiet(("127.0.0.1", 0), _Server(json.loads(os.environ["CAMPAIGN_REPLIES"])).handler())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    if sys.argv[1] == "run":
        sys.argv += ["--set", f"engine.base_url=http://127.0.0.1:{server.server_port}/v1"]
    yield
    server.shutdown()


def replies(case: Case) -> None:
    plan = {
        "status": 200,
        "models_status": 200,
        "headers": {"Content-Type": "application/json"},
        "models": json.dumps(MODELS),
        "body": json.dumps(REPLY),
        "is_varied": False,
    }
    match case.rng.randrange(8):
        case 0 | 1 | 2:
            choice = {"choices": [change_json(case, REPLY["choices"][0])]}
            is_whole = case.rng.random() < 0.5
            plan["body"] = json.dumps(change_json(case, REPLY) if is_whole else {**REPLY, **choice})
            plan["is_varied"] = not is_whole and isinstance(
                choice["choices"][0].get("message"), dict
            )
        case 3:
            plan["body"] = case.pick(BODIES).decode("latin-1")
            case.note("body:", show(plan["body"]))
        case 4:
            plan["status"] = case.pick((201, 204, 301, 400, 401, 403, 404, 422))
            plan["body"] = case.pick(BODIES).decode("latin-1")
            case.note("status:", plan["status"], show(plan["body"]))
        case 5:
            way, data = mangle(case.rng, json.dumps(REPLY).encode())
            plan["body"] = data.decode("latin-1")
            case.note("bytes:", way)
        case 6:
            models = change_json(case, MODELS)
            plan["models"] = json.dumps(models)
            plan["models_status"] = case.pick((200, 200, 404, 500))
            plan["is_varied"] = True
        case _:
            field = case.pick(("content", "role", "tool_calls", "reasoning", "refusal"))
            reply = json.loads(json.dumps(REPLY))
            reply["choices"][0]["message"][field] = json_hostile(case.rng)
            case.note("message:", field, "=", show(reply["choices"][0]["message"][field]))
            plan["body"] = json.dumps(reply)
            plan["is_varied"] = True
    plan["headers"]["Content-Type"] = case.pick(
        ("application/json", "application/json", "text/html", "x", "application/json; charset=x")
    )
    case.environment["CAMPAIGN_REPLIES"] = json.dumps(plan)
    case.environment["OPENAI_API_KEY"] = "none"
    case.around = "campaign.test_surroundings:serve"
    case.toy.fields["engine"] = {
        "name": "openai",
        "base_url": "http://127.0.0.1:9/v1",
        "model": "m",
        "max_retries": 0,
        "timeout": 5,
    }
    case.toy.fields["model"] = {"declared": "v1"}
    case.write_recipe()
    lake = ["--lake", str(case.lake)]
    case.commands = [["run", str(case.toy.path), *lake], ["verify", *lake]]
    case.may_stop = True


# environments

SETTINGS = (
    {"HOME": "/nonexistent"},
    {"HOME": ""},
    {"HOME": "/"},
    {"HOME": UNSET},
    {"HOME": "relative"},
    {"TMPDIR": "/nonexistent"},
    {"TMPDIR": ""},
    {"TMPDIR": "{base}/it's"},
    {"TMPDIR": "{base}/recipe.yaml"},
    {"TMPDIR": "/dev/null"},
    {"TMPDIR": "{base}/a=b"},
    {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0"},
    {"LC_ALL": "xx_XX.UTF-8"},
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "latin-1"},
    {"TERM": "unknown"},
    {"TERM": UNSET},
    {"COLUMNS": "0"},
    {"COLUMNS": "x"},
    {"COLUMNS": "-5"},
    {"COLUMNS": "1"},
    {"LINES": "x"},
    {"NO_COLOR": "1", "FORCE_COLOR": "1"},
    {"USER": "", "LOGNAME": ""},
    {"PATH": ""},
    {"PATH": UNSET},
    {"FACTORY_LAKE": ""},
    {"FACTORY_LAKE": "/dev/null"},
    {"HTTP_PROXY": "socks5://127.0.0.1:1", "ALL_PROXY": "socks5://127.0.0.1:1"},
    {"HTTPS_PROXY": "not a url"},
    {"SSL_CERT_FILE": "/nonexistent"},
    {"REQUESTS_CA_BUNDLE": "/nonexistent"},
    {"HF_HOME": "/dev/null"},
    {"HF_HUB_OFFLINE": "x"},
    {"HF_TOKEN": "\x01é"},
    {"HF_ENDPOINT": "not a url"},
    {"OMP_NUM_THREADS": "x"},
    {"OMP_NUM_THREADS": "0"},
    {"POLARS_MAX_THREADS": "0"},
    {"POLARS_MAX_THREADS": "x"},
    {"CUDA_VISIBLE_DEVICES": "x"},
    {"CUDA_VISIBLE_DEVICES": ""},
    {"TZ": "Nowhere/Atlantis"},
    {"TZ": ""},
    {"SOURCE_DATE_EPOCH": "x"},
    {"PYTHONHASHSEED": "0"},
    {"PYTHONOPTIMIZE": "2"},
    {"PYTHONWARNINGS": "error"},
    {"PYTHONSAFEPATH": "1"},
    {"XDG_CACHE_HOME": "/dev/null"},
    {"DUCKDB_NO_THREADS": "1"},
    {"ARROW_DEFAULT_MEMORY_POOL": "unknown"},
    {"MALLOC_ARENA_MAX": "x"},
    {"PAGER": "false", "EDITOR": "false"},
)
LIMITS = (
    {"RLIMIT_NOFILE": 24},
    {"RLIMIT_NOFILE": 64},
    {"RLIMIT_FSIZE": 2000},
    {"RLIMIT_FSIZE": 1 << 20},
    {"RLIMIT_STACK": 1 << 20},
)


def environments(case: Case) -> None:
    if case.rng.random() < 0.15:
        case.limits = case.pick(LIMITS)
        case.note("limits:", case.limits)
    else:
        chosen = case.pick(SETTINGS)
        case.note("environment:", chosen)
        for name, value in chosen.items():
            path = value.replace("{base}", str(case.base))
            if value.startswith("{base}") and not path.endswith("yaml"):
                Path(path).mkdir()
            case.environment[name] = path
    name = case.pick(("run", "run", "plan", "status", "verify"))
    recipe = [] if name == "verify" else [str(case.toy.path)]
    case.commands = [[name, *recipe, "--lake", str(case.lake)]]
    if name == "verify":
        shutil.copytree(case.finished / "lake", case.lake)
    case.is_fresh = True
    case.may_stop = True


KINDS = {
    "paths": Kind(paths, 21, runs=0.25),
    "functions": Kind(functions, 3),
    "replies": Kind(replies, 4),
    "environments": Kind(environments, 2),
}


def test_an_input_is_refused_or_works(verdict):
    assert verdict.is_right, verdict
