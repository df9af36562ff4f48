"""A service: a line on a Unix socket is answered with a line of JSON; `text<TAB>label` teaches; it syncs by itself.

python examples/service/service.py lamp.tflite     # then: echo 'lights on' | nc -UN /run/tasuki/socket
"""

import asyncio
import json
import os
import sys

from tasuki.sdk import Device, Limits, TasukiError

limits = Limits(disk=8 << 20, bytes_per_day=100_000)
device = Device.open(sys.argv[1], os.environ.get("STATE_DIRECTORY", "state"), limits=limits)


async def answer(lines: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
    async for line in lines:
        text, _, label = line.decode("utf-8", "replace").rstrip("\n").partition("\t")
        try:
            if label:
                await asyncio.to_thread(device.learn, text, label, new_label=True)
            found = device.predict(text)._asdict()
        except TasukiError as error:
            found = {"error": str(error)}
        out.write(json.dumps(found).encode() + b"\n")


async def main() -> None:
    server = await asyncio.start_unix_server(answer, os.environ.get("RUNTIME_DIRECTORY", "/run/tasuki") + "/socket")
    async with device.online(every=3600.0), server:
        await server.serve_forever()


with device:
    asyncio.run(main())
