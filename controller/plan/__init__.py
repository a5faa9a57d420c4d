"""Decisions: an image and a request in, records and results out. Pure.

    decide(view, request, chance) ──▶ Decision(records, results) ──▶ the log ──▶ replay, everywhere

    ledger       committed and pending: one immutable view, two names     (holdings: its index)
    brokers      register, fence, unfence, controlled shutdown
    election     who leads a partition; what follows when brokers go or come
    isr          AlterPartition
    topics       create, delete               placement     where replicas go
    configs      incremental alterations      names         which are legal, which collide
    producer_ids blocks of a thousand

A decision changes nothing: `klamm.metadata.delta` alone knows what a record means. No clock and no
chance here but what is given as an argument.
"""
