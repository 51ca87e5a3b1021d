"""The command line: parsing and printing only. What the verbs do is done by ``client``, ``worker``, ``server`` and ``agent``.

Every module here imports what is heavy inside the functions that need it, so that ``--help`` answers at once.
"""
