"""From a raw path to an operation: the prefixes that are accepted, and the table of routes."""

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from understudy.api.operation import Operation
from understudy.errors import ApiError


@dataclass(frozen=True, slots=True)
class Target:
    """A path without its prefix, each segment URL-decoded once."""

    segments: tuple[str, ...]
    is_azure: bool = False
    deployment: str | None = None


def target_of(raw_path: bytes) -> Target:
    """Take the prefix off (SPEC 2.1): /v1, none, /openai, /openai/v1, /openai/deployments/{d}."""
    path = raw_path.partition(b"?")[0].decode("latin-1")
    segments = [unquote(segment, errors="replace") for segment in path.split("/")]
    while segments and not segments[0]:
        del segments[0]
    while segments and not segments[-1]:
        del segments[-1]
    if segments[:1] == ["v1"]:
        return Target(_rest(segments, 1))
    if segments[:1] != ["openai"]:
        return Target(tuple(segments))
    if segments[1:2] == ["v1"]:
        return Target(_rest(segments, 2), is_azure=True)
    if segments[1:2] == ["deployments"] and len(segments) > 2:
        return Target(_rest(segments, 3), is_azure=True, deployment=segments[2])
    return Target(_rest(segments, 1), is_azure=True)


def _rest(segments: list[str], start: int) -> tuple[str, ...]:
    """What follows a prefix, without the empty segments of a doubled slash."""
    while start < len(segments) and not segments[start]:
        start += 1
    return tuple(segments[start:])


@dataclass(frozen=True, slots=True)
class _Route:
    """An operation with its path as segments; None stands for a path argument."""

    operation: Operation
    shape: tuple[str | None, ...]

    def arguments(self, segments: tuple[str, ...]) -> list[str] | None:
        """The path arguments, or None when the path is another one's."""
        found = []
        for part, segment in zip(self.shape, segments, strict=True):
            if part is None:
                found.append(segment)
            elif part != segment:
                return None
        return found


class Routes:
    """The table of routes. Literal segments win over path arguments."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._by_shape: dict[tuple[str, int], list[_Route]] = {}
        # Model names may contain slashes, so their routes take the whole rest of the path.
        self._tails: dict[str, list[_Route]] = {}
        for operation in operations:
            parts = operation.path.strip("/").split("/")
            shape = tuple(None if part.startswith("{") else part for part in parts)
            route = _Route(operation, shape)
            self._by_shape.setdefault((parts[0], len(parts)), []).append(route)
            if parts[1:] == ["{model}"]:
                self._tails.setdefault(parts[0], []).append(route)
        for routes in self._by_shape.values():
            routes.sort(key=lambda route: route.shape.count(None))

    def match(
        self, method: str, segments: tuple[str, ...], path: str
    ) -> tuple[Operation, list[str]]:
        """The operation and its path arguments, or the 404 or 405."""
        allowed = []
        for route, arguments in self._candidates(segments):
            if route.operation.method == method:
                return route.operation, arguments
            allowed.append(route.operation.method)
        if allowed:
            raise ApiError.method_not_allowed(method, path, sorted(set(allowed)))
        raise ApiError.unknown_route(method, path)

    def allowed(self, segments: tuple[str, ...]) -> list[str]:
        """The methods of a path; none when it is unknown."""
        return sorted({route.operation.method for route, _ in self._candidates(segments)})

    def _candidates(self, segments: tuple[str, ...]) -> Iterable[tuple[_Route, list[str]]]:
        if not segments:
            return
        for route in self._by_shape.get((segments[0], len(segments)), ()):
            arguments = route.arguments(segments)
            if arguments is not None:
                yield route, arguments
        if len(segments) > 2:
            for route in self._tails.get(segments[0], ()):
                yield route, ["/".join(segments[1:])]
