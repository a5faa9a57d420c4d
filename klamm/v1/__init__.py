"""Generated from `proto/klamm/v1` by `make proto`; not written by hand, and checked by a test.

The path is the proto package's own, so protoc's imports need no rewriting.
"""
