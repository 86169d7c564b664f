"""From a folder under `images/` to a version in the repository: plan the steps, carry them out, undo them.

`plan.py` decides and is pure; `run.py` does; each step has a file under `actions/`: how it is done and undone.
"""
