"""Copies of everything a hub keeps, and hubs made from them.

::

    layout     what a backup looks like on disk, and its checksums
    databases  copying SQLite and PostgreSQL
    make       a backup of a hub, which may run meanwhile
    restore    a hub from a backup, in an empty place

A backup is a directory::

    manifest.json        what it is; written last, so a backup without one is not whole
    SHA256SUMS           of every other file, for `sha256sum --check` as well
    database.sqlite      or database.dump, of pg_dump
    secret.key           where the hub has one
    objects/ab/abcd…     files by their SHA-256
    spool/…              inputs and results that are not in the database

Environments are not in it: what they are made from is, and a hub builds one again when it is needed.
"""
