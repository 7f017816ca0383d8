"""The settings file: servers by name, and the receiver. It holds no secret.

TOML at `$MEDSAM_SETTINGS`, else `settings.toml` in the user's configuration folder. A server is a table
`[servers.NAME]` with `dicomweb = "https://..."`, or `host`, `port` and `called_aet`, or both; docs/pacs.md has all
keys. Passwords and tokens come from the environment (`MEDSAM_NAME_PASSWORD`, `MEDSAM_NAME_TOKEN`) or the system's
keyring, when they are needed: see `credentials`. TLS is always verified; there is no key to turn that off.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import platformdirs

from medsam.errors import InputError

# what may be part of a variable's name, of `dicomweb:NAME/...` and of a TOML key without quotes
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")
# letters of an application entity's title: DICOM's default repertoire without backslash (PS3.5, VR AE)
_AET = re.compile(r"[ -\[\]-~]{1,16}")
_HOST = re.compile(r"[A-Za-z0-9._:%-]{1,253}")
_SECRETS = ("password", "passwd", "secret", "token", "pass")
_UNVERIFIED = ("verify", "insecure", "tls_verify", "verify_tls", "ssl_verify")
TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Dimse:
    """Where a server takes DIMSE associations. aet: our own title. tls: with certificates, as of the server."""

    host: str
    port: int
    called_aet: str
    aet: str = "MEDSAM"
    tls: bool = False


@dataclass(frozen=True)
class Certificates:
    """Files in PEM. ca: who is trusted; None: whom the system trusts. cert, key: our own certificate and its key."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


@dataclass(frozen=True)
class Server:
    """One server of the settings file.

    dicomweb: root of its DICOMweb services, without a slash at the end. user: of HTTP Basic authentication.
    timeout_s: for a connection, and for the next bytes on it.
    """

    name: str
    dicomweb: str | None = None
    dimse: Dimse | None = None
    certificates: Certificates = Certificates()
    user: str | None = None
    timeout_s: float = TIMEOUT_S

    def variable(self, what: str) -> str:
        """The environment variable of a secret: "PASSWORD", "TOKEN" or "KEY_PASSWORD"."""
        return f"MEDSAM_{_upper(self.name)}_{what}"


@dataclass(frozen=True)
class Settings:
    """What the file says. listen: the `[listen]` table as it is; its reader judges it."""

    path: Path
    servers: Mapping[str, Server] = field(default_factory=lambda: MappingProxyType({}))
    listen: Mapping[str, Any] | None = None

    def server(self, name: str) -> Server:
        """The server of that name. Raises InputError that lists the names there are."""
        if name not in self.servers:
            known = f"There is: {', '.join(self.servers)}." if self.servers else "It names no server."
            raise InputError(f"{self.path} has no server {name[:40]!r}. {known} Add a table [servers.NAME].")
        return self.servers[name]


def settings_path() -> Path:
    """`$MEDSAM_SETTINGS`, else `settings.toml` in the user's configuration folder. It may not exist."""
    chosen = os.environ.get("MEDSAM_SETTINGS")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return Path(platformdirs.user_config_dir("medsam", appauthor=False)) / "settings.toml"


def read_settings(path: Path | None = None) -> Settings:
    """Read and check the whole file. path: by default `settings_path()`.

    Relative paths in it start at its own folder. Raises InputError, which names the table and the key, and quotes no
    value: somebody may have put a password in.
    """
    path = settings_path() if path is None else path
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(
            f"There is no settings file {path}. Make it (or name another by MEDSAM_SETTINGS), with a server in it:\n"
            '  [servers.NAME]\n  dicomweb = "https://pacs.example/dicom-web"'
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not text in UTF-8.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or 'it is no file'}.") from error
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        what = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "it cannot be parsed"
        raise InputError(f"{path} is not TOML: {what}.") from error
    top = Table(document, path.name, path.parent)
    named = top.table("servers")
    servers = _servers(named) if named is not None else {}
    listen = top.table("listen")
    top.end()
    return Settings(path, MappingProxyType(servers), None if listen is None else MappingProxyType(dict(listen.values)))


class Table:
    """One table of the file. Each key is taken by its type; `end` refuses those that nobody took.

    where: for messages, e.g. "settings.toml, [servers.main]". folder: where relative paths start.
    """

    def __init__(self, values: Mapping[str, Any], where: str, folder: Path) -> None:
        self.values, self.where, self.folder = values, where, folder
        self._known: list[str] = []

    def error(self, text: str) -> InputError:
        """An error that says where in the file it is."""
        return InputError(f"{self.where}: {text}")

    def _take(self, key: str, kinds: type | tuple[type, ...], what: str) -> Any:
        self._known.append(key)
        value = self.values.get(key)
        # in Python, true is a number
        if value is not None and (not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool)):
            raise self.error(f"`{key}` must be {what}.")
        return value

    def table(self, key: str) -> Table | None:
        """A table in this one, or None."""
        values = self._take(key, dict, f"a table: [{key}]")
        where = f"{self.where}, [{key}]" if "[" not in self.where else self.where.removesuffix("]") + f".{key}]"
        return None if values is None else Table(values, where, self.folder)

    def tables(self, key: str) -> list[Table] | None:
        """A list of tables in this one, or None. In messages they are numbered from 1."""
        values = self._take(key, list, f"tables: [[{key}]]")
        if values is None:
            return None
        if not all(isinstance(one, dict) for one in values):
            raise self.error(f"`{key}` must be tables: [[{key}]].")
        where = f"{self.where.removesuffix(']')}.{key}] number"
        return [Table(one, f"{where} {number}", self.folder) for number, one in enumerate(values, start=1)]

    def text(self, key: str) -> str | None:
        """A text that is not empty, or None."""
        value: str | None = self._take(key, str, f'text in quotes: {key} = "..."')
        if value is not None and (not value.strip() or not value.isprintable()):
            raise self.error(f"`{key}` is empty, or holds characters that cannot be printed.")
        return value

    def texts(self, key: str) -> tuple[str, ...] | None:
        """A list of texts, or None."""
        value = self._take(key, list, f'a list of texts: {key} = ["...", "..."]')
        if value is None:
            return None
        if not all(isinstance(one, str) and one.strip() and one.isprintable() for one in value):
            raise self.error(f'`{key}` must be a list of texts, none of them empty: {key} = ["...", "..."].')
        return tuple(value)

    def flag(self, key: str, default: bool = False) -> bool:
        value: bool | None = self._take(key, bool, "true or false, without quotes")
        return default if value is None else value

    def whole(self, key: str, low: int, high: int) -> int | None:
        """A whole number from `low` to `high`, or None."""
        value: int | None = self._take(key, int, f"a whole number from {low} to {high}, without quotes")
        if value is not None and not low <= value <= high:
            raise self.error(f"`{key}` must lie between {low} and {high}.")
        return value

    def number(self, key: str, low: float, high: float) -> float | None:
        """A number from `low` to `high`, or None."""
        value: float | None = self._take(key, (int, float), f"a number from {low:g} to {high:g}, without quotes")
        if value is not None and not low <= value <= high:
            raise self.error(f"`{key}` must lie between {low:g} and {high:g}.")
        return None if value is None else float(value)

    def path(self, key: str) -> Path | None:
        """A path, absolute; it is not looked whether something is there. Or None."""
        value = self.text(key)
        if value is None:
            return None
        try:
            return (self.folder / Path(value).expanduser()).absolute()
        except RuntimeError:
            raise self.error(f"`{key}` begins with ~ and there is no such user.") from None

    def aet(self, key: str) -> str | None:
        """A title of an application entity, or None."""
        value = self.text(key)
        if value is not None and not is_aet(value):
            raise self.error(f"`{key}` is no AE title: 1 to 16 characters of ASCII, no backslash.")
        return None if value is None else value.strip()

    def end(self) -> None:
        """Raise InputError for the first key that nobody took."""
        for key in self.values:
            if key in self._known:
                continue
            hint = f"Known are: {', '.join(self._known)}."
            if key.lower() in _SECRETS or key.lower().endswith(("password", "token")):
                hint = "No secret is kept in this file: use the environment or the keyring (docs/pacs.md)."
            elif key.lower() in _UNVERIFIED:
                hint = "Certificates are always verified; name your own authority by `ca`."
            raise self.error(f"there is no key `{key[:40]}`. {hint}")


def is_aet(text: str) -> bool:
    """Whether a text can be the title of an application entity."""
    return bool(text.strip()) and _AET.fullmatch(text) is not None


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, so that nothing goes over a wire."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


# -- servers ------------------------------------------------------------------------------------------------


def _upper(name: str) -> str:
    return name.upper().replace("-", "_")


def _servers(named: Table) -> dict[str, Server]:
    found: dict[str, Server] = {}
    taken: dict[str, str] = {}
    for name in named.values:
        if not _NAME.fullmatch(name):
            raise named.error(
                f"{name[:40]!r} cannot be the name of a server: 1 to 32 letters, digits, - and _, a letter first."
            )
        other = taken.setdefault(_upper(name), name)
        if other != name:
            raise named.error(
                f"{other} and {name} are one name: both have the variable MEDSAM_{_upper(name)}_PASSWORD."
            )
        table = named.table(name)
        if table is not None:
            found[name] = _server(name, table)
    return found


def _server(name: str, table: Table) -> Server:
    certificates = Certificates(table.path("ca"), table.path("cert"), table.path("key"))
    if certificates.key is not None and certificates.cert is None:
        raise table.error("`key` is the key of a certificate, and there is no `cert`.")
    url, dimse, user = _dicomweb(table), _dimse(table), table.text("user")
    timeout_s = table.number("timeout_s", 1, 3600)
    table.end()
    if url is None and dimse is None:
        raise table.error("it needs `dicomweb`, or `host`, `port` and `called_aet`.")
    if user is not None and url is None:
        raise table.error("`user` belongs to `dicomweb`, which is not there; DIMSE knows no users.")
    if user is not None and ":" in user:
        raise table.error("`user` holds a colon: in HTTP it ends where the password begins, which is not kept here.")
    server = Server(name, url, dimse, certificates, user, TIMEOUT_S if timeout_s is None else timeout_s)
    if user is not None:
        check_private(server)
    return server


def _dicomweb(table: Table) -> str | None:
    url = table.text("dicomweb")
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise table.error("`dicomweb` is no address: its host or port cannot be read.") from None
    if parts.scheme not in ("http", "https") or not host or not _HOST.fullmatch(host):
        raise table.error("`dicomweb` must be an address: https://HOST[:PORT]/PATH.")
    if parts.username is not None or parts.password is not None:
        raise table.error("`dicomweb` holds a user or a password. Use `user`, and the environment or the keyring.")
    if parts.query or parts.fragment or any(char.isspace() for char in url):
        raise table.error("`dicomweb` is the root of the services: no ?, # or blanks in it.")
    return url.rstrip("/")


def _dimse(table: Table) -> Dimse | None:
    host, port, called = table.text("host"), table.whole("port", 1, 65535), table.aet("called_aet")
    aet, tls = table.aet("aet"), table.flag("tls")
    if host is None and port is None and called is None:
        if aet is not None or tls:
            raise table.error("`aet` and `tls` belong to `host`, `port` and `called_aet`, which are not there.")
        return None
    if host is None or port is None or called is None:
        raise table.error("DIMSE needs all three of `host`, `port` and `called_aet`.")
    if not _HOST.fullmatch(host):
        raise table.error("`host` must be a name or an address, without port or path.")
    return Dimse(host, port, called, aet or "MEDSAM", tls)


# -- secrets ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Credentials:
    """What a server wants to see: user and password, or a token (Bearer). Never printed, logged or kept."""

    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)


def credentials(server: Server) -> Credentials | None:
    """What to send a server over DICOMweb: a token, or the password of its `user`; None when it has neither.

    Looked up in the environment, then in the keyring. Raises InputError when there is a user without a password, and
    when credentials would go over a network unencrypted.
    """
    token = _secret(server, "TOKEN")
    if token:
        check_private(server)
        return Credentials(token=token)
    if server.user is None:
        return None
    password = _secret(server, "PASSWORD")
    if not password:
        raise InputError(
            f"Server {server.name} has a `user` in the settings file, and there is no password. Set "
            f"{server.variable('PASSWORD')} in the environment, or store it in the keyring: medsam pacs login "
            f"{server.name}."
        )
    check_private(server)
    return Credentials(user=server.user, password=password)


def check_private(server: Server) -> None:
    """Raise InputError when what is sent to a server's DICOMweb could be read on the way."""
    parts = urlsplit(server.dicomweb or "")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise InputError(
            f"Server {server.name}: `dicomweb` is http://, so its password or token would go over the network for "
            "anyone to read. Use https://."
        )


def store_secret(server: Server, secret: str, *, token: bool = False) -> None:
    """Keep a password or token in the system's keyring. Raises InputError when there is none."""
    check_private(server)
    keyring = _keyring()
    try:
        keyring.set_password(_service(server), _account(server, "TOKEN" if token else "PASSWORD"), secret)
    # backends raise what they like; their texts may hold what was to be stored
    except Exception as error:
        raise _no_keyring(server, "TOKEN" if token else "PASSWORD", error) from None


def forget_secrets(server: Server) -> int:
    """Remove the password and the token of a server from the keyring; how many there were. Raises InputError."""
    keyring, removed = _keyring(), 0
    for what in ("PASSWORD", "TOKEN"):
        try:
            if keyring.get_password(_service(server), _account(server, what)) is not None:
                keyring.delete_password(_service(server), _account(server, what))
                removed += 1
        except Exception as error:
            raise _no_keyring(server, what, error) from None
    return removed


def secret_source(server: Server) -> str:
    """Where the credentials come from, for people: "environment", "keyring", "none"."""
    for what in ("TOKEN", "PASSWORD"):
        if os.environ.get(server.variable(what)):
            return "environment"
        if _from_keyring(server, what):
            return "keyring"
    return "none"


def _secret(server: Server, what: str) -> str | None:
    secret = os.environ.get(server.variable(what)) or _from_keyring(server, what)
    if secret and any(ord(char) < 32 for char in secret):
        raise InputError(
            f"{server.variable(what)} (or its entry in the keyring) holds a line end or control character."
        )
    return secret


def _service(server: Server) -> str:
    return f"medsam {server.name}"


def _account(server: Server, what: str) -> str:
    return f"user {server.user or ''}" if what == "PASSWORD" else "token"


def _from_keyring(server: Server, what: str) -> str | None:
    """From the keyring; None also where there is none, as on most servers."""
    try:
        import keyring

        found = keyring.get_password(_service(server), _account(server, what))
    except Exception:
        return None
    return found or None


def _keyring() -> Any:
    try:
        import keyring
    except ModuleNotFoundError:
        raise InputError("The keyring needs the package keyring: pip install 'medsam-framework[pacs]'.") from None
    return keyring


def _no_keyring(server: Server, what: str, error: Exception) -> InputError:
    return InputError(
        f"The keyring of this system cannot be used ({type(error).__name__}). Set {server.variable(what)} in the "
        "environment instead."
    )
