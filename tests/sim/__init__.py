"""The simulator: the real code under simulated time, chance, network and disk.

loop.py      an event loop whose clock jumps to the next timer, and whose nodes can be cut dead
disk.py      files in memory that lose what was not synced
"""
