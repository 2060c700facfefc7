"""The environment: names, precedence, spellings, and errors that name the variable."""

import pytest
from cryptography.fernet import Fernet

from app.errors import ConfigError
from app.settings import Settings, read


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch, tmp_path):
    """A working directory and an environment without anything of ours."""
    monkeypatch.chdir(tmp_path)
    for info in Settings.model_fields.values():
        monkeypatch.delenv(str(info.alias), raising=False)


def test_nothing_is_needed():
    found = read()

    assert found.database_url is None
    assert str(found.home) == ".syncline"
    assert found.secret_keys == ()
    assert found.environment_accounts == {}


def test_the_environment_wins_over_the_file(monkeypatch, tmp_path):
    (tmp_path / ".env").write_text("PUBLIC_URL=https://file.example\nCLOSE_API_KEY=from-the-file\n")
    monkeypatch.setenv("PUBLIC_URL", "https://real.example/")

    found = read()

    assert found.public_url == "https://real.example"
    assert found.close_api_key is not None
    assert found.close_api_key.get_secret_value() == "from-the-file"
    assert found.environment["CLOSE_API_KEY"] == "from-the-file"
    assert found.environment["PUBLIC_URL"] == "https://real.example/"


def test_empty_means_unset(monkeypatch, tmp_path):
    (tmp_path / ".env").write_text("CLOSE_API_KEY=\n")
    monkeypatch.setenv("DATABASE_URL", "")

    found = read()

    assert found.database_url is None
    assert found.environment_accounts == {}


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_every_spelling_of_the_database_is_one(monkeypatch, scheme):
    monkeypatch.setenv("DATABASE_URL", f"{scheme}://u:p@db/syncline")

    assert read().database_url == "postgresql://u:p@db/syncline"


def test_no_secret_is_in_the_repr(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:hunter2@db/syncline")
    monkeypatch.setenv("CLOSE_API_KEY", "hunter2")
    monkeypatch.setenv("SYNCLINE_API_TOKEN", "hunter2")

    assert "hunter2" not in repr(read())


def test_keys_are_separated_by_commas(monkeypatch):
    first, second = (Fernet.generate_key().decode() for _ in range(2))
    monkeypatch.setenv("SYNCLINE_SECRET_KEYS", f"{first}, {second}")

    assert [key.get_secret_value() for key in read().secret_keys] == [first, second]


def test_every_bad_variable_is_named_and_no_value_is_shown(monkeypatch):
    good = Fernet.generate_key().decode()
    monkeypatch.setenv("DATABASE_URL", "mysql://u:hunter2@db")
    monkeypatch.setenv("SYNCLINE_SECRET_KEYS", f"{good},hunter2")
    monkeypatch.setenv("PUBLIC_URL", "sync.example.com")
    monkeypatch.setenv("SYNCLINE_LOG", "xml")

    with pytest.raises(ConfigError) as error:
        read()

    assert str(error.value).splitlines() == [
        "DATABASE_URL: must start with postgresql://",
        "SYNCLINE_SECRET_KEYS: key 2 is not a Fernet key; `syncline keys new` makes one",
        "PUBLIC_URL: must be a URL that starts with https:// or http://",
        "SYNCLINE_LOG: Input should be 'auto', 'json' or 'console'",
    ]


def test_credentials_make_accounts(monkeypatch):
    monkeypatch.setenv("CLOSE_API_KEY", "api_1")
    monkeypatch.setenv("CLOSE_WEBHOOK_SECRET", "ab" * 32)
    monkeypatch.setenv("HUBSPOT_ACCESS_TOKEN", "pat-1")
    monkeypatch.setenv("SALESFORCE_CLIENT_ID", "3MVG9")
    monkeypatch.setenv("SALESFORCE_USERNAME", "sync@example.com")

    found = read().environment_accounts

    assert list(found) == ["close", "hubspot", "salesforce"]
    assert found["close"]["webhook_secret"].get_secret_value() == "ab" * 32
    assert "webhook_secret" not in found["hubspot"]
    assert list(found["salesforce"]["credentials"]) == ["client_id", "username"]


def test_hubspot_signs_with_the_client_secret(monkeypatch):
    monkeypatch.setenv("HUBSPOT_ACCESS_TOKEN", "pat-1")
    monkeypatch.setenv("HUBSPOT_CLIENT_SECRET", "cs")

    hubspot = read().environment_accounts["hubspot"]

    assert list(hubspot["credentials"]) == ["access_token"]
    assert hubspot["webhook_secret"].get_secret_value() == "cs"


def test_half_an_account_is_an_error_rather_than_silence(monkeypatch):
    monkeypatch.setenv("CLOSE_WEBHOOK_SECRET", "s")

    with pytest.raises(ConfigError, match=r"CLOSE_WEBHOOK_SECRET is set, but CLOSE_API_KEY is not"):
        _ = read().environment_accounts
