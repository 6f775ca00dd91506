"""The same settings for applications that keep theirs in pydantic-settings.

Example::

    class AppSettings(BaseSettings):
        startup: OrchestratorSettings = Field(default_factory=OrchestratorSettings)

    settings = AppSettings().startup.settings

`orchestrator.settings` alone reads the environment too, and loads neither pydantic nor
pydantic-settings: they cost a start-up more than everything else in this library together.
"""

import os
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, Self

try:
    from pydantic import (
        VERSION,
        Field,
        SecretStr,
        ValidationError,
        create_model,
        model_validator,
    )
    from pydantic_core import InitErrorDetails
    from pydantic_settings import BaseSettings, SettingsConfigDict
except ImportError as _missing:  # of pydantic 1, too
    if _missing.name not in {"pydantic", "pydantic_core", "pydantic_settings"}:
        raise  # it is there, and lacks something itself
    raise ModuleNotFoundError(
        "orchestrator.settings.pydantic needs pydantic 2.6 and pydantic-settings 2.2, or newer:"
        " install startup-orchestrator[pydantic]",
        name=_missing.name,
    ) from None

from orchestrator.settings import (
    CHECK_VARIABLES,
    DEFAULT_REDIS_URL,
    PREFIX,
    Settings,
    SettingsError,
    checks_of,
)
from states import Policy

__all__ = ["OrchestratorSettings"]

if tuple(map(int, VERSION.split(".")[:2])) < (2, 6):
    # Its errors would show the values of the model around this one, which may be secrets.
    raise ModuleNotFoundError(
        "orchestrator.settings.pydantic needs pydantic 2.6 and pydantic-settings 2.2, or newer, not"
        f" pydantic {VERSION}: install startup-orchestrator[pydantic]",
        name="pydantic",
    )

_HIDDEN = "hidden, as it may be a secret"

if TYPE_CHECKING:
    _PolicyFields = BaseSettings
else:
    # There is no second list of the policy's fields which could differ from the first.
    _PolicyFields = create_model(
        "_PolicyFields",
        __base__=BaseSettings,
        **{
            field.name: (
                field.type,
                Field(default=field.default, description=field.metadata["why"]),
            )
            for field in fields(Policy)
        },
    )


class OrchestratorSettings(_PolicyFields):
    """`Settings` from all that pydantic-settings can read: environment, `.env` files, secrets.

    Each field of `Policy` is a field here, with what is in force: what was set, else the default of
    the platform. What is allowed, and what an error says, is as in `Settings.from_environment`,
    which does the work.

    Args:
        values: Fields by name, which go before all that is read; and what pydantic-settings takes,
            such as `_env_file` and `_secrets_dir`.

    Raises:
        SettingsError: When a value cannot be used. Inside another model's validation, where it may
            be raised only as a part of pydantic's own error, its text is the same.

    Attributes:
        redis_url: Where Redis is. It may hold a password.
        enabled: False is the rollback: no other value can be wrong then.
        checks: The URLs of what else is asked. They may hold passwords.
        optional_checks: The same, of what ready does not need.
    """

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True
    )

    redis_url: SecretStr = SecretStr(DEFAULT_REDIS_URL)
    enabled: bool = True
    checks: SecretStr = SecretStr("")
    optional_checks: SecretStr = SecretStr("")
    # A field of its own, so that it is found where ORCHESTRATOR_REDIS_URL is set but blank.
    shared_redis_url: SecretStr | None = Field(
        default=None, validation_alias="REDIS_URL", exclude=True, repr=False
    )

    def __init__(self, **values: Any) -> None:  # noqa: ANN401  pydantic checks them
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _ours(error) or error from None

    @property
    def settings(self) -> Settings:
        """What an `Orchestrator` and its probe are made with."""
        policy = Policy(**{field.name: getattr(self, field.name) for field in fields(Policy)})
        url = self.redis_url.get_secret_value()
        urls = (self.checks, self.optional_checks)
        environ = {
            name: secret.get_secret_value()
            for name, secret in zip(CHECK_VARIABLES, urls, strict=True)
        }
        checks = checks_of(environ, policy, lenient=not self.enabled)
        return Settings(policy=policy, redis_url=url, enabled=self.enabled, checks=checks)

    @model_validator(mode="before")
    @classmethod
    def _read(cls, values: dict[str, Any]) -> dict[str, Any]:
        known = {PREFIX + name.upper() for name in cls.model_fields} | {"REDIS_URL"}
        # The platform's own variables, and misspelt ones, of which there is a warning. One with two
        # underscores is for a field called `orchestrator` of the application's own settings.
        environ = {
            name: text
            for name, text in os.environ.items()
            if name.upper() not in known and not name.upper().startswith(PREFIX + "_")
        }
        read_here = {PREFIX + field.name.upper() for field in fields(Policy)}
        read_here |= {PREFIX + "REDIS_URL", PREFIX + "ENABLED", "REDIS_URL", *CHECK_VARIABLES}
        for name, value in values.items():
            variable = name if name == "REDIS_URL" else PREFIX + name.upper()
            secret = isinstance(value, SecretStr)
            if value is not None and variable in read_here:
                environ[variable] = value.get_secret_value() if secret else str(value)
        read = Settings.from_environment(environ)
        policy = {field.name: getattr(read.policy, field.name) for field in fields(Policy)}
        return {**values, **policy, "redis_url": read.redis_url, "enabled": read.enabled}

    @model_validator(mode="wrap")
    @classmethod
    def _keep_secrets(cls, values: object, handler: Callable[[object], Self]) -> Self:
        """Leave the input out of pydantic's error: that of a model around this one shows it."""
        try:
            return handler(values)
        except ValidationError as error:
            if (ours := _ours(error)) is None:
                raise
            detail = InitErrorDetails(type="value_error", input=_HIDDEN, ctx={"error": ours})
            raise ValidationError.from_exception_data(cls.__name__, [detail]) from None


def _ours(error: ValidationError) -> SettingsError | None:
    for detail in error.errors():
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, SettingsError):
            return cause
    return None
