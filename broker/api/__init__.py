"""The Kafka APIs that a broker answers: one file an API or a family, message in, message out.

    listener ──▶ registry ──▶ handle(services, context, request) ──▶ response, now or later
                                  │                    │
              metadata image ◀────┼──────▶ replicas    └──▶ the active controller, for changes

A handler answers at once where it can, and then costs no task; where it must wait it returns an
awaitable. What it knows of this broker stands in `BrokerServices`, what it knows of the client in
`RequestContext`; both are in `context`. Changes go to the active controller, and are answered once
this broker's own image has them, so that a client reads what it wrote.
"""
