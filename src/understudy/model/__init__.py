"""The model seam: what the engine asks of a provider, and how a provider fails."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Literal, Protocol, TypeAlias

from understudy import limits
from understudy.errors import ApiError
from understudy.wire.chat import ChatRequest, Chunk
from understudy.wire.models import CreateEmbedding, EmbeddingList
from understudy.wire.models import Model as ListedModel
from understudy.world import World

When: TypeAlias = Callable[[], Awaitable[object]]
ErrorCode = Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]

# What `last_error.message` of the original says for every server_error; ours adds the cause.
SORRY = "Sorry, something went wrong."


class ModelError(Exception):
    """A provider failed; everything in it may be shown to a client.

    `retryable` is true only while nothing of the answer was yielded. `learned` means that the
    provider refused a parameter that the next call will not send: call again at once.
    `context_tokens` is the provider's own word on its context window: the same request would
    fail again, a shorter one may pass. `status` is the upstream's HTTP status, if it gave one.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        retryable: bool = False,
        retry_after_s: float | None = None,
        context_tokens: int | None = None,
        learned: bool = False,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code: ErrorCode = code
        self.message = message
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.context_tokens = context_tokens
        self.learned = learned
        self.status = status


class Model(Protocol):
    """A provider of models. One `stream` call is exactly one request to it."""

    def stream(
        self, request: ChatRequest, *, call_id: str, when: When | None = None
    ) -> AsyncGenerator[list[Chunk], None]:
        """The answer, one list per network read; raises ModelError unless it ended properly.

        The request is ready and a connection taken while `when` is waited for; nothing is sent
        before it returns, nor at all if it raises; what it raises may come out as a ModelError.

        `aclose()` (or cancelling the task that reads) closes the socket at once.
        """
        ...

    async def models(self) -> list[ListedModel]:
        """What the provider lists; at most limits.MODEL_LIST_TTL_S old, older when it fails."""
        ...

    async def resolve(self, name: str) -> str:
        """The model to ask for: `name`, or the configured one where only that is listed."""
        ...

    async def embed(self, body: CreateEmbedding, model: str) -> EmbeddingList:
        """Vectors in the format that the client asked for; raises ModelError with a status."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


def open_model(
    url: str,
    *,
    key: str | None = None,
    boot_id: str = "",
    fallback: str | None = None,
    world: World | None = None,
    connections: int = limits.MODEL_CONNECTIONS,
) -> Model:
    """The model behind a URL: `http(s)://...` speaks Chat Completions, `rehearsal:` is built in.

    `boot_id` goes upstream as x-understudy-hop; `fallback` is the model used for names that the
    upstream does not list.
    """
    scheme = url.partition(":")[0].lower()
    if scheme in ("http", "https"):
        from understudy.model.chat import ChatModel

        return ChatModel(
            url,
            key=key,
            boot_id=boot_id,
            fallback=fallback,
            world=world or World(),
            connections=connections,
        )
    if scheme == "rehearsal":
        from understudy.model.rehearsal_model import RehearsalModel

        return RehearsalModel(world or World())
    raise ValueError(f"No model adapter speaks '{scheme}:'; use http://, https:// or rehearsal:.")


def api_error(error: ModelError) -> ApiError:
    """The answer to a client whose call has no run to carry the error (embeddings, models)."""
    match error.status:
        case 400 | 404 | 413 | 422:
            return ApiError(400 if error.status == 422 else error.status, error.message)
        case 429:
            return ApiError.rate_limited(error.message, error.retry_after_s or 1.0, "requests")
        case _:
            return ApiError.upstream(502, error.message)
