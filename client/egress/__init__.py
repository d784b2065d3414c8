"""The door: rules, gate, hash-chained audit log.  It knows `common` and nothing else of the hospital."""
