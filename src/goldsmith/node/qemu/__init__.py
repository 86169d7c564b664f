"""Virtual machines of the embedded node: their options, their disks, QEMU's command line, its monitor, the guest agent.

It runs QEMU as Debian has it; what of Proxmox's options it cannot do is refused (`options`), never passed over.
"""
