"""Real controllers, each in a network of its own, under faults; and a judge of what clients saw.

    Trial ── Network      one namespace a controller, a bridge; cuts and loss by nft or iptables
          ── Controllers  the processes: started, paused, killed
          ── Clients      write and read over gRPC, and write down what happened  ──▶ history
          ── Nemesis      one fault after the other, from a seed
          ── judge        the history against the log that the controllers have in the end

The clients stay in the root namespace, with an address on the bridge.
"""
