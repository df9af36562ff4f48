"""A service: each line on a Unix socket is answered with a line of JSON; `text<TAB>label` teaches.

python examples/service/service.py lamp.tflite     # then: echo 'lights on' | nc -UN /run/tasuki/socket
"""

import asyncio
import json
import os
import sys

from tasuki.sdk import Device, Limits, TasukiError


async def serve(device: Device, socket: str) -> None:
    async def answer(lines: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        async for line in lines:
            text, _, label = line.decode("utf-8", "replace").rstrip("\n").partition("\t")
            try:
                if label:
                    await asyncio.to_thread(device.learn, text, label, new_label=True)
                found = (await asyncio.to_thread(device.predict, text))._asdict()
            except TasukiError as error:
                found = {"error": str(error)}
            out.write(json.dumps(found).encode() + b"\n")
        out.close()

    async with device.online(every=3600.0), await asyncio.start_unix_server(answer, socket) as server:
        await server.serve_forever()


limits = Limits(disk=8 << 20, bytes_per_day=100_000)
with Device.open(sys.argv[1], state=os.environ.get("STATE_DIRECTORY", "state"), limits=limits) as opened:
    asyncio.run(serve(opened, os.environ.get("RUNTIME_DIRECTORY", "/run/tasuki") + "/socket"))
