"""Transfer: brings data in and out. Moving a record with its files from one place to another."""
