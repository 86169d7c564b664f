"""Programs in a guest, as the API gives a way: without a network, ssh, or a shell on the node.

    `run`, or Ansible's plugin - unix socket - `owner` - websocket - console - far_end.sh - program in a container
                                                       - guest agent - pipes - far_end.sh - program in a virtual machine

One owner, a thread of ours, holds the way and nobody else the secrets; it serves a socket that only we can reach.
`terminal` speaks the console's protocol, `agent` the guest agent's; `session` and far_end.sh make of one line many
programs at a time, binary-safe; `wire` is how the owner is talked to. It never decides what is run.
"""
