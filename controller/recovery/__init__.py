"""When a majority of the voters is lost for good: one surviving log becomes a new generation.

    survey      what stands in each surviving directory; changes nothing
    compare     whose log is the best, where the others part from it, what may be lost
    generation  the best log's state as a snapshot far above all: what the new one begins with
    replayed    the state that a survivor's disk comes to
    restore     a backup, or a snapshot's file, becomes the state of a new directory
    raised      the same state, with no number in it that may have been given out since

Offline: the directories' locks are held, so no controller runs in them (kraft.md 7.2).
"""
