"""`python -m broker [server.properties] [--override key=value]…`"""

import os
import sys


def main() -> int:
    """Runs until SIGTERM. Returns the exit code."""
    # Before the first import of gRPC: its own lines on stderr help nobody.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from broker.app import serve
    from klamm import node
    from klamm.config.load import load_broker

    return node.main("broker", sys.argv[1:], load_broker, serve)


if __name__ == "__main__":
    sys.exit(main())
