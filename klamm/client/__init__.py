"""The way to the controllers, for brokers and for people.

    ControllerClient ── calls ──▶ Controllers ── who leads? ──▶ any controller (FindController)
         │                             │
         │                        node.py: a channel and its stubs, one per address
         │
         ├─ changes, sessions   to the active controller; what is definite is tried again
         └─ queries, Watch      to any; another is asked when one is gone

A refusal that names the leader is followed at once. When the leader's connection breaks, all
controllers are asked together who leads *after* its epoch, and hold the answer until one does: the
next leader is known a round trip after its election, and nobody polls.
"""
