"""Stands in for a node: reads its configuration, serves /readyz, ends on SIGTERM.

A broker with broker.rack=broken in its configuration fails, as a node with a bad disk would.
A node in whose directory a file NOT-READY lies is not, for the reason that stands in it.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from klamm.config.properties import read_properties
from klamm.telemetry.http import HealthServer, Pages


async def main(keys: dict[str, str]) -> None:
    def not_ready() -> list[str]:
        return [reason.read_text()] if reason.exists() else []

    reason = Path("NOT-READY")
    if keys["process.roles"] == "broker" and keys["broker.rack"] == "broken":
        sys.exit("the disk is broken")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    pages = Pages(
        not_alive=list, not_ready=not_ready, metrics=bytes, metrics_content_type="text/plain"
    )
    await HealthServer(pages).start(keys["klamm.http.host"], int(keys["klamm.http.port"]))
    print("serving", keys["node.id"], os.environ.get("KAFKA_NODE_ID"), flush=True)
    await stop.wait()
    print("stopped in order", flush=True)


if __name__ == "__main__":
    text = Path(sys.argv[1]).read_text()
    asyncio.run(main({each.key: each.value for each in read_properties(text)}))
