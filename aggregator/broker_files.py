"""Settings and access list for Debian's Mosquitto."""

from pathlib import Path
from typing import Final

_SETTINGS: Final = """# Mosquitto for the fleet {fleet}: TLS with client certificates, one access list.
# Made by `tasuki gateway init`.
# Copy the folders tls/ and mosquitto/ to the broker; start it with: mosquitto -c mosquitto/mosquitto.conf
listener {port}
cafile {folder}/tls/ca.crt
certfile {folder}/tls/broker.crt
keyfile {folder}/tls/broker.key
# `tasuki gateway revoke` writes it anew; SIGHUP makes Mosquitto read it.
crlfile {folder}/tls/revoked.crl
require_certificate true
use_identity_as_username true
# A session is its certificate's: nobody takes another one's.
use_username_as_clientid true
allow_anonymous false
acl_file {folder}/mosquitto/acl

persistence true
persistence_location {folder}/mosquitto/
# A device that is away for long must not lose what waits for it.
max_queued_messages 0
max_queued_bytes 67108864
persistent_client_expiration 2m
# Told to clients, who then send in parts what is larger.
max_packet_size 1049600
"""
_ACCESS: Final = """# A device writes to topics of its own name only, and reads its own receipts and what is for all.
pattern write tasuki/{fleet}/up/%u
pattern write tasuki/{fleet}/up/%u/#
pattern write tasuki/{fleet}/join/%u
pattern write tasuki/{fleet}/status/%u
pattern read tasuki/{fleet}/receipt/%u
pattern read tasuki/{fleet}/adapter
pattern read tasuki/{fleet}/adapter/#
pattern read tasuki/{fleet}/record

user gateway
topic read tasuki/{fleet}/up/#
topic read tasuki/{fleet}/join/+
topic read tasuki/{fleet}/status/+
topic write tasuki/{fleet}/receipt/+
topic write tasuki/{fleet}/adapter
topic write tasuki/{fleet}/adapter/#
topic write tasuki/{fleet}/record
"""


def write(folder: Path, fleet: str, port: int) -> None:
    """`mosquitto/mosquitto.conf` and `mosquitto/acl` in the gateway's `folder`."""
    words = {"fleet": fleet, "folder": folder.resolve(), "port": port}
    (folder / "mosquitto" / "mosquitto.conf").write_text(_SETTINGS.format(**words))
    (folder / "mosquitto" / "acl").write_text(_ACCESS.format(**words))
    (folder / "mosquitto" / "acl").chmod(0o600)
