"""Where the weights of an open_clip tag are: in a local cache, on a reachable host, or nowhere in time.

Offline, the hub's client retries for 46 s before it gives up; a TCP connection with a short limit asks first.
"""

from __future__ import annotations

import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cm_server.encoders.base import EncoderError

CONNECT_SECONDS = 3.0
_HUB_DEFAULTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def cached_weights(config: Mapping[str, Any]) -> Path | None:
    """Return the cached weights file of a tag's configuration (as open_clip lists it); None if there is none.

    Looks into the hub's cache (safetensors first) and, for plain addresses, into ``~/.cache/clip``. No network.
    """
    from huggingface_hub import try_to_load_from_cache

    for repository, file in _hub_files(config.get("hf_hub", "")):
        found = try_to_load_from_cache(repository, file)
        if isinstance(found, str):
            return Path(found)
    file = Path("~/.cache/clip").expanduser() / Path(urllib.parse.urlparse(config.get("url", "")).path).name
    return file if config.get("url") and file.is_file() else None


def _hub_files(entry: str) -> Iterator[tuple[str, str]]:
    """Yield (repository, file) candidates of ``owner/name/file`` or ``owner/name/``, safetensors before pickles."""
    repository, _, file = entry.rpartition("/")
    if not repository:
        return
    if not file:
        yield from ((repository, default) for default in _HUB_DEFAULTS)
        return
    if file.endswith((".bin", ".pth")):
        yield repository, file[:-4] + ".safetensors"
    yield repository, file


def download_weights(config: Mapping[str, Any], what: str, seconds: float = CONNECT_SECONDS) -> Path:
    """Fetch a tag's weights with open_clip's own downloader, once its host has answered within the limit.

    Raises:
        EncoderError: If the host does not answer in time, or the download fails.
    """
    from open_clip.pretrained import download_pretrained

    address = _address(config)
    require_host(address, what, seconds)
    try:
        return Path(download_pretrained(dict(config)))
    except Exception as error:  # Hub, network and disk errors share no base class.
        raise EncoderError(f"download of {what} from {address} failed ({_first_line(error)}); {_cure()}") from error


def require_host(address: str, what: str, seconds: float = CONNECT_SECONDS) -> None:
    """Check that a host accepts a TCP connection (through the proxy, where one is set) within the limit.

    Raises:
        EncoderError: If it does not, or the hub is switched off by HF_HUB_OFFLINE.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE and address == constants.ENDPOINT:
        raise EncoderError(f"{what} is not cached and HF_HUB_OFFLINE forbids to fetch it; unset it, or {_cure()}")
    target = urllib.parse.urlparse(_proxied(address))
    if not host_answers(target.hostname or "", target.port or (80 if target.scheme == "http" else 443), seconds):
        raise EncoderError(f"{what} is not cached and {address} does not answer within {seconds:g} s; {_cure()}")


def host_answers(host: str, port: int, seconds: float) -> bool:
    """Whether a TCP connection succeeds in time; name resolution, which knows no limit of its own, is counted in."""
    answered = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=seconds).close()
        except OSError:
            return
        answered.set()

    attempt = threading.Thread(target=connect, name="cm-reach", daemon=True)
    attempt.start()
    attempt.join(seconds)
    return answered.is_set()


def hub_address() -> str:
    """Return the address of the hub that huggingface_hub would ask."""
    from huggingface_hub import constants

    return constants.ENDPOINT


def _address(config: Mapping[str, Any]) -> str:
    """Return the address that open_clip would ask: the hub where the tag is there, else the plain address."""
    return hub_address() if config.get("hf_hub") else str(config.get("url", ""))


def _proxied(address: str) -> str:
    """Return the proxy's address where the environment sets one for this host, else the address itself."""
    target = urllib.parse.urlparse(address)
    proxy = urllib.request.getproxies().get(target.scheme)
    if not proxy or urllib.request.proxy_bypass(target.hostname or ""):
        return address
    return proxy if "://" in proxy else f"http://{proxy}"


def _first_line(error: Exception) -> str:
    """Return the first line of an error's text, or its type where it has none."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _cure() -> str:
    return "give a local checkpoint (open_clip:MODEL/FILE.safetensors) or use --encoder conse"
