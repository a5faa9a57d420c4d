"""Voters in one heap of events: the pure core under crashes, cuts, loss, and lying tails.

faults.py      what may go wrong, drawn per seed (swarm), and the focused profiles
disk.py        one voter's disk: what is durable, what a crash may take
node.py        one voter: carries out the core's effects, as the real shell must
network.py     delays, losses, repeats, cuts; streams that keep order and break
invariants.py  what must hold after every step, whoever broke what
world.py       all of it, driven by one seed
mutants.py     planted bugs: each must be caught
"""
