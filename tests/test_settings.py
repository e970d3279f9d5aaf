"""Settings: where values come from, which are refused, and what is printed of them."""

import os
from pathlib import Path

import pytest

from understudy.settings import (
    Settings,
    SettingsError,
    blobs_url_of,
    context_tokens_of,
    database_url_of,
    descriptions,
    is_embedded,
    load,
    masked,
    object_store_options,
    sandbox_folder_of,
)


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    """A settings file that does not exist yet."""
    return tmp_path / "understudy.toml"


def test_later_sources_win_and_are_named(toml: Path) -> None:
    toml.write_text('port = 1\nhost = "a"\nmodel = "m"\n')
    environ = {"UNDERSTUDY_PORT": "2", "UNDERSTUDY_HOST": "b"}
    loaded = load(config=toml, environ=environ, flags={"port": 3, "data": None})
    assert (loaded.settings.port, loaded.settings.host, loaded.settings.model) == (3, "b", "m")
    assert loaded.origins["port"] == "--port"
    assert loaded.origins["host"] == "UNDERSTUDY_HOST"
    assert loaded.origins["model"] == str(toml)
    assert loaded.origins["data"] == "default"


def test_zero_configuration_is_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load(environ={}).settings
    assert settings == Settings()
    assert database_url_of(settings) == f"sqlite:///{tmp_path}/understudy-data/understudy.db"
    assert is_embedded(settings)


def test_the_file_in_the_working_folder_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "understudy.toml").write_text("port = 9\n")
    assert load(environ={}).settings.port == 9


def test_openais_variables_are_the_fallback() -> None:
    environ = {"OPENAI_BASE_URL": "http://a/v1", "OPENAI_API_KEY": "k"}
    loaded = load(environ=environ)
    assert loaded.settings.upstream_url == "http://a/v1"
    assert loaded.origins["upstream_key"] == "OPENAI_API_KEY"
    environ["UNDERSTUDY_UPSTREAM_URL"] = "http://b/v1"
    assert load(environ=environ).settings.upstream_url == "http://b/v1"


def test_variables_have_types() -> None:
    environ = {
        "UNDERSTUDY_STRICT": "Yes",
        "UNDERSTUDY_CORS_ORIGINS": "https://a, https://b,",
        "UNDERSTUDY_MODEL": "",
        "UNDERSTUDY_MAX_RUNS": "7",
    }
    settings = load(environ=environ).settings
    assert settings.strict is True
    assert settings.cors_origins == ("https://a", "https://b")
    assert settings.model is None
    assert settings.max_runs == 7


def test_context_windows_may_be_a_number_or_a_table(toml: Path) -> None:
    toml.write_text("context_tokens = 8000\n")
    assert context_tokens_of(load(config=toml, environ={}).settings, "any") == 8000
    toml.write_text('[context_tokens]\ndefault = 4000\n"llama3:8b" = 9000\n')
    settings = load(config=toml, environ={}).settings
    assert context_tokens_of(settings, "llama3:8b") == 9000
    assert context_tokens_of(settings, "any") == 4000


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("prot = 1", "Unknown setting 'prot'"),
        ("port = 'x'", "Setting port"),
        ("port = 70000", "Setting port"),
        ("run_ttl_s = 0", "Setting run_ttl_s"),
        ("sandbox = 'docker'", "Setting sandbox"),
        ("port = ", "not valid TOML"),
    ],
)
def test_a_bad_file_is_told_where_it_is_wrong(toml: Path, text: str, complaint: str) -> None:
    toml.write_text(text)
    with pytest.raises(SettingsError, match=complaint):
        load(config=toml, environ={})


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "many"), ("STRICT", "maybe"), ("LOG_LEVEL", "loud")]
)
def test_a_bad_variable_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"UNDERSTUDY_{name}"):
        load(environ={f"UNDERSTUDY_{name}": value})


def test_a_file_that_was_named_must_exist(toml: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        load(config=toml, environ={})


def test_secrets_are_masked_where_values_are_printed() -> None:
    assert masked("upstream_key", "sk-abcdefghijkl") == "sk-…kl"
    assert masked("api_key", "short") == "…"
    assert masked("database_url", "postgresql://u:secret@h/d") == "postgresql://u:…@h/d"
    assert masked("database_url", "postgresql://h1:1,h2:2/d?a=b") == "postgresql://h1:1,h2:2/d?a=b"
    assert masked("database_url", "postgresql://h/d?user=u&password=s") == (
        "postgresql://h/d?user=u&password=…"
    )
    for odd in ("p@ss/word", "a:b?c#d", "[x"):  # None of these is a URL.
        assert masked("database_url", f"postgresql://u:{odd}@h/d") == "postgresql://u:…@h/d"
    assert masked("upstream_url", "http://h:1/v1") == "http://h:1/v1"
    assert masked("sandbox", "jupyter+http://u:p@h:1/?token=abc") == "jupyter+http://…@h:1/?token=…"
    assert masked("sandbox", "jupyter+http://abc@h:1") == "jupyter+http://…@h:1"
    assert masked("sandbox", "auto") == "auto"
    assert masked("model", None) == "-"
    assert masked("strict", True) == "true"
    assert masked("cors_origins", ("a", "b")) == "a, b"
    assert masked("context_tokens_by_model", {"m": 1}) == "m=1"


def test_every_setting_is_described() -> None:
    assert all(descriptions().values())
    assert set(descriptions()) == set(Settings.__struct_fields__)


def test_the_variables_of_s3_clients_are_passed_on() -> None:
    environ = {"AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL": " ", "AWS_PROFILE": "mine"}
    assert object_store_options(environ) == {"aws_region": "eu-west-1"}


def test_files_are_in_the_data_folder_unless_said_otherwise() -> None:
    assert blobs_url_of(Settings(data="/a b")) == "file:///a%20b/blobs"
    elsewhere = Settings(blobs_url="s3://bucket")
    assert blobs_url_of(elsewhere) == "s3://bucket"


def test_the_sandboxs_packages_are_where_its_user_can_read_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert sandbox_folder_of(Settings()) == Path("/var/lib/understudy/sandbox")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.chdir(tmp_path)
    assert sandbox_folder_of(Settings()) == tmp_path / "understudy-data" / "sandbox"
    assert sandbox_folder_of(Settings(sandbox_folder="here")) == tmp_path / "here"
