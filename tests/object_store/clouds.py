"""Object stores for tests that stand for those of Google and Microsoft; `make stores` installs them.

- azurite is Microsoft's own emulator of Azure Blob Storage. It checks signatures, and keeps its objects in memory here.
- No emulator of Google Cloud Storage that a registry has speaks the XML protocol of obstore, which is that of S3 with
  other names of headers: gcp-storage-emulator answers 501 to a list and to HEAD, and fake-gcs-server answers 400 to
  PUT. So moto stands for it, with its headers renamed (`gcs_server.py`). It takes any bearer token.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

from tests.object_store.servers import BUCKET, NODE, STORES, Moto, Server
from tests.waiting import HANG_SECS

ACCOUNT = "esper"


class Gcs(Moto):
    """The server of moto, with the headers of Google Cloud Storage."""

    scheme = "gs"

    def variables(self, endpoint: str | None = None) -> dict[str, str]:
        """See `Server`."""
        return {"GOOGLE_BASE_URL": endpoint or self.endpoint, "GOOGLE_BEARER_TOKEN": self.secret}

    def _command(self) -> list[str]:
        script = Path(__file__).with_name("gcs_server.py")
        return [str(STORES / "moto/bin/python"), str(script), str(self.port)]


class Azurite(Server):
    """The emulator azurite. Its secret is the key of the account."""

    scheme = "az"
    honours_create = True
    keeps_objects = False

    def variables(self, endpoint: str | None = None) -> dict[str, str]:
        """See `Server`."""
        return {
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": self.secret,
            "AZURE_STORAGE_ENDPOINT": f"{endpoint or self.endpoint}/{ACCOUNT}",
        }

    def _command(self) -> list[str]:
        script = STORES / "azurite/node_modules/azurite/dist/src/blob/main.js"
        options = ["--silent", "--disableTelemetry", "--skipApiVersionCheck", "--inMemoryPersistence"]
        address = ["--blobHost", "127.0.0.1", "--blobPort", str(self.port)]
        return ["env", f"AZURITE_ACCOUNTS={ACCOUNT}:{self.secret}", NODE, str(script), *address, *options]

    def _make_bucket(self) -> None:
        headers = {"x-ms-date": datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT"), "x-ms-version": "2021-08-06"}
        lines = [f"{name}:{value}" for name, value in headers.items()]
        signed = "\n".join(["PUT", *[""] * 11, *lines, f"/{ACCOUNT}/{ACCOUNT}/{BUCKET}", "restype:container"])
        digest = hmac.digest(base64.b64decode(self.secret), signed.encode(), hashlib.sha256)
        headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
        url = f"{self.endpoint}/{ACCOUNT}/{BUCKET}?restype=container"
        with urllib.request.urlopen(urllib.request.Request(url, method="PUT", headers=headers), timeout=HANG_SECS):
            pass


CLOUDS: dict[str, type[Server]] = {"azurite": Azurite, "gcs": Gcs}
"""The servers of other protocols, by their names."""
