"""The shell around consensus: real driver, real gRPC on loopback, real files in a directory."""
