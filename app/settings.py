"""The environment, read once and frozen."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv import dotenv_values
from pydantic import Field, PrivateAttr, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.errors import ConfigError

ENV_FILE = ".env"

#: What each account needs before the environment makes it, and the credentials it may have.
_ACCOUNTS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "close": ("api_key", ("api_key",)),
    "hubspot": ("access_token", ("access_token",)),
    "salesforce": (
        "client_id",
        (
            "client_id",
            "username",
            "private_key",
            "client_secret",
            "password",
            "security_token",
        ),
    ),
}
#: What else of an account the environment can set.
_OPTIONS: Mapping[str, tuple[str, ...]] = {"salesforce": ("login_url",)}
#: HubSpot signs webhooks with the client secret of its app.
_WEBHOOK_SECRETS = {"hubspot": "client_secret"}


class Settings(BaseSettings):
    """Every environment variable of Syncline; a `.env` in the working directory counts too.

    A variable that is set but empty counts as unset. The process environment wins over `.env`.
    """

    model_config = SettingsConfigDict(
        env_file=ENV_FILE,
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        case_sensitive=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        populate_by_name=True,
    )

    #: Carries a password: kept out of every repr; the log masks it as well.
    database_url: str | None = Field(None, alias="DATABASE_URL", repr=False)
    home: Path = Field(Path(".syncline"), alias="SYNCLINE_HOME")
    config: Path | None = Field(None, alias="SYNCLINE_CONFIG")
    api_token: SecretStr | None = Field(None, alias="SYNCLINE_API_TOKEN")
    secret_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (), alias="SYNCLINE_SECRET_KEYS"
    )
    public_url: str | None = Field(None, alias="PUBLIC_URL")
    #: Where the commands find the service.
    url: str | None = Field(None, alias="SYNCLINE_URL")
    log: Literal["auto", "json", "console"] = Field("auto", alias="SYNCLINE_LOG")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", alias="SYNCLINE_LOG_LEVEL"
    )

    close_api_key: SecretStr | None = Field(None, alias="CLOSE_API_KEY")
    close_webhook_secret: SecretStr | None = Field(None, alias="CLOSE_WEBHOOK_SECRET")
    hubspot_access_token: SecretStr | None = Field(None, alias="HUBSPOT_ACCESS_TOKEN")
    hubspot_client_secret: SecretStr | None = Field(None, alias="HUBSPOT_CLIENT_SECRET")
    salesforce_client_id: SecretStr | None = Field(None, alias="SALESFORCE_CLIENT_ID")
    salesforce_username: SecretStr | None = Field(None, alias="SALESFORCE_USERNAME")
    salesforce_private_key: SecretStr | None = Field(None, alias="SALESFORCE_PRIVATE_KEY")
    salesforce_client_secret: SecretStr | None = Field(None, alias="SALESFORCE_CLIENT_SECRET")
    salesforce_password: SecretStr | None = Field(None, alias="SALESFORCE_PASSWORD")
    salesforce_security_token: SecretStr | None = Field(None, alias="SALESFORCE_SECURITY_TOKEN")
    salesforce_webhook_secret: SecretStr | None = Field(None, alias="SALESFORCE_WEBHOOK_SECRET")
    salesforce_login_url: str | None = Field(None, alias="SALESFORCE_LOGIN_URL")

    _environment: Mapping[str, str] = PrivateAttr(default_factory=dict)

    def model_post_init(self, context: Any, /) -> None:
        dotenv = {k: v for k, v in dotenv_values(ENV_FILE).items() if v is not None}
        self._environment = {**dotenv, **os.environ}

    @property
    def environment(self) -> Mapping[str, str]:
        """What `${NAME}` in the configuration file can name: `.env` below the environment."""
        return self._environment

    @property
    def environment_accounts(self) -> dict[str, dict[str, Any]]:
        """The accounts that the environment makes, in the shape of the configuration file.

        Raises ConfigError where a part is set that cannot stand alone.
        """
        found: dict[str, dict[str, Any]] = {}
        for name, (needed, possible) in _ACCOUNTS.items():
            given = {c: value for c in possible if (value := getattr(self, f"{name}_{c}"))}
            secret_name = f"{name}_{_WEBHOOK_SECRETS.get(name, 'webhook_secret')}"
            secret = getattr(self, secret_name)
            if needed in given:
                options = {
                    o: v for o in _OPTIONS.get(name, ()) if (v := getattr(self, f"{name}_{o}"))
                }
                found[name] = {"connector": name, "credentials": given, **options}
                found[name] |= {"webhook_secret": secret} if secret else {}
            elif given or secret:
                extra = f"{name}_{next(iter(given))}" if given else secret_name
                raise ConfigError(
                    f"{extra.upper()} is set, but {f'{name}_{needed}'.upper()} is not: "
                    f"set both to connect {name}, or neither"
                )
        return found

    @field_validator("database_url")
    @classmethod
    def _one_spelling(cls, url: str | None) -> str | None:
        if url is None:
            return None
        plain = re.sub(r"^(postgres|postgresql)(\+asyncpg)?://", "postgresql://", url)
        if not plain.startswith("postgresql://"):
            raise ValueError("must start with postgresql://")
        return plain

    @field_validator("secret_keys", mode="before")
    @classmethod
    def _separate(cls, keys: object) -> object:
        return [k.strip() for k in keys.split(",") if k.strip()] if isinstance(keys, str) else keys

    @field_validator("secret_keys")
    @classmethod
    def _are_fernet_keys(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for number, key in enumerate(keys, 1):
            try:
                size = len(base64.urlsafe_b64decode(key.get_secret_value()))
            except (binascii.Error, ValueError):
                size = 0
            if size != 32:
                raise ValueError(f"key {number} is not a Fernet key; `syncline keys new` makes one")
        return keys

    @field_validator("public_url", "url", "salesforce_login_url")
    @classmethod
    def _no_slash(cls, url: str | None) -> str | None:
        if url is None:
            return None
        if not re.match(r"https?://[^/\s]", url):
            raise ValueError("must be a URL that starts with https:// or http://")
        return url.rstrip("/")

    @field_validator("log", mode="before")
    @classmethod
    def _lower(cls, word: object) -> object:
        return word.lower() if isinstance(word, str) else word

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, word: object) -> object:
        return word.upper() if isinstance(word, str) else word


def read() -> Settings:
    """Read the environment now. Raises ConfigError that names each bad variable."""
    try:
        return Settings()
    except ValidationError as error:
        raise ConfigError(
            "\n".join(_sentence(e["loc"], e["msg"]) for e in error.errors())
        ) from None


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read at first use."""
    return read()


def _sentence(loc: tuple[int | str, ...], message: str) -> str:
    name = str(loc[0])
    known = {f: info.alias or f for f, info in Settings.model_fields.items()}
    return f"{known.get(name, name)}: {message.removeprefix('Value error, ')}"
