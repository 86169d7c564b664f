"""What of an image need not be built again: keys of layers, and finished layers that are kept on the node.

A layer's key is a digest over everything that can change it, the key of the layer before included. A finished layer is
a snapshot of a stopped guest of ours, or a backup of it where its storage makes no snapshots; either tells its key. The
node itself says which there are, to every machine that builds on it.
"""
