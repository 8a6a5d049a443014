"""Tasks: the durable ledger of every accepted call, from submission to its one final record."""
