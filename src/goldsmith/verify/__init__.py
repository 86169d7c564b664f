"""Proving an image on a guest that was made from it: built-in checks of its hygiene, and the user's own tests.

It works on guests that run and let root in, over SSH or through their node. It never makes, starts or removes one, and
stores nothing.

    subject     open_subject                          the guest's shell, whichever way leads there
    settle      wait_settled                          has it come up?
    hygiene     make_policy, run_hygiene              the built-in checks, on one guest or two
    session     collect_groups, run_session           images/NAME/tests/test_*.py, each session a process of its own
    goss        has_goss, run_goss                    images/NAME/tests/goss.yaml
    outcome     Outcome, Portrait, Verdict            what it came to
    document    render_verdict, parse_verdict         as JSON
    junit, page render_junit, render_html             for CI systems, and for people
"""
