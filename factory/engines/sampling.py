"""Seeded token sampling for the `transformers` engine.

Every row has its own seed and does not depend on the other rows in the batch. The settings have the
same meaning and order as in vLLM 0.32 (v1/sample/sampler.py): allowed answers, repetition penalty,
temperature, min-p, top-k, top-p.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from transformers import LogitsProcessor

from factory.recipe import Generation


class Choices:
    """The tokens that may come next if an answer must be one of several texts."""

    def __init__(self, answers: Iterable[Sequence[int]], ends: Sequence[int]) -> None:
        """Build the table of allowed tokens.

        `answers` are the token ids of the allowed texts, without a stop token. `ends` are the stop
        tokens; any of them may end an answer.
        """
        self._ends = set(ends)
        self._next: dict[tuple[int, ...], set[int]] = {}
        for answer in answers:
            for place, token in enumerate(answer):
                self._next.setdefault(tuple(answer[:place]), set()).add(token)
            self._next.setdefault(tuple(answer), set()).update(ends)

    def after(self, written: Sequence[int]) -> list[int]:
        """Return the tokens that may follow the tokens generated so far (`written`).

        Only stop tokens may follow a complete answer.
        """
        return sorted(self._next.get(tuple(written), self._ends))


class SeededSampling(LogitsProcessor):  # type: ignore[misc]
    """A logits processor that samples each row's next token with the row's own seed.

    Each row has one uniform random number per position. The processor chooses the first token at
    which the cumulative probability exceeds that number, or the most likely token at temperature 0.
    All other tokens get -inf, so that greedy decoding picks the chosen token. The recorded
    log-probabilities are the model's, among the allowed tokens, before penalty and temperature.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        generation: Generation,
        device: torch.device,
        *,
        prompts: Sequence[Sequence[int]] = (),
        choices: Choices | None = None,
        watched: Sequence[int] = (),
    ) -> None:
        """Draw the random numbers of all rows, one row per seed.

        `prompts` has the prompt tokens of each row, for the repetition penalty. `watched` are
        tokens whose log-probabilities are recorded at every position.
        """
        uniforms = [np.random.Philox(key=seed).random_raw(generation.max_tokens) for seed in seeds]
        # 53 random bits make a double in [0, 1), as in numpy's own generator.
        uniform = (np.stack(uniforms) >> 11) * (1.0 / 2**53)
        self._uniform = torch.from_numpy(uniform).to(device)
        self._generation = generation
        self._min_p, self._top_k = generation.value("min_p"), generation.value("top_k")
        self._penalty = generation.value("repetition_penalty")
        self._prompts = prompts
        self._seen: torch.Tensor | None = None
        self._choices = choices
        self._written: list[list[int]] = [[] for _ in seeds]
        self._watched = torch.tensor(watched, dtype=torch.long, device=device)
        self.logprobs: list[torch.Tensor] = []
        """Log-probabilities of the chosen tokens: one tensor of shape (rows,) per position."""
        self.watched: list[torch.Tensor] = []
        """Log-probabilities of the watched tokens: one (rows, watched tokens) tensor per
        position."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.float()
        if self._choices is not None:
            scores = self._allow(scores, self._choices)
        penalised = scores if self._penalty is None else self._penalise(scores, self._penalty)
        if self._generation.temperature == 0:
            token = penalised.argmax(dim=-1, keepdim=True)
        else:
            token = self._draw(torch.softmax(penalised / self._generation.temperature, dim=-1))
        self._note(torch.log_softmax(scores, dim=-1), token)
        return torch.full_like(scores, -torch.inf).scatter_(1, token, 0.0)

    def _allow(self, scores: torch.Tensor, choices: Choices) -> torch.Tensor:
        refused = torch.ones_like(scores, dtype=torch.bool)
        for row, written in enumerate(self._written):
            refused[row, choices.after(written)] = False
        return scores.masked_fill(refused, -torch.inf)

    def _penalise(self, scores: torch.Tensor, penalty: float) -> torch.Tensor:
        """Penalize the tokens in each row's prompt and answer.

        Padding is not counted: it may be a stop token, which would then be penalized.
        """
        if self._seen is None:
            self._seen = torch.zeros_like(scores, dtype=torch.bool)
            for row, prompt in enumerate(self._prompts):
                self._seen[row, list(prompt)] = True
        lower = torch.where(scores > 0, scores / penalty, scores * penalty)
        return torch.where(self._seen, lower, scores)

    def _draw(self, probabilities: torch.Tensor) -> torch.Tensor:
        order = None
        if self._min_p is not None:
            least = self._min_p * probabilities.amax(dim=-1, keepdim=True)
            probabilities = probabilities.masked_fill(probabilities < least, 0.0)
        if self._top_k is not None or self._generation.top_p < 1:
            probabilities, order = probabilities.sort(dim=-1, descending=True)
        if self._top_k is not None:
            last = min(int(self._top_k), probabilities.shape[-1]) - 1
            least = probabilities[:, last, None]
            probabilities = probabilities.masked_fill(probabilities < least, 0.0)
        if self._generation.top_p < 1:
            before = probabilities.cumsum(dim=-1) - probabilities
            most = self._generation.top_p * probabilities.sum(dim=-1, keepdim=True)
            probabilities = probabilities.masked_fill(before > most, 0.0)
        cumulative = probabilities.double().cumsum(dim=-1)
        uniform = self._uniform[:, len(self.logprobs), None] * cumulative[:, -1:]
        place = torch.searchsorted(cumulative, uniform, right=True)
        place = place.clamp(max=probabilities.shape[-1] - 1)
        return place if order is None else order.gather(1, place)

    def _note(self, logprobs: torch.Tensor, token: torch.Tensor) -> None:
        self.logprobs.append(logprobs.gather(1, token).squeeze(1))
        if len(self._watched):
            self.watched.append(logprobs[:, self._watched])
        if self._seen is not None:
            self._seen.scatter_(1, token, True)
        if self._choices is not None:
            for written, (chosen,) in zip(self._written, token.tolist(), strict=True):
                written.append(chosen)
