"""One user's turns: order, once-only, retries, merging and replay as one record for each user and one state machine.

A user's inbox in Redis holds the open messages in order of acceptance, with their bodies. A delivery from RabbitMQ is a
permit to work on its user's inbox until its own message has ended. Whoever holds a permit works on what comes first,
whichever message that is. `state` has the record and the answers, `machine` the calls. See docs/decisions/0017.
"""
