"""Benchmark of the openai engine against a server that answers instantly or after a delay.

    python tests/benchmarks/serving.py [REQUESTS]

A stand-in server runs in a process of its own. The factory samples and judges with it, from the
start of a step until its last shard is on disk. Bare clients send the same number of requests of
about the same size: aiohttp, which the engine uses, and the openai package if it is installed.

CPU time is that of the client's process. With delays (lognormal, mean 0.5 s), the limit is the
makespan of an ideal scheduler: whenever one of the concurrent requests ends, the next one starts.
"""

import asyncio
import heapq
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MEAN, SIGMA = 0.5, 0.5
"""Mean delay in seconds, and standard deviation of its logarithm."""

TEXT = "The answer is correct and complete, but it could be shorter. " * 4 + "\nScore: "
PROMPT = "Tell me about the rivers and hills of this region, and how they were formed. " * 4


def delays(n: int) -> list[float]:
    """Return the delays of the first n requests that a slow server receives."""
    rng = random.Random(0)
    return [rng.lognormvariate(math.log(MEAN) - SIGMA**2 / 2, SIGMA) for _ in range(n)]


def makespan(seconds: list[float], concurrency: int) -> float:
    """Return the time in which an ideal client gets answers to all requests."""
    ends = [0.0] * concurrency
    for delay in seconds:
        heapq.heappush(ends, heapq.heappop(ends) + delay)
    return max(ends)


# The server


def serve(n_delayed: int) -> None:
    """Answer chat completions until the process is killed. Print the port first.

    The first requests wait for the delays of `delays(n_delayed)`, and all later ones for nothing.
    """
    waits = iter(delays(n_delayed))
    n_sent = 0

    def completion() -> bytes:
        nonlocal n_sent
        n_sent += 1
        message = {"role": "assistant", "content": f"{TEXT}{n_sent % 5 + 1}"}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        usage = {"prompt_tokens": 170, "completion_tokens": 57, "total_tokens": 227}
        said = {"id": f"c-{n_sent}", "object": "chat.completion", "created": 1, "model": "small"}
        return response({**said, "choices": [choice], "usage": usage})

    def response(said: dict[str, Any]) -> bytes:
        body = json.dumps(said).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        return head.encode() + b"\r\n\r\n" + body

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport, self.received = transport, b""

        def data_received(self, data: bytes) -> None:
            self.received += data
            head, end, body = self.received.partition(b"\r\n\r\n")
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            if not end or len(body) < int(length or 0):
                return
            self.received = b""
            if head.startswith(b"GET"):
                listed = {"object": "list", "data": [{"id": "small", "object": "model"}]}
                self.transport.write(response(listed))
            else:
                wait = next(waits, 0.0)
                asyncio.get_running_loop().call_later(wait, self.answer)

        def answer(self) -> None:
            self.transport.write(completion())

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(
            Protocol, "127.0.0.1", 0, backlog=4096
        )
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(run())


@contextmanager
def started_server(n_delayed: int) -> Iterator[str]:
    command = [sys.executable, __file__, "serve", str(n_delayed)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
    finally:
        process.kill()
        process.wait()


# The clients, each in a process of its own. They print wall time and CPU time.


def bare(url: str, n: int, concurrency: int, open_client: Callable[..., Any]) -> None:
    body = {
        "model": "small",
        "messages": [{"role": "user", "content": PROMPT + TEXT}],
        "temperature": 1.0,
        "top_p": 1.0,
        "max_tokens": 512,
        "seed": 0,
    }

    async def run() -> tuple[float, float]:
        ask = open_client(url, body)
        places = iter(range(n))

        async def work() -> None:
            for _ in places:
                await ask()

        wall, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(work() for _ in range(concurrency)))
        return time.perf_counter() - wall, time.process_time() - cpu

    print(*asyncio.run(run()), flush=True)
    os._exit(0)  # without closing the connections


def aiohttp_client(url: str, body: dict[str, Any]) -> Callable[[], Awaitable[Any]]:
    import aiohttp

    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    async def ask() -> Any:
        async with session.post(f"{url}/chat/completions", json=body) as response:
            return await response.json()

    return ask


def openai_client(url: str, body: dict[str, Any]) -> Callable[[], Awaitable[Any]]:
    import openai

    client = openai.AsyncOpenAI(base_url=url, api_key="none")
    return lambda: client.chat.completions.create(**body)


CLIENTS = {"aiohttp": aiohttp_client, "openai": openai_client}


def factory(url: str, n: int, concurrency: int) -> None:
    """Sample n answers, and judge each once."""
    from factory.engines import open_engine
    from factory.lake import Lake
    from factory.plan import RecipeState, Step, inspect_step, open_recipe, steps
    from factory.progress import Silent
    from factory.recipe import load_recipe
    from factory.run.generate import generate
    from factory.run.tabular import make_prompts

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = (json.dumps({"prompt": f"{place}. {PROMPT}"}) for place in range(n))
        (folder / "prompts.jsonl").write_text("\n".join(lines))
        recipe = {
            "name": "serving",
            "model": {"declared": "2026-01"},
            "prompts": {"files": ["prompts.jsonl"], "test_fraction": 0.0},
            "loop": {"iterations": 0, "policy": "self_rewarding"},
            "sampling": {"draws": 1, "temperature": 1.0, "max_tokens": 512},
            "judge": {"draws": 1, "rubric": "single_score", "max_tokens": 512},
            "engine": {
                "name": "openai",
                "base_url": url,
                "model": "small",
                "concurrency": concurrency,
            },
        }
        (folder / "recipe.yaml").write_text(json.dumps(recipe))
        opened = open_recipe(load_recipe(folder / "recipe.yaml"), Lake(folder / "lake"))
        state = RecipeState.of(opened)
        make_prompts(state, inspect_step(state, Step("prompts", role="loop")), Silent())
        inspect_step(state, Step("prompts", role="loop"))
        settings, models = opened.recipe.engine, [state.models["M_0"]]
        with open_engine(settings, models, 0, folder, folder / "logs") as engine:
            for stage in ("samples", "judgments"):
                step = next(step for step in steps(opened.recipe) if step.stage == stage)
                missing = inspect_step(state, step)
                wall, cpu = time.perf_counter(), time.process_time()
                generate(state, [missing], engine, Silent())
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                found = inspect_step(state, step)
                assert found.done, f"{step.label} is not done"
                print(stage, wall, cpu, flush=True)


def measure(kind: str, n: int, concurrency: int, *, slow: bool) -> dict[str, tuple[float, float]]:
    """Return wall time and CPU time of a client's rounds."""
    # The factory's sampling uses up the first n delays, and its judging the next n.
    with started_server(2 * n if slow else 0) as url:
        command = [sys.executable, __file__, kind, url, str(n), str(concurrency)]
        ran = subprocess.run(command, check=True, capture_output=True, text=True)
    rounds = [line.split() for line in ran.stdout.splitlines()]
    return {" ".join([kind, *words]): (float(wall), float(cpu)) for *words, wall, cpu in rounds}


def main() -> None:
    n_requests = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    kinds = [*CLIENTS, "factory"]
    print(
        "server   at once  requests  client               wall     limit  ratio  "
        "CPU/request   per core"
    )
    for slow, concurrency, n in (
        (False, 64, 4000),
        (False, 256, 4000),
        (True, 64, 960),
        (True, 256, 3840),
    ):
        n = n_requests or n
        for kind in kinds:
            try:
                rounds = measure(kind, n, concurrency, slow=slow)
            except subprocess.CalledProcessError as error:
                print(f"{kind}: {error.stderr.splitlines()[-1]}")
                continue
            for who, (wall, cpu) in rounds.items():
                part = delays(2 * n)[n:] if who.endswith("judgments") else delays(2 * n)[:n]
                limit = makespan(part, concurrency) if slow else 0.0
                ratio = f"{limit:6.2f} s   {wall / limit:.2f}" if limit else "       –      –"
                print(
                    f"{'slow' if slow else 'instant':<8} {concurrency:>7} {n:>9}  {who:<18} "
                    f"{wall:6.2f} s  {ratio} {cpu / n * 1e3:>9.2f} ms {n / cpu:>8,.0f}/s",
                    flush=True,
                )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", n_delayed]:
            serve(int(n_delayed))
        case ["factory", url, n, concurrency]:
            factory(url, int(n), int(concurrency))
        case [kind, url, n, concurrency]:
            bare(url, int(n), int(concurrency), CLIENTS[kind])
        case _:
            main()
