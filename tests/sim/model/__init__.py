"""The quorum's specification, executable: which transitions a replica may make (scenario 26).

Written from the Raft paper and thesis, KIP-595, 630, 853, 996 and docs/architecture.md, beside the
core and without its code. It says what may happen, not what must, and knows no time.

    votes     epochs, votes, elections          lives     restarts, lost disks
    logs      appends, cuts, installs, fsyncs   commits   the high watermark, claims, reads
    members   who votes

    terms     the words: a replica, what befalls it, what it says and does
    heard     what it has heard in its epoch, from messages alone
    allowed   the front door: (before, cause, after, deeds) → None, or why not

    reading   the adapter: the core's values in the model's words
    witness   one replica's steps, over all its lives; both simulators have one for each
    alone     which planted bugs it sees when everybody else is silent
    search    every order of everything that can befall two or three real cores, in a small world
    tiny      one of these cores, its disk, and what may befall it
"""
