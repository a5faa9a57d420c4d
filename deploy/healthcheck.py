"""Ends with 0 if the node in this container is ready; else says why and ends with 1."""

import os
import socket
import sys

TIMEOUT_S = 2.0


def main() -> int:
    port = int(os.environ.get("KAFKA_KLAMM_HTTP_PORT", "9464"))
    try:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
            connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b"".join(iter(lambda: connection.recv(65_536), b"")).decode()
    except OSError as error:
        sys.stdout.write(f"no answer: {error}\n")
        return 1
    sys.stdout.write(answer.partition("\r\n\r\n")[2])
    return 0 if answer.startswith("HTTP/1.1 200 ") else 1


if __name__ == "__main__":
    sys.exit(main())
