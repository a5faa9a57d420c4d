"""Consensus as a function: tables, conversations, and a small world that shakes it."""
