"""Asks a node whether it is ready: one GET of /readyz, without a library."""

import asyncio
import json

ANSWER_BYTES_MAX = 65_536
TIMEOUT_S = 1.0


async def not_ready(host: str, port: int) -> tuple[str, ...]:
    """Why the node at host:port is not ready; empty if it is."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return _reasons(await _get(host, port, "/readyz?format=json"))
    except (OSError, TimeoutError):
        return ("it does not answer",)
    except ValueError:
        return ("it answers with something else than Klamm would",)


async def _get(host: str, port: int, target: str) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET {target} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        await writer.drain()
        answer = await reader.read(ANSWER_BYTES_MAX)
        while chunk := await reader.read(ANSWER_BYTES_MAX):
            answer += chunk
            if len(answer) > ANSWER_BYTES_MAX:
                raise ValueError("the answer is too long")
    finally:
        writer.close()
    return answer.partition(b"\r\n\r\n")[2]


def _reasons(body: bytes) -> tuple[str, ...]:
    answer = json.loads(body)
    if not isinstance(answer, dict) or not isinstance(answer.get("reasons"), list):
        raise ValueError("no answer of /readyz")
    return tuple(str(each) for each in answer["reasons"])
