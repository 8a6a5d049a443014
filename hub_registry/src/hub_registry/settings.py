"""Every setting of the hub, named once.

Argument > environment (``DLHUB_HUB_<NAME>``) > secret (a file ``dlhub_hub_<name>`` in the directory
``DLHUB_HUB_SECRETS_DIR``) > file (TOML, named by ``--config`` or ``DLHUB_HUB_CONFIG``) > default. The command
line is made from these fields, so their descriptions are its help.
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from hub_registry.errors import ConfigurationError

ENV_PREFIX = "DLHUB_HUB_"

FABRICS = frozenset({"local", "broker", "globus"})

MIB = 1024**2
GIB = 1024**3


def _default_data_dir() -> Path:
    from platformdirs import user_data_path

    return user_data_path("dlhub") / "hub"


def _cpu_count() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _warm_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


class Settings(BaseSettings):
    """How one hub is set up. Immutable; `load` turns mistakes into sentences."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid", frozen=True)

    # Where things are
    data_dir: Path = Field(
        default_factory=_default_data_dir,
        description="Directory of everything the hub keeps; made with mode 0700.",
    )
    database_url: str = Field(
        default_factory=lambda data: f"sqlite:///{data['data_dir'] / 'hub.sqlite'}",
        description="SQLAlchemy URL of the database. Default: SQLite, in <data_dir>/hub.sqlite.",
    )
    objects_url: str = Field(
        default_factory=lambda data: (data["data_dir"] / "objects").as_uri(),
        description="fsspec URL of the file store. Default: <data_dir>/objects.",
    )
    environments_dir: Path = Field(
        default_factory=lambda data: data["data_dir"] / "environments",
        description="Directory of built environments; several hubs may share one. "
        "Default: <data_dir>/environments.",
    )
    spool_dir: Path = Field(
        default_factory=lambda data: data["data_dir"] / "spool",
        description="Directory of large inputs and results; hubs on one database share one. "
        "Default: <data_dir>/spool.",
    )
    secret_file: Path = Field(
        default_factory=lambda data: data["data_dir"] / "secret.key",
        description="File with the hub's own secret, from which broker passwords and signed links are "
        "derived; made by the first start. Hubs on one database need the same. Default: "
        "<data_dir>/secret.key.",
    )

    # How it listens
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8787, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    tls_certificate: Path | None = Field(
        default=None, description="PEM file with the certificate chain; with tls_key, the hub speaks https."
    )
    tls_key: Path | None = Field(default=None, description="PEM file with the private key.")
    allow_plaintext: bool = Field(
        default=False,
        description="Listen beyond loopback without TLS, behind a proxy that adds it for instance. "
        "Tokens then cross the network in clear text between that proxy and the hub.",
    )
    public_url: str = Field(
        default="",
        description="URL under which others reach the hub, through a proxy for instance; written to "
        "<data_dir>/hub.json. Empty: made from the address it listens on.",
    )
    trusted_proxies: str = Field(
        default="",
        description="Addresses, separated by commas, of proxies whose X-Forwarded-For and -Proto headers "
        "are believed. Empty: none.",
    )
    drain_s: float = Field(
        default=10.0, gt=0, description="Seconds that open requests may still take when the hub is stopped."
    )

    # Who may use it
    admin_name: str = Field(
        default="",
        description="User the first start makes. Empty: the name of the operating system's user.",
    )
    token_cache_s: float = Field(
        default=5.0,
        ge=0,
        description="Seconds for which a token checked once is not looked up again. A token revoked through "
        "another hub on the same database works here for at most this long.",
    )

    # What it takes
    max_body_bytes: int = Field(
        default=256 * MIB, gt=0, description="Largest body of a run or a batch of runs, in bytes."
    )
    max_json_bytes: int = Field(default=8 * MIB, gt=0, description="Largest body of other calls, in bytes.")
    max_upload_bytes: int = Field(
        default=100 * GIB, gt=0, description="Largest file that can be uploaded, in bytes."
    )
    max_open_uploads: int = Field(default=64, ge=1, description="Uploads a user may have under way.")
    upload_ttl_s: float = Field(
        default=86400.0,
        gt=0,
        description="Seconds for which an upload nobody goes on with is kept, and a file nothing refers to.",
    )
    max_inline_bytes: int = Field(
        default=64 * 1024,
        ge=0,
        description="Inputs and results up to this size, in bytes, travel by value; larger ones by file.",
    )
    result_ttl_s: float = Field(
        default=7 * 86400.0, gt=0, description="Seconds for which a result is kept after its task has ended."
    )

    # How it publishes
    publications_at_once: int = Field(
        default=2, ge=1, description="Publications that are worked on at the same time."
    )
    compile_environments: bool = Field(
        default=True,
        description="Compile bytecode when an environment is built: seconds then, for faster cold starts.",
    )
    environment_ttl_s: float = Field(
        default=30 * 86400.0,
        gt=0,
        description="Seconds without use after which an environment that no servable needs is removed.",
    )
    test_time_s: float = Field(
        default=600.0, gt=0, description="Seconds that a servable's own test may take when it is published."
    )
    test_memory_bytes: int = Field(
        default=16 * GIB, gt=0, description="Private memory of each process of such a test, in bytes."
    )

    # In which images
    image_builder: Literal["none", "podman", "buildah", "docker", "apptainer"] = Field(
        default="none",
        description="Tool with which an image of each servable is made and tested before it is live. None: "
        "servables have no images.",
    )
    image_base: str = Field(
        default="",
        description="Image that servables' images are made from, as the builder names it: with glibc and the "
        "servables' versions of Python. Best with its digest.",
    )
    image_command: str = Field(
        default="",
        description="Name or path of the sites' command dlhub-endpoint, which makes the images. Default: "
        "beside the hub's own interpreter, else on the PATH.",
    )
    image_time_s: float = Field(
        default=3600.0, gt=0, description="Seconds that an image may take, its test included."
    )

    # How it runs servables
    workers: int = Field(
        default_factory=_cpu_count,
        ge=1,
        description="Worker processes of the local fabric. Default: one a CPU.",
    )
    prefetch: int = Field(
        default=1, ge=0, description="Batches that wait at an environment's workers while those are busy."
    )
    max_engines: int = Field(
        default=4, ge=1, description="Environments whose workers run at once; an idle one makes room."
    )
    warm_start: bool = Field(
        default=True, description="Start the workers of the environment used last together with the hub."
    )
    engine_idle_s: float = Field(
        default=600.0, gt=0, description="Seconds without work after which the workers of an environment end."
    )
    allow_pickle: bool = Field(
        default=False,
        description="Let workers unpickle models and values. A pickle can run any code as the hub's user: "
        "switch it on only where every publisher is trusted.",
    )

    allow_local_files: bool = Field(
        default=False,
        description="Let callers name files on the workers' machine as inputs, by path or file: URL. Every "
        "caller can then read whatever the hub's user can read.",
    )
    staging: str = Field(
        default="",
        description="What references of tasks may name on the local fabric: a JSON object, or the path of a "
        "file with one, which also names the file with the credentials. Default: files in this hub's store.",
    )
    warm_bytes: int = Field(
        default_factory=_warm_bytes,
        ge=0,
        description="Memory for loaded servables, in bytes, of all workers together; the least recently used "
        "go first. Default: half of the machine's.",
    )

    # How tasks reach sites
    fabrics: str = Field(
        default="local",
        description="Ways to reach workers, separated by commas: local (workers of this hub), broker "
        "(endpoints that registered with this hub's gateway; needs RabbitMQ), globus (endpoints of the "
        "hosted Globus Compute service).",
    )
    broker_url: str = Field(
        default="",
        repr=False,
        description="amqp(s)://user:password@host:port/vhost of RabbitMQ; the user needs the tag "
        "administrator. Better given by the environment than on the command line.",
    )
    broker_management_url: str = Field(
        default="",
        repr=False,
        description="http(s)://host:port of RabbitMQ's management interface. Default: port 15672 (15671 "
        "with amqps) of the broker's host.",
    )
    broker_public_url: str = Field(
        default="",
        description="amqp(s)://host:port/vhost under which endpoints and clients reach the broker. "
        "Default: as broker_url.",
    )
    broker_ca: Path | None = Field(
        default=None, description="PEM file with the authority that signed the broker's certificate."
    )
    gateway_port: int = Field(
        default=5000,
        ge=0,
        le=65535,
        description="Port of the Globus Compute gateway, with the fabric broker; 0 takes a free one. The "
        "official clients look for a local service on 5000.",
    )
    gateway_public_url: str = Field(
        default="",
        description="URL under which others reach the gateway. Empty: made from the address it listens on.",
    )
    worker_url: str = Field(
        default="",
        description="URL of this hub as workers at the sites reach it, for files too large for a message. "
        "Empty: public_url.",
    )
    max_message_bytes: int = Field(
        default=4 * MIB,
        gt=0,
        description="Inputs of one batch up to this size, in bytes, travel through the broker; larger ones "
        "are fetched from the hub by the worker.",
    )
    compute_payload_bytes: int = Field(
        default=10 * MIB,
        gt=0,
        description="Largest arguments, and largest result, of a task of the gateway, in bytes.",
    )
    compute_task_ttl_s: float = Field(
        default=14 * 86400.0,
        gt=0,
        description="Seconds after which a task of the gateway that its endpoint never took is given up.",
    )
    stale_heartbeats: float = Field(
        default=3.0,
        gt=1,
        description="Heartbeat periods without a heartbeat after which an endpoint counts as offline and "
        "its tasks are sent again.",
    )

    # Whose accounts it trusts, and which hosted endpoints it uses
    globus_auth_client_id: str = Field(
        default="",
        description="Client of Globus Auth with which tokens are introspected. Empty: accounts are local.",
    )
    globus_auth_client_secret: str = Field(
        default="", repr=False, description="Its secret. Better given by the environment."
    )
    globus_endpoints: str = Field(
        default="",
        description="Endpoints of the hosted service that the fabric globus uses: UUIDs separated by commas.",
    )
    globus_client_id: str = Field(default="", description="Globus client identity of the fabric globus.")
    globus_client_secret: str = Field(
        default="", repr=False, description="Its secret. Better given by the environment."
    )
    globus_service_url: str = Field(
        default="",
        description="Another Globus Compute service than the hosted one for the fabric globus: the gateway "
        "of another hub for instance.",
    )

    # How it is watched
    metrics_token_file: Path | None = Field(
        default=None,
        description="File with a token that may read /metrics and nothing else, for Prometheus; read at each "
        "scrape. Without it, administrators' tokens may.",
    )
    min_free_bytes: int = Field(
        default=512 * MIB, ge=0, description="The hub reports itself not ready with less free disk than this."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe log line that is written."
    )
    log_format: Literal["json", "text"] = Field(default="json", description="A JSON object a line, or text.")
    log_file: Path | None = Field(
        default=None, description="Log file (rotated at 10 MiB, 5 kept); default: standard error."
    )
    slow_request_s: float = Field(
        default=5.0, gt=0, description="A request that takes longer, in seconds, is logged by itself."
    )

    @field_validator(
        "data_dir",
        "environments_dir",
        "spool_dir",
        "secret_file",
        "tls_certificate",
        "tls_key",
        "broker_ca",
        "metrics_token_file",
        "log_file",
    )
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        # The hub's children run in other directories.
        return path.expanduser().absolute() if path is not None else None

    @field_validator("staging")
    @classmethod
    def _check_staging(cls, text: str) -> str:
        if text.strip():
            # Imported here: it loads numpy, and few hubs have rules.
            from home_run.remote.errors import SiteSetupError
            from home_run.staging.rules import parse_rules

            try:
                parse_rules(text)
            except SiteSetupError as error:
                raise ValueError(f"staging: {error.message}") from error
            if not text.lstrip().startswith("{"):  # the hub's children run in other directories
                return str(Path(text.strip()).expanduser().absolute())
        return text

    @model_validator(mode="after")
    def _check_fabrics(self) -> Settings:
        names = self.fabric_names
        if not names or names - FABRICS:
            raise ValueError(
                f"fabrics is {self.fabrics!r}: name some of {', '.join(sorted(FABRICS))}, separated by commas"
            )
        if "broker" in names and not self.broker_url:
            raise ValueError("the fabric broker needs broker_url, where RabbitMQ is")
        if "globus" in names and not (
            self.globus_endpoints and self.globus_client_id and self.globus_client_secret
        ):
            raise ValueError(
                "the fabric globus needs globus_endpoints, globus_client_id and globus_client_secret"
            )
        return self

    @model_validator(mode="after")
    def _check_images(self) -> Settings:
        if self.image_builder != "none" and not self.image_base:
            raise ValueError(
                f"image_builder is {self.image_builder!r}, and image_base does not say from which image "
                "servables' images are made"
            )
        return self

    @model_validator(mode="after")
    def _check_together(self) -> Settings:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together: give both or neither")
        if not self.uses_tls and not self.allow_plaintext and not self.is_loopback:
            raise ValueError(
                f"host is {self.host!r}, so the hub would listen beyond this machine without TLS and tokens "
                "would cross the network in clear text. Set tls_certificate and tls_key, or listen on "
                "127.0.0.1, or set allow_plaintext if a proxy in front of the hub adds TLS"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, environment, files of secrets, then the TOML file; no .env file is read."""
        sources = [init_settings, env_settings]
        # Images name the directory where a secret would be mounted, if there is one.
        if (secrets := os.environ.get(f"{ENV_PREFIX}SECRETS_DIR")) and Path(secrets).is_dir():
            sources.append(SecretsSettingsSource(settings_cls, secrets))
        if config := os.environ.get(f"{ENV_PREFIX}CONFIG"):
            sources.append(TomlConfigSettingsSource(settings_cls, Path(config)))
        return tuple(sources)

    @classmethod
    def load(cls, **arguments: Any) -> Settings:
        """Settings from arguments, environment and file.

        Raises
        ------
        ConfigurationError
            A value breaks a rule; the message names every such setting.
        """
        config = os.environ.get(f"{ENV_PREFIX}CONFIG")
        if config and not Path(config).is_file():
            raise ConfigurationError(
                f"The configuration file {config!r} does not exist.",
                remedy=f"Name a TOML file with --config or {ENV_PREFIX}CONFIG.",
            )
        try:
            return cls(**arguments)
        except ValidationError as error:
            raise ConfigurationError(
                "The hub cannot be set up like this: " + "; ".join(_sentences(error)) + ".",
                remedy=f"A setting is an option (--port), a variable ({ENV_PREFIX}PORT) or a line of the "
                "configuration file (port = 8787); `hub_registry serve --help` lists all.",
            ) from error
        except SettingsError as error:
            raise ConfigurationError(
                f"A setting cannot be read: {error}: {error.__cause__}.",
                remedy=f"Let the hub's user read every file in the directory {ENV_PREFIX}SECRETS_DIR.",
            ) from error
        except ValueError as error:  # the TOML file cannot be read
            raise ConfigurationError(
                f"The configuration file {config!r} is not TOML: {error}.",
                remedy="Each line reads name = value, with strings in quotes.",
            ) from error

    @property
    def fabric_names(self) -> frozenset[str]:
        """The fabrics by name."""
        return frozenset(name.strip() for name in self.fabrics.split(",") if name.strip())

    @property
    def uses_tls(self) -> bool:
        """Whether the hub itself speaks https."""
        return self.tls_certificate is not None

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the hub."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:  # a host name
            return False

    @property
    def engines_dir(self) -> Path:
        """Scratch directories of the local fabric's engines."""
        return self.data_dir / "engines"

    @property
    def lock_file(self) -> Path:
        """Held by the one hub that works on the data directory."""
        return self.data_dir / "hub.lock"

    @property
    def ready_file(self) -> Path:
        """Where a hub that answers says so: JSON with pid, url, version and started_at."""
        return self.data_dir / "hub.json"


def _sentences(error: ValidationError) -> list[str]:
    sentences = []
    for item in error.errors():
        name = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        if not name:
            sentences.append(message)
        elif item["type"] == "extra_forbidden":
            sentences.append(f"{name} is not a setting")
        else:
            sentences.append(f"{name} is {item['input']!r}: {message}")
    return sentences
