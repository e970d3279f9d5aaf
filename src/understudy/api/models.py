"""Models and embeddings (SPEC 7.9): the provider's, in the API's words."""

from msgspec import UNSET
from msgspec.structs import replace

from understudy.api.operation import Call, operation
from understudy.errors import ApiError
from understudy.model import ModelError, api_error
from understudy.wire.base import Deleted
from understudy.wire.models import CreateEmbedding, EmbeddingList, Model, ModelList


@operation("GET", "/models", tag="Models")
async def list_models(call: Call) -> ModelList:
    """List the models that the provider offers."""
    return ModelList(data=await _models(call))


@operation("GET", "/models/{model}", tag="Models")
async def get_model(call: Call, model: str) -> Model:
    """Retrieve a model; its name may contain slashes."""
    for listed in await _models(call):
        if listed.id == model:
            return listed
    raise ApiError.model_not_found(model)


@operation("DELETE", "/models/{model}", tag="Models")
async def delete_model(call: Call, model: str) -> Deleted:
    """Refused: the models are the provider's."""
    await get_model(call, model)
    raise ApiError.cannot_delete_model(model)


@operation("POST", "/embeddings", tag="Embeddings")
async def create_embedding(call: Call, body: CreateEmbedding) -> EmbeddingList:
    """Turn texts or tokens into vectors."""
    if body.model is UNSET:
        if call.deployment is None:
            raise ApiError.missing("model")
        body = replace(body, model=call.deployment)
    try:
        return await call.app.model.embed(body, str(body.model))
    except ModelError as error:
        raise api_error(error) from None


async def _models(call: Call) -> list[Model]:
    try:
        return await call.app.model.models()
    except ModelError as error:
        raise api_error(error) from None
