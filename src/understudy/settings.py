"""Settings: one frozen object, read once; the only file that reads the environment.

Precedence, lowest first: defaults, the TOML file, `UNDERSTUDY_*` variables, flags.
An unknown key in the TOML file is an error, so that a typo never passes silently.
A new setting is one field here with its description; docs/settings.md is generated.
"""

import os
import re
import tomllib
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints
from urllib.parse import quote

import msgspec
from msgspec import Meta

from understudy import limits

PREFIX = "UNDERSTUDY_"
DEFAULT_FILE = Path("understudy.toml")
FALLBACKS = {"upstream_url": "OPENAI_BASE_URL", "upstream_key": "OPENAI_API_KEY"}
SECRETS = frozenset({"api_key", "upstream_key", "rerank_key"})
_AWS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_CONDITIONAL_PUT",
    "AWS_COPY_IF_NOT_EXISTS",
)
_ROOTS_SANDBOX = Path("/var/lib/understudy/sandbox")
_TOKEN = re.compile(r"([?&](?:token|password|sslpassword)=)[^&#]+", re.IGNORECASE)
_USER = re.compile(r"//[^/@]*@")  # Of a Jupyter server: its token may stand there.
# To the last @: a password that should have been percent-encoded may hold any of the others.
_PASSWORD = re.compile(r"(//[^:/?#@]*):.*@")
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the operator decides."""

    host: Annotated[str, Meta(description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="Port to listen on; 0 picks one.")] = 8000
    data: Annotated[str, Meta(min_length=1, description="Folder that holds everything.")] = (
        "./understudy-data"
    )
    workers: Annotated[
        int, Meta(ge=1, description="Server processes; above 1 needs PostgreSQL.")
    ] = 1
    worker_port: Annotated[
        int,
        Meta(
            ge=0,
            le=65535,
            description="Port on which `understudy worker` answers `/health`; 0 for none.",
        ),
    ] = 0
    api_key: Annotated[
        str | None,
        Meta(description="A key that is valid from the first start; else one is made and shown."),
    ] = None
    upstream_url: Annotated[
        str | None,
        Meta(
            description="Base URL of the model provider (OpenAI-compatible, usually ends in /v1); "
            "falls back to OPENAI_BASE_URL. With neither, the built-in rehearsal model answers."
        ),
    ] = None
    upstream_key: Annotated[
        str | None, Meta(description="The provider's key; falls back to OPENAI_API_KEY.")
    ] = None
    embedding_model: Annotated[
        str,
        Meta(
            description="An embedding model at the provider, a folder with model.onnx and "
            "tokenizer.json, `hub:ORGANISATION/NAME` to fetch such a folder once, or `off`. "
            "`auto` takes what the provider has, else searches are by keywords alone."
        ),
    ] = "auto"
    embedding_url: Annotated[
        str | None, Meta(description="Base URL of another provider for embeddings.")
    ] = None
    rerank_url: Annotated[
        str | None,
        Meta(
            description="Base URL of a reranker (`<url>/rerank`, as Cohere, Jina, vLLM and TEI "
            "have it) that orders search results; none by default."
        ),
    ] = None
    rerank_model: Annotated[
        str | None, Meta(description="The reranker's model, where it wants one named.")
    ] = None
    rerank_key: Annotated[str | None, Meta(description="The reranker's key.")] = None
    search_more_types: Annotated[
        bool,
        Meta(
            description="Let file_search read csv, tsv, xml, yaml, rtf, xlsx and any other text, "
            "which the original refused."
        ),
    ] = False
    database_url: Annotated[
        str | None,
        Meta(description="`sqlite:///path` or `postgresql://...`; default: in the data folder."),
    ] = None
    database_connections: Annotated[
        int,
        Meta(
            ge=2,
            description="Connections of one server process to PostgreSQL, beside one for wake-ups.",
        ),
    ] = limits.CONNECTIONS
    blobs_url: Annotated[
        str | None,
        Meta(
            description="`file:///path`, `s3://bucket/prefix`, `gs://` or `az://` (files.md); "
            "default: in the data folder."
        ),
    ] = None
    sandbox: Annotated[
        str,
        Meta(
            pattern=r"^(auto|bubblewrap|off|unsafe-local|jupyter\+https?://.+)$",
            description="Where code_interpreter runs: `bubblewrap` (a jail on this machine), "
            "`jupyter+http://host:8888?token=...` (a Jupyter server or Kernel Gateway), `off`, or "
            "`unsafe-local` (no jail at all). `auto` is `bubblewrap` where it works, else `off`.",
        ),
    ] = "auto"
    sandbox_folder: Annotated[
        str | None,
        Meta(
            description="Folder of code_interpreter's Python packages; default: "
            "`/var/lib/understudy/sandbox` for root, else `sandbox` in the data folder."
        ),
    ] = None
    sandbox_unsafe_i_know: Annotated[
        bool,
        Meta(
            description="Let `unsafe-local` serve on an address that other machines reach: whoever "
            "has a key can then do on this machine what the server's user can."
        ),
    ] = False
    strict: Annotated[
        bool, Meta(description="Refuse what the original refused, such as a missing beta header.")
    ] = False
    run_ttl_s: Annotated[int, Meta(ge=1, description="Seconds until an active run expires.")] = (
        limits.RUN_TTL_S
    )
    model: Annotated[
        str | None,
        Meta(description="Model used when the provider does not list the one asked for."),
    ] = None
    context_tokens: Annotated[
        int,
        Meta(
            ge=1,
            description="Context window for truncation. In the TOML file also a table "
            "`[context_tokens]` of model name to window, with `default` for all others.",
        ),
    ] = limits.CONTEXT_TOKENS
    context_tokens_by_model: Annotated[
        dict[str, Annotated[int, Meta(ge=1)]],
        Meta(description="The windows from the TOML table `[context_tokens]`; no variable."),
    ] = {}
    allow_file_downloads: Annotated[
        bool, Meta(description="Let files of purpose `assistants` be downloaded.")
    ] = False
    cors_origins: Annotated[
        tuple[str, ...],
        Meta(description="Origins that browsers may call from, comma-separated; `*` for all."),
    ] = ()
    nats_url: Annotated[
        str | None, Meta(description="A NATS server for faster wake-ups between processes.")
    ] = None
    max_runs: Annotated[int, Meta(ge=1, description="Runs at once in one process.")] = (
        limits.RUNS_AT_ONCE
    )
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="Least severe log line; `debug` has one for each request."),
    ] = "info"


class SettingsError(Exception):
    """The settings cannot be used; the text tells the operator why."""


@dataclass(frozen=True)
class Loaded:
    """The effective settings, and where each value came from."""

    settings: Settings
    origins: Mapping[str, str]


def load(
    *,
    config: Path | None = None,
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Loaded:
    """Read all sources; `flags` that are None were not given."""
    environ = os.environ if environ is None else environ
    values: dict[str, object] = {}
    origins = dict.fromkeys(Settings.__struct_fields__, "default")
    for source in (_from_file(config), _from_environment(environ), _from_flags(flags or {})):
        for name, (value, origin) in source.items():
            values[name] = value
            origins[name] = origin
    try:
        return Loaded(msgspec.convert(values, Settings), origins)
    except msgspec.ValidationError as error:
        raise SettingsError(_explain(str(error), origins)) from error


def clean_environment() -> dict[str, str]:
    """The environment without settings, for a server that is not the operator's own."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(PREFIX) and name not in FALLBACKS.values()
    }


def context_tokens_of(settings: Settings, model: str) -> int:
    """The context window of a model."""
    return settings.context_tokens_by_model.get(model, settings.context_tokens)


def database_url_of(settings: Settings) -> str:
    """Where the record is."""
    return settings.database_url or f"sqlite:///{Path(settings.data).absolute()}/understudy.db"


def blobs_url_of(settings: Settings) -> str:
    """Where the bytes of files are."""
    return settings.blobs_url or f"file://{quote(str(Path(settings.data).absolute()))}/blobs"


def sandbox_folder_of(settings: Settings) -> Path:
    """Where code_interpreter's Python packages are. Root's data folder is root's alone, and root's
    sandbox is another user."""
    if settings.sandbox_folder is not None:
        return Path(settings.sandbox_folder).expanduser().absolute()
    if os.geteuid() == 0:
        return _ROOTS_SANDBOX
    return Path(settings.data).absolute() / "sandbox"


def object_store_options(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of S3 that count for a `blobs_url` of s3://; empty ones are absent. (Others the
    library reads by itself.)"""
    environ = os.environ if environ is None else environ
    given = {name.lower(): environ.get(name, "").strip() for name in _AWS}
    return {name: value for name, value in given.items() if value}


def is_embedded(settings: Settings) -> bool:
    """Whether the record is SQLite, which one server process owns."""
    return database_url_of(settings).startswith("sqlite:")


def masked(name: str, value: object) -> str:
    """A value as it may be printed: secrets and passwords in URLs are hidden."""
    if value is None:
        return "-"
    if name in SECRETS:
        text = str(value)
        return f"{text[:3]}…{text[-2:]}" if len(text) > 12 else "…"
    if name.endswith("_url"):
        return _without_password(str(value))
    if name == "sandbox":
        return _TOKEN.sub(r"\1…", _USER.sub("//…@", str(value)))
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items()) or "-"
    return str(value).lower() if isinstance(value, bool) else str(value)


def settings_page() -> str:
    """docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "Generated from `src/understudy/settings.py` by `understudy docs`. Precedence, lowest "
        "first: defaults, the TOML file (`--config`, else `understudy.toml` in the working "
        "folder), variables, flags. An unknown key in the TOML file is an error. "
        "`understudy check` prints the effective values and where each came from.",
        "",
        "| TOML key | variable | default | meaning |",
        "|---|---|---|---|",
    ]
    defaults = Settings()
    for name, description in descriptions().items():
        variable = "-" if name == "context_tokens_by_model" else f"`{PREFIX}{name.upper()}`"
        default = masked(name, getattr(defaults, name))
        lines.append(f"| `{name}` | {variable} | `{default}` | {description} |")
    return "\n".join(lines) + "\n"


def descriptions() -> dict[str, str]:
    """Field → its description."""
    hints = get_type_hints(Settings, include_extras=True)
    found = {}
    for name in Settings.__struct_fields__:
        metas = [meta for meta in get_args(hints[name]) if isinstance(meta, Meta)]
        found[name] = metas[0].description or ""
    return found


_Source = dict[str, tuple[object, str]]


def _from_file(config: Path | None) -> _Source:
    """The TOML file; a file that was named must exist."""
    path = config or DEFAULT_FILE
    if not path.exists():
        if config is not None:
            raise SettingsError(f"The settings file {path} does not exist.")
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"The settings file {path} is not valid TOML: {error}") from error
    windows = table.get("context_tokens")
    if isinstance(windows, dict):
        by_model = dict(table.pop("context_tokens"))
        if "default" in by_model:
            table["context_tokens"] = by_model.pop("default")
        table["context_tokens_by_model"] = by_model
    _refuse_unknown(table, path)
    return {name: (value, str(path)) for name, value in table.items()}


def _refuse_unknown(names: Iterable[str], path: Path) -> None:
    """A key that is no setting is a typo."""
    unknown = sorted(set(names) - set(Settings.__struct_fields__))
    if unknown:
        raise SettingsError(
            f"Unknown setting {', '.join(map(repr, unknown))} in {path}. See docs/settings.md."
        )


def _from_environment(environ: Mapping[str, str]) -> _Source:
    """`UNDERSTUDY_*` variables, and the fallbacks; an empty variable counts as absent."""
    found: _Source = {}
    hints = get_type_hints(Settings)
    for name in Settings.__struct_fields__:
        if name == "context_tokens_by_model":
            continue
        for variable in (PREFIX + name.upper(), FALLBACKS.get(name, "")):
            text = environ.get(variable, "").strip()
            if text:
                found[name] = (_parse(variable, text, hints[name]), variable)
                break
    return found


def _from_flags(flags: Mapping[str, object]) -> _Source:
    """Flags of the command line."""
    return {
        name: (value, f"--{name.replace('_', '-')}")
        for name, value in flags.items()
        if value is not None
    }


def _parse(variable: str, text: str, hint: Any) -> object:
    """A variable's text as a value of its field's type."""
    if get_origin(hint) in (Union, types.UnionType):
        hint = get_args(hint)[0]
    if get_origin(hint) is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if hint is bool:
        if text.lower() not in _TRUE | _FALSE:
            raise SettingsError(f"{variable} must be true or false, not {text!r}.")
        return text.lower() in _TRUE
    if hint is int:
        try:
            return int(text)
        except ValueError:
            raise SettingsError(f"{variable} must be a whole number, not {text!r}.") from None
    return text


def _explain(problem: str, origins: Mapping[str, str]) -> str:
    """msgspec's text with the place that the value came from."""
    name = problem.rpartition("$.")[2].rstrip("`").split("[")[0]
    origin = origins.get(name)
    return f"Setting {name} (from {origin}): {problem}" if origin else problem


def _without_password(url: str) -> str:
    """A URL with its password hidden, be it a URL or not."""
    return _TOKEN.sub(r"\1…", _PASSWORD.sub(r"\1:…@", url))
