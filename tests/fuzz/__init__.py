"""Fuzzers that run as long as one likes; the unit tests run each of them for a moment.

python -m tests.fuzz.kafka_codec --inputs 1000000 --seed 7
"""
