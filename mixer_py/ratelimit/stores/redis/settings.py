"""The keys of `rate_limit.redis:`: how mixer speaks to a Redis or Valkey that keeps counters."""

from __future__ import annotations

from pydantic import Field, model_validator

from mixer_py.settings import Duration, LocalPath, Secret, Settings


class RedisTlsSettings(Settings):
    """Certificates, with `rediss://`."""

    ca: LocalPath | None = None
    """Certificates of the authorities that may have signed the server's; left out, those of the system."""
    certificate: LocalPath | None = None
    """mixer's own certificate, where the server asks for one."""
    key: LocalPath | None = None
    """Its private key."""
    check_hostname: bool = True
    """Whether the server's certificate has to name the host that the URI names."""

    @model_validator(mode="after")
    def _both_or_none(self) -> RedisTlsSettings:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together; give both or none")
        return self


class RedisSettings(Settings):
    """How mixer speaks to the Redis or Valkey that `rate_limit.store` names."""

    username: str | None = None
    """The user (ACL), where the URI names none."""
    password: Secret | None = None
    """The password; never in the URI."""
    sentinel_username: str | None = None
    """The user at the Sentinels."""
    sentinel_password: Secret | None = None
    """The password at the Sentinels."""
    tls: RedisTlsSettings = RedisTlsSettings()
    """Certificates, with `rediss://`."""
    prefix: str = "mixer:"
    """What every counter's key begins with. Mixers that share limits share it."""
    expiry_jitter: Duration = Field(default=10.0, ge=0, le=86_400)
    """A counter is kept beyond its end for so long at most and half of it at least, so that not all counters of a
    window expire at once."""
    connect_timeout: Duration = Field(default=1.0, gt=0, le=60)
    """How long an attempt to connect may take. It is made in the background: no call waits longer than
    `rate_limit.timeout`."""
    calls: int = Field(default=2, ge=1, le=64)
    """Script calls that may be on their way to one server at one time, for each worker. What comes meanwhile goes
    together into the next."""
    queue: int = Field(default=10_000, ge=1)
    """Requests of a worker that may wait for one server; more fail at once."""
