"""`python -m klamm.cli` is `klamm`."""

from klamm.cli.app import main

main()
