"""The fleet: servers that run from images. Deciding what has to be done for each, and replacing them, data kept.

`plan` is pure and asks for a handful of calls' worth of facts. A replacement is a list of goals (`goals`), each of
which looks at the node first and does what is missing: so the same list, begun again, finishes what a killed run has
left, and its counterpart undoes it. What is going on is written down on the node itself (`marks`), where another
operator finds it. Nothing here prints; nothing here destroys a guest that still owns data.
"""
