"""Keep the cost of requests to a server below the limit in the recipe."""

from collections.abc import Iterable, Sequence

from factory.engines.openai_replies import Usage
from factory.engines.protocol import Request, Result
from factory.errors import CostLimitReached
from factory.recipe import OpenaiEngine

MILLION = 1_000_000
"""Number of tokens to which a price in the recipe refers."""

TEMPLATE_TOKENS = 256
"""Number of tokens that a chat template may add to the messages (our choice)."""


class Budget:
    """The money spent on one server, and what the pending requests may cost at most."""

    def __init__(self, settings: OpenaiEngine, spent: float) -> None:
        """`spent` is the cost of the rows that the lake already contains."""
        self._prompt, self._generated = settings.price_prompt, settings.price_generated
        self._limit = settings.max_cost
        self._spent = spent
        self._pending = 0.0

    def cost(self, usage: Usage) -> float | None:
        """Return the cost of a request; None without prices, or if the server did not say enough.

        Cached prompt tokens cost the full price.
        """
        if self._prompt is None and self._generated is None:
            return None
        cost = 0.0
        for price, n_tokens in (
            (self._prompt, usage.n_prompt),
            (self._generated, usage.n_generated),
        ):
            if price:
                if n_tokens is None:
                    return None
                cost += price * n_tokens
        return cost / MILLION

    def largest_cost(self, request: Request, draws: Sequence[int]) -> float:
        """Return the largest possible cost of a request; 0 without a limit.

        A token has at least one byte, so a prompt has at most as many tokens as bytes.
        """
        if self._limit is None:
            return 0.0
        n_bytes = len(str([*request.messages, request.tools]).encode(errors="replace"))
        n_generated = len(draws) * request.generation.max_tokens
        return self.cost(Usage(n_bytes + TEMPLATE_TOKENS, None, n_generated)) or 0.0

    def reserve(self, cost: float) -> bool:
        """Set money aside for a request. Return whether it can be afforded."""
        if self._limit is not None and self._spent + self._pending + cost > self._limit:
            return False
        self._pending += cost
        return True

    def settle(self, reserved: float, results: Iterable[Result]) -> None:
        """Replace the money set aside for a request by its cost."""
        self._pending -= reserved
        self._spent += sum(result.cost or 0.0 for result in results)

    def exhausted(self, cost: float) -> CostLimitReached:
        """Return the error for a request that cannot be afforded."""
        return CostLimitReached(
            "engine.max_cost",
            f"{self._spent:.4g} of {self._limit:g} is spent, and the next request may cost up to "
            f"{cost:.2g}",
            "raise engine.max_cost and repeat the command to continue (finished rows are saved)",
        )
