"""Fuzzers of everything that reads bytes of a peer or a disk; the unit tests run each for a moment.

    python -m tests.fuzz --target all --inputs 1000000 --seed 7
    python -m tests.fuzz --target log_files --engine coverage --inputs 1000000

target.py     what a target is            growth.py     valid inputs
mutation.py   spoilt ones                 corpus/       inputs that once broke something
"""
