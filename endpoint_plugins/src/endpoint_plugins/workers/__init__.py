"""The workers of a user endpoint: Globus Compute's engines over Parsl, with blocks that we look after.

::

    pool        `EngineWorkers`: what the agent sees; tends calls and blocks on its event loop
    calls       calls under way, each answered once
    scaling     how many blocks there should be
    blocks      what is known of each block
    patience    how often a scheduler that gives none is asked
    session     one start: lifeline, keeper, job book, scheduler, engine; everything that blocks
    engine      the interchange and the blocks' command; `engines` is Globus Compute's with our sending
    jobbook     which jobs there are, on disk; `keeper` ends them when the agent is gone
    schedulers  what each scheduler says of jobs, and how it ends them
"""
