"""Testing a stored version: fresh guests are made from it, looked at, and removed; the verdict joins the version.

Verify knows how to look at guests; here they are made for it, as many at once as the node bears. Nothing here touches
the guest in which the version was built, or a guest that is not of this trial.
"""
