"""Looking at runs and requests from outside: recompute, compare, check before and after.

Import from the single files: checking a request or a finished run needs no deep-learning library, and the
doctor does.
"""
