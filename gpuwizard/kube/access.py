"""The way to one API server: kubeconfig read, credentials loaded, HTTP client open.

The only module that imports kubernetes_asyncio; importing it takes about a second of CPU, so that happens in a
thread, at the first use.
"""

import asyncio
import importlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gpuwizard.clean import clean_line
from gpuwizard.errors import LoginError, UnreachableError, UsageError

__all__ = ["Access", "open_access"]

_CREDENTIALS_LIMIT = 60.0
_CONNECTIONS = 64


@dataclass(frozen=True, slots=True)
class _Library:
    client: Any
    config: Any
    config_error: type[Exception]
    aiohttp: Any


@dataclass(frozen=True, slots=True)
class Access:
    """An open client of one server. `failures` are the exceptions that mean that no answer came."""

    client: Any
    server: str
    failures: tuple[type[BaseException], ...]
    aiohttp: Any

    async def send(
        self,
        method: str,
        path: str,
        *,
        query: tuple[tuple[str, str], ...],
        body: Any,
        content_type: str,
        timeout: float | None,
        read_timeout: float | None = None,
    ) -> Any:
        """Send one request and return the client's response object, whose body is not yet read."""
        return await self.client.call_api(
            path,
            method,
            query_params=list(query),
            header_params={"Accept": "application/json", "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
            _preload_content=False,
            _request_timeout=self.aiohttp.ClientTimeout(total=timeout, sock_connect=10.0, sock_read=read_timeout),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self.client.close()


async def open_access(
    *, kubeconfig: Path | None = None, context: str | None = None, config: Mapping[str, Any] | None = None
) -> Access:
    """Read the kubeconfig (a file, KUBECONFIG, ``~/.kube/config``, or `config` as a dict) and open a client.

    With `config` nothing of this machine is read: no kubeconfig, no proxy variables, no netrc. Raises UsageError
    for a file or context that is not there or not valid, LoginError when credentials cannot be had, and
    UnreachableError when there is no kubeconfig at all.
    """
    paths = "" if config is not None else _kubeconfig_paths(kubeconfig)
    library = await asyncio.to_thread(_load_library)
    where = paths or "kubeconfig"
    with tempfile.TemporaryDirectory(prefix="gpuwizard-") as folder:
        try:
            async with asyncio.timeout(_CREDENTIALS_LIMIT):
                return await _open(library, paths, context, config, folder)
        except library.config_error as error:
            raise _config_problem(clean_line(str(error)), where) from error
        except (yaml.YAMLError, KeyError, TypeError, AssertionError, AttributeError) as error:
            raise UsageError(
                f"the kubeconfig is not valid: {clean_line(str(error))}", where=where, remedy="check the file's syntax"
            ) from error
        except TimeoutError as error:
            raise LoginError(
                "the credential plugin of the kubeconfig did not end in time",
                where=where,
                remedy="run the plugin's command by hand and log in there",
            ) from error
        except (OSError, RuntimeError, ValueError) as error:
            raise LoginError(
                f"the credentials of the kubeconfig cannot be loaded: {clean_line(str(error))}",
                where=where,
                remedy="check the files and the plugin that the kubeconfig's user names",
            ) from error
        finally:
            # The library keeps decoded keys in files until the process ends, and remembers their names.
            library.config._cleanup_temp_files()


async def _open(
    library: _Library, paths: str, context: str | None, config: Mapping[str, Any] | None, folder: str
) -> Access:
    settings = library.client.Configuration()
    settings.connection_pool_maxsize = _CONNECTIONS
    if config is not None:
        settings.proxy = None
        loader = await library.config.load_kube_config_from_dict(
            dict(config), context=context, client_configuration=settings, temp_file_path=folder
        )
    else:
        loader = await library.config.load_kube_config(
            paths, context=context, client_configuration=settings, persist_config=False, temp_file_path=folder
        )
    if hasattr(loader, "exec_plugin_expiry"):
        settings.refresh_api_key_hook = _refresh(loader)
    client = library.client.ApiClient(configuration=settings)
    client.user_agent = "gpuwizard"
    if config is not None:
        _forget_environment(client, library.aiohttp)
    failures = (library.aiohttp.ClientError, TimeoutError, OSError)
    return Access(client, settings.host, failures, library.aiohttp)


def _forget_environment(client: Any, aiohttp: Any) -> None:
    """Replace the HTTP session by one that knows no proxy variables and no netrc."""
    session = client.rest_client.pool_manager
    connector = session.connector
    session.detach()
    client.rest_client.pool_manager = aiohttp.ClientSession(connector=connector, trust_env=False, read_bufsize=2**21)


def _refresh(loader: Any) -> Any:
    async def hook(settings: Any) -> None:
        await loader.load_from_exec_plugin()  # runs the plugin only when its token is about to expire
        settings.api_key["BearerToken"] = loader.token

    return hook


def _load_library() -> _Library:
    client = importlib.import_module("kubernetes_asyncio.client")
    config = importlib.import_module("kubernetes_asyncio.config.kube_config")
    return _Library(client, config, config.ConfigException, importlib.import_module("aiohttp"))


def _kubeconfig_paths(kubeconfig: Path | None) -> str:
    """The file to read, or KUBECONFIG's list of files, or the default file."""
    if kubeconfig is not None:
        problem = _unreadable(kubeconfig)
        if problem:
            raise UsageError(f"cannot read the kubeconfig: {problem}", where=str(kubeconfig), remedy="check the path")
        return str(kubeconfig)
    listed = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    paths = [Path(p).expanduser() for p in listed.split(os.pathsep) if p]
    if all(_unreadable(path) for path in paths):
        raise UnreachableError(
            "there is no kubeconfig that can be read",
            where=listed,
            remedy="name one with --kubeconfig (K3s: /etc/rancher/k3s/k3s.yaml), or set kubernetes.manage = false",
        )
    return os.pathsep.join(str(path) for path in paths if not _unreadable(path))


def _unreadable(path: Path) -> str | None:
    try:
        with path.open("rb"):
            return None
    except OSError as error:
        return error.strerror or str(error)


def _config_problem(message: str, where: str) -> UsageError | LoginError:
    if message.startswith("exec:"):
        return LoginError(
            f"the credential plugin of the kubeconfig failed: {message.removeprefix('exec: ')}",
            where=where,
            remedy="run the plugin's command by hand and log in there",
        )
    return UsageError(message, where=where, remedy="check the kubeconfig, or choose a context with --context")
