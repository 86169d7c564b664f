"""Programs in a container through its console, as the API gives it: without a network, ssh, or a shell on the node.

    `run`, or Ansible's plugin - unix socket - `owner` - websocket - console - far_end.sh - program in the guest

One owner, a thread of ours, holds the console's websocket and nobody else the secrets; it serves a socket that only we
can reach. `terminal` speaks the console's protocol, `session` and far_end.sh make of one terminal many programs at a
time, binary-safe, `wire` is how the owner is talked to. It never decides what is run.
"""
